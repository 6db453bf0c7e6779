//! The values of the admin API, as JSON carries them.
//!
//! Fields that this version does not know are ignored; times are RFC 3339 in UTC; digests are 64 lower-case
//! hexadecimal digits; chips are named as Espressif's tools name them.

mod access;
mod ca;
mod rollout;
mod webhook;

pub(crate) use access::{ApiToken, AuditFilter, AuditLine, CreatedApiToken, NewApiToken, Whoami};
pub(crate) use ca::{Behind, Ca};
pub(crate) use rollout::{FleetSummary, Halt, NewRollout, Rollout, RolloutFilter, Wave, WaveState};
pub(crate) use webhook::{CreatedWebhook, Delivery, ListedWebhook, NewWebhook, Webhook};

use ::rollout::Plan;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
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
    /// A shorter run of the application shows nothing; `None`: the server's default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) min_run_s: Option<u64>,
    /// Lowest revision of its chips: major * 100 + minor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) chip_revision: Option<u64>,
}

/// A flash layout: a name, and a partition table as ESP-IDF's CSV.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
    /// A device that took a release and is not seen again for this long is silent.
    pub(crate) silence_deadline_s: u64,
    /// So many failures of one release, and it is not offered to that device.
    pub(crate) quarantine_after: u64,
    /// Whether an enrollment waits for an operator's approval.
    pub(crate) enrollment_approval: bool,
    /// A shorter run of the application shows nothing.
    pub(crate) min_run_s: u64,
    /// The rollout plan that a published release starts with.
    pub(crate) default_plan: Option<Plan>,
    /// Lowest revision of its chips: major * 100 + minor.
    #[serde(default)]
    pub(crate) chip_revision: Option<u64>,
    /// How much its artifacts take, in bytes.
    #[serde(default)]
    pub(crate) artifact_bytes: u64,
    /// How much they may take.
    #[serde(default)]
    pub(crate) artifact_quota_bytes: u64,
    /// When it was made.
    pub(crate) created_at: String,
}

/// Settings of a product; what is `None` stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct ProductSettings {
    /// A device that took a release and is not seen again for this long is silent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) silence_deadline_s: Option<u64>,
    /// So many failures of one release, and it is not offered to that device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) quarantine_after: Option<u64>,
    /// Whether an enrollment waits for an operator's approval.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) enrollment_approval: Option<bool>,
    /// A shorter run of the application shows nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) min_run_s: Option<u64>,
    /// The rollout plan that a published release starts with; `Some(None)` takes it away.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) default_plan: Option<Option<Plan>>,
    /// Its flash layout.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) layout: Option<Layout>,
    /// Lowest revision of its chips; `Some(None)`: any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) chip_revision: Option<Option<u64>>,
}

/// A channel of a product.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Channel {
    /// Its name.
    pub(crate) name: String,
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
    /// When it was revoked.
    pub(crate) revoked_at: Option<String>,
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
    /// Which rollouts it follows; the server takes `stable` when there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) channel: Option<String>,
    /// What it is selected by.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) tags: Vec<String>,
}

/// Devices to be made at once.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct NewDevices {
    /// Their product.
    pub(crate) product: String,
    /// How many; for more than the server makes at once there is [`NewDevices::in_parts`].
    pub(crate) count: usize,
    /// What their ids begin with; the server takes the product's name when there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) prefix: Option<String>,
    /// Which rollouts they follow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) channel: Option<String>,
    /// What they are selected by.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) tags: Vec<String>,
}

impl NewDevices {
    /// The server makes no more at once.
    const MAX: usize = 1000;

    /// The same devices in requests that the server takes.
    pub(crate) fn in_parts(self) -> impl Iterator<Item = Self> {
        let count = self.count;
        (0..count)
            .step_by(Self::MAX)
            .map(move |made| Self { count: (count - made).min(Self::MAX), ..self.clone() })
    }
}

/// Settings of a device; what is `None` stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct DeviceSettings {
    /// For people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) note: Option<String>,
    /// Which rollouts it follows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) channel: Option<String>,
    /// What it is selected by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tags: Option<Vec<String>>,
    /// The release that it is to run whatever the rollouts say; `Some(None)` takes the pin away.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) pinned_sequence: Option<Option<u64>>,
}

/// Which devices, as the list and what is done to many take it.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct DeviceFilter {
    /// Of this product.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) product: Option<String>,
    /// Of this channel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) channel: Option<String>,
    /// With this tag.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tag: Option<String>,
    /// Who are new, enrolled or revoked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) state: Option<String>,
    /// Who do like this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) health: Option<String>,
    /// Who run the release of this number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) sequence: Option<u64>,
    /// With this in their id.
    #[serde(skip_serializing_if = "Option::is_none", rename = "q")]
    pub(crate) search: Option<String>,
    /// Who seem to be two boards; for lists alone.
    #[serde(skip)]
    pub(crate) clone_suspected: bool,
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

