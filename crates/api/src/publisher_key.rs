//! Whose signatures a product trusts.

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct NewKey {
    /// For people, such as whose it is.
    #[cfg_attr(feature = "openapi", schema(min_length = 1, max_length = 64))]
    pub name: String,
    /// A compressed P-256 point (33 bytes, SEC 1 section 2.3.3) in hexadecimal.
    #[cfg_attr(feature = "openapi", schema(pattern = "^0[23][0-9a-fA-F]{64}$"))]
    pub key: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, deny_unknown_fields)]
pub struct RevokeKey {
    /// Revoke it although it is the last one: nothing can be published then.
    pub force: bool,
}

/// A publisher key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Key {
    pub name: String,
    pub key: String,
    /// What a signature names it by.
    pub id: String,
    #[cfg_attr(feature = "openapi", schema(format = DateTime))]
    pub created_at: String,
    #[cfg_attr(feature = "openapi", schema(format = DateTime))]
    pub revoked_at: Option<String>,
    /// Rollouts that bring devices what it signed, or may do so yet, newest first: a revocation ends none of them. In the list of
    /// a product's keys and in the answer to a revocation alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rollouts: Vec<String>,
}
