//! The audit log.

use serde::{Deserialize, Serialize};
use serde_json::Value;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::IntoParams))]
#[cfg_attr(feature = "openapi", into_params(parameter_in = Query))]
#[serde(default)]
pub struct Filter {
    /// Id or name of the API token that made the change, or `server`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub actor: String,
    /// Kind of what was changed: `artifact`, `audit`, `ca`, `certificate`, `channel`, `device`, `evidence`, `product`,
    /// `publisher-key`, `release`, `rollout`, `token` or `webhook`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// Id of what was changed.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub subject: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub product: String,
    /// Only lines of this moment and later.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", param(value_type = Option<String>, format = DateTime))]
    pub since: Option<String>,
    /// Only lines before this moment.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", param(value_type = Option<String>, format = DateTime))]
    pub until: Option<String>,
}

/// A line of the audit log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Line {
    pub id: String,
    #[cfg_attr(feature = "openapi", schema(format = DateTime))]
    pub at: String,
    pub actor: Actor,
    /// Such as `rollout.abort`.
    pub action: String,
    /// Kind of what was changed.
    pub kind: String,
    /// Its id.
    pub subject: String,
    pub product: Option<String>,
    /// What was there; null when there was nothing.
    pub before: Option<Value>,
    /// What is there now.
    pub after: Option<Value>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Actor {
    /// Id of the API token; `server` for what the server does by itself.
    pub id: String,
    pub name: String,
}