/// A device to be made whose id is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct ImportedDevice {
    /// Its id.
    pub(crate) id: String,
    /// Which rollouts it follows; the server takes `stable` when there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) channel: Option<String>,
    /// What it is selected by.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) tags: Vec<String>,
}

/// What became of something that is done to all devices of a filter.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct BulkOutcome {
    /// How many fit the filter.
    pub(crate) count: u64,
    /// How many were changed.
    pub(crate) changed: u64,
    /// Goes on with the others.
    pub(crate) next_cursor: Option<String>,
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
    /// How it does: ok, new, updating, silent, unheard, crashing, failing, revoked.
    pub(crate) health: String,
    /// Which rollouts it follows.
    pub(crate) channel: String,
    /// What it is selected by.
    pub(crate) tags: Vec<String>,
    /// The release that it is to run whatever the rollouts say.
    pub(crate) pinned_sequence: Option<u64>,
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
    /// Whether it is revoked only until it is resumed.
    #[serde(default)]
    pub(crate) suspended: bool,
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
    /// Since when two boards seem to come with its certificate.
    #[serde(default)]
    pub(crate) clone_suspected_since: Option<String>,
    /// The release that a rollout offered it last.
    pub(crate) attempt: Option<Attempt>,
    /// The release that failed on it.
    pub(crate) failures: Option<Failures>,
    /// The release that is not offered to it any more.
    pub(crate) quarantine: Option<Quarantine>,
}

/// The release that a rollout offered a device last, and how that goes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Attempt {
    /// The rollout.
    pub(crate) rollout: Option<String>,
    /// Index of the device's wave.
    pub(crate) wave: Option<usize>,
    /// The release.
    pub(crate) sequence: Option<u64>,
    /// offered, installed, healthy, failed, crashed, silent or unheard.
    pub(crate) state: String,
    /// Since when.
    pub(crate) at: Option<String>,
}

/// The release that failed on a device.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Failures {
    /// The release.
    pub(crate) sequence: u64,
    /// How often.
    pub(crate) count: u64,
}

/// The release that is not offered to a device any more.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Quarantine {
    /// The release.
    pub(crate) sequence: Option<u64>,
    /// Since when.
    pub(crate) since: String,
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
    /// Whose devices get it; the server takes `stable` when there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) channel: Option<String>,
    /// The release that a device must run before it is offered this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) requires: Option<u64>,
    /// SHA-256 of the ELF file, which was uploaded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) elf_digest: Option<String>,
    /// That this application has no app descriptor.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) without_descriptor: bool,
    /// The publisher knows that the application confirms itself.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) confirms_itself: bool,
    /// That the image of another release is meant to be a new one.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) same_image: bool,
    /// The publisher knows that no device trusts the key yet.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) untrusted_key: bool,
    /// Whether a rollout starts at once.
    pub(crate) rollout: FirstRollout,
}

/// Whether a release that is published is rolled out at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum FirstRollout {
    /// By the product's default plan.
    Default,
    /// Not at all.
    None,
}

impl NewRelease {
    /// A release with the product's default plan. `manifest` is the COSE_Sign1.
    pub(crate) fn new(manifest: &[u8]) -> Self {
        Self {
            manifest: BASE64_STANDARD.encode(manifest),
            notes: None,
            channel: None,
            requires: None,
            elf_digest: None,
            without_descriptor: false,
            confirms_itself: false,
            same_image: false,
            untrusted_key: false,
            rollout: FirstRollout::Default,
        }
    }
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
    /// Whose devices get it.
    #[serde(default)]
    pub(crate) channel: String,
    /// Releases that a device running this one may return to.
    #[serde(default)]
    pub(crate) revert_to: Vec<u64>,
    /// The release that a device must run before it is offered this one.
    #[serde(default)]
    pub(crate) requires: Option<u64>,
    /// What its publisher was warned of.
    #[serde(default)]
    pub(crate) warnings: Vec<String>,
    /// Since when it is offered to nobody.
    #[serde(default)]
    pub(crate) archived_at: Option<String>,
    /// SHA-256 of the ELF file.
    pub(crate) elf_digest: Option<String>,
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

/// What was uploaded.
#[derive(Debug, Clone, Deserialize, Serialize)]
pub(crate) struct Artifact {
    /// Its SHA-256.
    pub(crate) digest: String,
    /// Whose quota it counts towards.
    pub(crate) product: Option<String>,
    /// Its size.
    pub(crate) size_bytes: u64,
    /// When it was uploaded last.
    pub(crate) uploaded_at: String,
    /// Whether a release has it.
    pub(crate) used: bool,
    /// From when on it may be deleted; never when a release has it.
    pub(crate) deletable_at: Option<String>,
}

/// Which events of devices.
#[derive(Debug, Clone, Default)]
pub(crate) struct EventFilter {
    pub(crate) product: Option<String>,
    pub(crate) since: Option<String>,
    pub(crate) until: Option<String>,
}
