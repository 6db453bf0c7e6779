//! Devices by what they run and by health, now and over time.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::IntoParams))]
#[cfg_attr(feature = "openapi", into_params(parameter_in = Query))]
#[serde(default)]
pub struct SummaryParams {
    /// Only devices of this product.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub product: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::IntoParams))]
#[cfg_attr(feature = "openapi", into_params(parameter_in = Query))]
#[serde(default)]
pub struct HistoryParams {
    /// Only devices of this product.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub product: String,
    /// A time (RFC 3339) within the last 90 days; a day ago when it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", param(format = DateTime))]
    pub since: Option<String>,
}

/// The fleet as it is now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Summary {
    pub devices: i64,
    /// Devices by health: `new` (never seen), `ok`, `updating`, `failing`, `crashing`, `silent`, `unheard`, `suspended`,
    /// `revoked`.
    pub by_health: BTreeMap<String, i64>,
    pub by_release: Vec<ByRelease>,
    /// Ids of rollouts that are running, awaiting approval, paused or halted.
    pub active_rollouts: Vec<String>,
    /// Devices that were seen within the last 24 hours.
    pub seen_last_24h: i64,
    #[serde(default)]
    pub certificates: Certificates,
}

/// Devices whose certificate asks for a look; revoked and suspended ones left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Certificates {
    /// Theirs has ended: they were off, or their application ran without a reset. They renew it when they come.
    pub ended: i64,
    /// Theirs ends within 30 days.
    pub ending: i64,
    /// They came with one that had ended, were refused, and have got no other since.
    pub refused: i64,
}

/// The fleet over time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct History {
    pub samples: Vec<Sample>,
}

/// The fleet at one time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Sample {
    #[cfg_attr(feature = "openapi", schema(format = DateTime))]
    pub at: String,
    pub by_health: BTreeMap<String, i64>,
    pub by_release: Vec<ByRelease>,
}

/// Devices that run a release.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ByRelease {
    pub product: String,
    /// Null for devices that run nothing that is known.
    pub sequence: Option<i64>,
    /// Null when no release of the product has this number.
    pub version: Option<String>,
    pub devices: i64,
}
