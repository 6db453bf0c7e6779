//! Webhooks as the API tells them.

use serde::{Deserialize, Serialize};

/// A webhook to add.
#[derive(Debug, Serialize)]
pub(crate) struct NewWebhook {
    pub(crate) url: String,
    /// That http to another machine is meant.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) allow_http: bool,
    /// None: all.
    pub(crate) events: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) product: Option<String>,
}

/// A webhook.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Webhook {
    pub(crate) id: String,
    pub(crate) url: String,
    pub(crate) events: Vec<String>,
    /// The one product that it is about.
    pub(crate) product: Option<String>,
    pub(crate) created_at: String,
}

/// A webhook in the list.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ListedWebhook {
    #[serde(flatten)]
    pub(crate) webhook: Webhook,
    /// How much is still to be sent to it.
    pub(crate) waiting: u64,
    /// When the next of it is tried.
    pub(crate) next_try_at: Option<String>,
}

/// A webhook that was added, with what is shown once.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct CreatedWebhook {
    #[serde(flatten)]
    pub(crate) webhook: Webhook,
    pub(crate) secret: String,
}

/// Something that was sent to a webhook, or is to be.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Delivery {
    pub(crate) id: String,
    pub(crate) event: String,
    pub(crate) at: String,
    /// `waiting`, `delivered` or `failed`.
    pub(crate) state: String,
    pub(crate) tries: i64,
    pub(crate) next_try_at: Option<String>,
    pub(crate) status: Option<i64>,
    pub(crate) error: Option<String>,
}
