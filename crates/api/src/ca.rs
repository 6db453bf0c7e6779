//! The CAs in force, and one taking the other's place.

use serde::{Deserialize, Serialize};

/// The CAs in force, and what is left to do before one of them can go.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Ca {
    /// `steady`, `begun` or `switched`.
    pub phase: String,
    /// The trust anchors of devices, the newest last.
    pub anchors: Vec<Anchor>,
    /// Devices that the next step would leave behind; null when no rollover is under way.
    pub behind: Option<Left>,
    /// What to do next.
    pub next: String,
    /// When the certificate that the server shows devices ends. It renews itself.
    #[cfg_attr(feature = "openapi", schema(format = DateTime))]
    pub server_not_after: String,
    /// What is about to end, and what to do; empty when all is well.
    pub notices: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Anchor {
    /// SHA-256 of the certificate.
    pub fingerprint: String,
    #[cfg_attr(feature = "openapi", schema(format = DateTime))]
    pub not_after: String,
    /// Whether devices get certificates of this CA.
    pub issues_for_devices: bool,
    /// Whether the server shows a certificate of this CA.
    pub issues_for_server: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Left {
    /// Devices that have not told that they trust the new CA. The server's certificate cannot be switched without losing
    /// them.
    pub without_new_anchor: i64,
    /// Devices with a certificate of the old CA. It cannot go without losing them.
    pub with_old_certificate: i64,
    /// Up to 20 of `without_new_anchor`; none for a token that is for one product.
    pub examples: Vec<String>,
    /// Suspended devices of either kind. No step waits for them: resumed afterwards, they need a new vault.
    pub suspended: i64,
    /// Up to 20 of `suspended`; none for a token that is for one product.
    pub suspended_examples: Vec<String>,
    /// Devices of either kind whose certificate has ended, and who can renew it until then. No step waits for them: who
    /// comes back afterwards needs a new vault.
    pub ended: i64,
    /// Up to 20 of `ended`; none for a token that is for one product.
    pub ended_examples: Vec<String>,
}

/// How to go on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, deny_unknown_fields)]
pub struct Step {
    /// Go on although devices are left behind: they need a new vault.
    pub force: bool,
}
