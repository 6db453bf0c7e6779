//! Word of applications from a backend that hears them.

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct EvidenceBody {
    #[cfg_attr(feature = "openapi", schema(min_items = 1, max_items = 1000))]
    pub evidence: Vec<HeardEvidence>,
}

/// What a backend heard of the application of a device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct HeardEvidence {
    pub device: String,
    /// When the application was heard.
    #[cfg_attr(feature = "openapi", schema(format = DateTime))]
    pub alive_at: String,
    /// Why it is not well, if it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(min_length = 1, max_length = 200))]
    pub failure: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct EvidenceTaken {
    /// Of how many devices something new was counted.
    pub counted: usize,
    /// Of how many it was known already, or more is: nothing changed.
    pub unchanged: usize,
    /// Ids that no device has, or none that the token may see.
    pub unknown: Vec<String>,
    /// Devices of which it says nothing, and why.
    pub ignored: Vec<EvidenceIgnored>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct EvidenceIgnored {
    pub device: String,
    pub reason: String,
}
