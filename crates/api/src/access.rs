//! API tokens, their roles, and the sessions of browsers.

use serde::{Deserialize, Serialize};

use crate::names::named;

/// What the bearer of an API token may do. Everybody reads; only an admin reads and makes tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Reads.
    Viewer,
    /// Changes devices and rollouts.
    Operator,
    /// Uploads artifacts and publishes releases.
    Publisher,
    /// All of it, and products, channels, publisher keys and tokens.
    Admin,
}

named!(Role { Viewer = "viewer", Operator = "operator", Publisher = "publisher", Admin = "admin" });

impl Role {
    /// Whether this role is enough where `needed` is asked for.
    #[must_use]
    pub fn is_enough(self, needed: Self) -> bool {
        match needed {
            Self::Viewer => true,
            Self::Operator | Self::Publisher | Self::Admin => self == needed || self == Self::Admin,
        }
    }

    /// Devices and rollouts.
    #[must_use]
    pub fn operates(self) -> bool {
        self.is_enough(Self::Operator)
    }

    /// Products and tokens.
    #[must_use]
    pub fn administers(self) -> bool {
        self.is_enough(Self::Admin)
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Whoami {
    /// Id of the token.
    pub id: String,
    pub name: String,
    pub role: Role,
    /// The one product that the token is for.
    pub product: Option<String>,
    #[cfg_attr(feature = "openapi", schema(format = DateTime))]
    pub expires_at: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct NewApiToken {
    /// Whose it is, for people and for the audit log.
    #[cfg_attr(feature = "openapi", schema(min_length = 1, max_length = 64))]
    pub name: String,
    pub role: Role,
    /// The one product that it is to be for; without it, it is for all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub product: Option<String>,
    /// When it stops being good; without it, never.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(format = DateTime))]
    pub expires_at: Option<String>,
}

/// An API token. Itself it was shown once, when it was made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ApiToken {
    pub id: String,
    pub name: String,
    pub role: Role,
    pub product: Option<String>,
    #[cfg_attr(feature = "openapi", schema(format = DateTime))]
    pub created_at: String,
    #[cfg_attr(feature = "openapi", schema(format = DateTime))]
    pub expires_at: Option<String>,
    #[cfg_attr(feature = "openapi", schema(format = DateTime))]
    pub revoked_at: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CreatedToken {
    #[serde(flatten)]
    pub description: ApiToken,
    /// The token itself: it is not shown again.
    pub token: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct BegunSession {
    /// Stands for the API token in `Authorization: Bearer`; it is not shown again.
    pub secret: String,
    #[cfg_attr(feature = "openapi", schema(format = DateTime))]
    pub expires_at: String,
}
