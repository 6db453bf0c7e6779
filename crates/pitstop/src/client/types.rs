//! The values of the admin API, as JSON carries them.
//!
//! Fields that this version does not know are ignored; times are RFC 3339 in UTC; digests are 64 lower-case
//! hexadecimal digits; chips are named as Espressif's tools name them.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A part of a list.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Page<T> {
    /// The entries.
    pub(crate) items: Vec<T>,
    /// Where the next part begins; `None` after the last.
    pub(crate) next_cursor: Option<String>,
}

/// What a server says of itself.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Info {
    /// Its version.
    pub(crate) version: String,
    /// The device listener, such as `https://localhost:8443`.
    pub(crate) device_url: String,
    /// The name in its TLS certificate.
    pub(crate) server_name: String,
    /// Its CA certificate, PEM.
    pub(crate) ca_pem: String,
    /// Its CA certificate, DER in base64.
    pub(crate) ca_der_base64: String,
    /// Its clock.
    pub(crate) time: String,
}

/// A product to be made.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct NewProduct {
    /// Its name, `[a-z0-9-]{1,64}`.
    pub(crate) name: String,
    /// Its chip.
    pub(crate) chip: String,
    /// Its flash layout.
    pub(crate) layout: Layout,
    /// Whose releases its devices accept.
    pub(crate) publisher_keys: Vec<NewPublisherKey>,
}

/// A flash layout: a name, and a partition table as ESP-IDF's CSV.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Layout {
    /// Such as `4mb`.
    pub(crate) name: String,
    /// The table.
    pub(crate) csv: String,
}

/// A publisher key to be trusted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct NewPublisherKey {
    /// Whose it is.
    pub(crate) name: String,
    /// The compressed point (SEC 1 section 2.3.3), 66 hexadecimal digits.
    pub(crate) key: String,
}

/// A kind of device.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Product {
    /// Its name.
    pub(crate) name: String,
    /// Its chip.
    pub(crate) chip: String,
    /// Its flash layout.
    pub(crate) layout: Layout,
    /// How the updater hands over: `chain-load` or `otadata-rollback`.
    pub(crate) strategy: String,
    /// Where applications go.
    pub(crate) slots: Vec<Slot>,
    /// Whose releases its devices accept.
    pub(crate) publisher_keys: Vec<PublisherKey>,
    /// When it was made.
    pub(crate) created_at: String,
}

/// An app partition that can hold an application.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Slot {
    /// Its label, such as `ota_0`.
    pub(crate) label: String,
    /// Its size.
    pub(crate) size_bytes: u64,
}

/// A trusted publisher key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PublisherKey {
    /// Whose it is.
    pub(crate) name: String,
    /// The compressed point, 66 hexadecimal digits.
    pub(crate) key: String,
    /// The key id, 16 hexadecimal digits.
    pub(crate) id: String,
}

/// A device to be made.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct NewDevice {
    /// Its id; the server makes one when there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) id: Option<String>,
    /// Its product.
    pub(crate) product: String,
    /// For people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) note: Option<String>,
}

/// Something with the one-time enrollment token that was issued for it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Issued<T> {
    /// What the token is for.
    #[serde(flatten)]
    pub(crate) subject: T,
    /// Shown this once: the server keeps only its hash.
    pub(crate) enrollment_token: String,
}

/// The id of a device, alone.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct DeviceId {
    /// The id.
    pub(crate) id: String,
}

/// How far a device has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum DeviceState {
    /// Made here, has not enrolled.
    New,
    /// Has its certificate.
    Enrolled,
    /// Refused whatever it asks.
    Revoked,
}

/// A device.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Device {
    /// Its id.
    pub(crate) id: String,
    /// Its product.
    pub(crate) product: String,
    /// How far it has come.
    pub(crate) state: DeviceState,
    /// For people.
    pub(crate) note: Option<String>,
    /// When its id was made.
    pub(crate) created_at: String,
    /// When it first enrolled.
    pub(crate) enrolled_at: Option<String>,
    /// When it was revoked.
    pub(crate) revoked_at: Option<String>,
    /// Why it was revoked.
    pub(crate) revoked_reason: Option<String>,
    /// Its last check-in.
    pub(crate) last_seen_at: Option<String>,
    /// Its newest certificate.
    pub(crate) certificate: Option<Certificate>,
    /// What it ran at its last check-in.
    pub(crate) running: Option<Running>,
    /// Its slots, as it reported them.
    #[serde(default)]
    pub(crate) slots: Value,
    /// Version of its updater.
    pub(crate) updater_version: Option<String>,
    /// How it hands over.
    pub(crate) strategy: Option<String>,
    /// How its last application run ended.
    pub(crate) reset_cause: Option<String>,
    /// Starts counted by the updater.
    pub(crate) starts: Option<u64>,
    /// Free heap at its last check-in.
    pub(crate) free_heap_bytes: Option<u64>,
    /// Critical errors counted by the updater.
    pub(crate) critical_errors: Option<u64>,
    /// Reason code of the last critical error.
    pub(crate) last_critical: Option<u16>,
    /// Its last install or refusal.
    pub(crate) last_outcome: Option<Outcome>,
}

/// A device certificate.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Certificate {
    /// Serial number, hexadecimal.
    pub(crate) serial: String,
    /// Valid from.
    pub(crate) not_before: String,
    /// Valid until.
    pub(crate) not_after: String,
}

/// The release that a device runs.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Running {
    /// SHA-256 of the image.
    pub(crate) digest: String,
    /// Its sequence number.
    pub(crate) sequence: Option<u64>,
    /// Its version.
    pub(crate) version: Option<String>,
}

/// How an install ended.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// The release that it was about.
    pub(crate) sequence: Option<u64>,
    /// Name of the reason, such as `installed` or `chunk-digest`.
    pub(crate) reason: String,
    /// Code of the reason.
    pub(crate) code: u16,
    /// When the server heard of it.
    pub(crate) at: Option<String>,
}

/// Something that happened to a device.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Event {
    /// When.
    pub(crate) at: String,
    /// What, such as `enrolled` or `check-in`.
    pub(crate) kind: String,
    /// More about it, by kind.
    pub(crate) detail: Value,
}

/// A release to be published.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct NewRelease {
    /// The COSE_Sign1 in base64.
    pub(crate) manifest: String,
    /// For people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) notes: Option<String>,
}

/// A published release.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Release {
    /// Its product.
    pub(crate) product: String,
    /// Its sequence number within the product.
    pub(crate) sequence: u64,
    /// Its version.
    pub(crate) version: String,
    /// SHA-256 of the image.
    pub(crate) digest: String,
    /// Size of the image.
    pub(crate) size_bytes: u64,
    /// Its chip.
    pub(crate) chip: String,
    /// What the image says of itself.
    pub(crate) app: Option<App>,
    /// The smallest slot that may hold it.
    pub(crate) min_slot_bytes: u64,
    /// For people.
    pub(crate) notes: Option<String>,
    /// When it was published.
    pub(crate) created_at: String,
}

/// What an image's app descriptor says.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct App {
    /// Project name.
    pub(crate) project_name: String,
    /// Version.
    pub(crate) version: String,
    /// Version of ESP-IDF.
    pub(crate) idf_version: String,
}
