//! The CAs in force.

use serde::{Deserialize, Serialize};

/// The CAs in force, and what is left to do in a rollover.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Ca {
    /// `steady`, `begun` or `switched`.
    pub(crate) phase: String,
    /// The trust anchors of devices, the newest last.
    pub(crate) anchors: Vec<Anchor>,
    /// Devices that the next step would leave behind; `None` when no rollover is under way.
    pub(crate) behind: Option<Behind>,
    /// What to do next.
    pub(crate) next: String,
    /// When the certificate that the server shows devices ends. It renews itself.
    pub(crate) server_not_after: String,
    /// What is about to end, and what to do.
    pub(crate) notices: Vec<String>,
}

/// A trust anchor.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Anchor {
    /// SHA-256 of its certificate.
    pub(crate) fingerprint: String,
    /// Until when it is valid.
    pub(crate) not_after: String,
    /// Whether devices get certificates of it.
    pub(crate) issues_for_devices: bool,
    /// Whether the server shows a certificate of it.
    pub(crate) issues_for_server: bool,
}

/// Devices that a step of a rollover would leave behind.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Behind {
    /// How many have not told that they trust the new CA.
    pub(crate) without_new_anchor: i64,
    /// How many have a certificate of the old CA.
    pub(crate) with_old_certificate: i64,
    /// Some of the first kind.
    pub(crate) examples: Vec<String>,
    /// Suspended devices of either kind, for which no step waits.
    #[serde(default)]
    pub(crate) suspended: i64,
    /// Some of them.
    #[serde(default)]
    pub(crate) suspended_examples: Vec<String>,
}
