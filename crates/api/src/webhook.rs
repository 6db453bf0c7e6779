//! Where a team's own backend is told what happens.

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct NewWebhook {
    /// `https://` or, for a backend on this machine, `http://`.
    #[cfg_attr(feature = "openapi", schema(max_length = 1000))]
    pub url: String,
    /// That a backend on another machine is meant to be told by `http://`: whoever is on the way reads what is sent. The
    /// signature shows whose it is, and hides nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub allow_http: bool,
    /// What it is told: `release.publish`, `rollout.start`, `rollout.open-wave`, `rollout.wait`,
    /// `rollout.await-approval`, `rollout.approve`, `rollout.pause`, `rollout.halt`, `rollout.resume`, `rollout.complete`,
    /// `rollout.abort`, `rollout.supersede`, `device.quarantine`, `device.suspect-clone`, `device.revoke`,
    /// `device.revoke-bulk`, `device.suspend`, `certificate.end`, `certificate.devices-end`; without it, all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<String>,
    /// The one product that it is about; without it, all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub product: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Webhook {
    pub id: String,
    pub url: String,
    pub events: Vec<String>,
    pub product: Option<String>,
    #[cfg_attr(feature = "openapi", schema(format = DateTime))]
    pub created_at: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ListedWebhook {
    #[serde(flatten)]
    pub webhook: Webhook,
    /// How much is still to be sent to it.
    pub waiting: i64,
    /// When the next of it is tried; null when there is none.
    #[cfg_attr(feature = "openapi", schema(format = DateTime))]
    pub next_try_at: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CreatedWebhook {
    #[serde(flatten)]
    pub webhook: Webhook,
    /// Signs what is sent (Standard Webhooks 1.0.0): it is not shown again.
    pub secret: String,
}

/// Something that was sent, or is to be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Delivery {
    /// As in the header `webhook-id`.
    pub id: String,
    pub event: String,
    /// When it happened.
    #[cfg_attr(feature = "openapi", schema(format = DateTime))]
    pub at: String,
    /// `waiting`, `delivered`, or `failed`: given up.
    pub state: String,
    pub tries: i64,
    /// When it is tried next; null when it is not.
    #[cfg_attr(feature = "openapi", schema(format = DateTime))]
    pub next_try_at: Option<String>,
    /// Status of the last answer; null when there was none.
    pub status: Option<i64>,
    /// Why the last try failed.
    pub error: Option<String>,
}
