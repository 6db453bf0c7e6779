//! Why something was refused.

use serde::{Deserialize, Serialize};

/// Media type of problem details (RFC 9457 section 3).
pub const MEDIA_TYPE: &str = "application/problem+json";

/// How the types of Pitstop's own problems begin.
pub const URN: &str = "urn:pitstop:problem:";

/// Problem details (RFC 9457 section 3.1).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Problem {
    /// `urn:pitstop:problem:` and the kind of problem.
    #[cfg_attr(feature = "openapi", schema(examples("urn:pitstop:problem:not-found")))]
    pub r#type: String,
    /// A few words, the same for every problem of this kind.
    pub title: String,
    /// The status code of the answer.
    pub status: u16,
    /// What was expected, what was found, what to do.
    pub detail: String,
}

impl Problem {
    /// The kind of problem; `None` when it is none of Pitstop's own.
    #[must_use]
    pub fn kind(&self) -> Option<&str> {
        self.r#type.strip_prefix(URN)
    }
}
