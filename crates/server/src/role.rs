//! What the bearer of an API token may do.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What the bearer of an API token may do. Everybody reads; only an admin reads and makes tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Role {
    /// Reads.
    Viewer,
    /// Changes devices and rollouts.
    Operator,
    /// Uploads artifacts and publishes releases.
    Publisher,
    /// All of it, and products, channels, publisher keys and tokens.
    Admin,
}

impl Role {
    /// As it is stored, shown and written.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Publisher => "publisher",
            Self::Admin => "admin",
        }
    }

    /// Whether this role is enough where `needed` is asked for.
    pub(crate) fn is_enough(self, needed: Self) -> bool {
        match needed {
            Self::Viewer => true,
            Self::Operator | Self::Publisher | Self::Admin => self == needed || self == Self::Admin,
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A text that names no role.
#[derive(Debug, thiserror::Error)]
#[error("expected one of the roles viewer, operator, publisher, admin, found {0:?}")]
pub(crate) struct NoRole(String);

impl FromStr for Role {
    type Err = NoRole;

    fn from_str(text: &str) -> Result<Self, NoRole> {
        match text {
            "viewer" => Ok(Self::Viewer),
            "operator" => Ok(Self::Operator),
            "publisher" => Ok(Self::Publisher),
            "admin" => Ok(Self::Admin),
            other => Err(NoRole(other.to_owned())),
        }
    }
}
