//! API tokens and the audit log.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Whose token this is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Whoami {
    /// Id of the token.
    pub(crate) id: String,
    /// Whose it is.
    pub(crate) name: String,
    /// viewer, operator, publisher or admin.
    pub(crate) role: String,
    /// The one product that it is for.
    pub(crate) product: Option<String>,
    /// When it stops being good.
    pub(crate) expires_at: Option<String>,
}

/// A token to be made.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct NewApiToken {
    /// Whose it is.
    pub(crate) name: String,
    /// What it may do.
    pub(crate) role: String,
    /// The one product that it is to be for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) product: Option<String>,
    /// When it stops being good.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) expires_at: Option<String>,
}

/// An API token, without itself.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ApiToken {
    /// Its id.
    pub(crate) id: String,
    /// Whose it is.
    pub(crate) name: String,
    /// viewer, operator, publisher or admin.
    pub(crate) role: String,
    /// The one product that it is for.
    pub(crate) product: Option<String>,
    /// When it was made.
    pub(crate) created_at: String,
    /// When it stops being good.
    pub(crate) expires_at: Option<String>,
    /// When it was revoked.
    pub(crate) revoked_at: Option<String>,
}

/// A token that was made.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct CreatedApiToken {
    /// What it is.
    #[serde(flatten)]
    pub(crate) description: ApiToken,
    /// Itself, shown this once.
    pub(crate) token: String,
}

/// Which lines of the audit log.
#[derive(Debug, Clone, Default)]
pub(crate) struct AuditFilter {
    /// Id of the token that made the change, or `server`.
    pub(crate) actor: Option<String>,
    /// Kind of what was changed.
    pub(crate) kind: Option<String>,
    /// Id of what was changed.
    pub(crate) subject: Option<String>,
    /// Of this product.
    pub(crate) product: Option<String>,
    /// Of this moment and later.
    pub(crate) since: Option<String>,
    /// Before this moment.
    pub(crate) until: Option<String>,
}

/// A line of the audit log.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct AuditLine {
    /// Its id.
    pub(crate) id: String,
    /// When.
    pub(crate) at: String,
    /// Who.
    pub(crate) actor: Actor,
    /// What, such as `rollout.abort`.
    pub(crate) action: String,
    /// Kind of what was changed.
    pub(crate) kind: String,
    /// Its id.
    pub(crate) subject: String,
    /// Its product.
    pub(crate) product: Option<String>,
    /// What was there.
    pub(crate) before: Option<Value>,
    /// What is there now.
    pub(crate) after: Option<Value>,
}

/// Who changed something.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Actor {
    /// Id of the API token, or `server`.
    pub(crate) id: String,
    /// Its name.
    pub(crate) name: String,
}
