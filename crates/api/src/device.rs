//! Devices.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::absent::present;
use crate::names::named;
use crate::page::Order;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct NewDeviceBody {
    /// Without it, the server makes one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(
        feature = "openapi",
        schema(min_length = 1, max_length = 64, pattern = "^[A-Za-z0-9_][A-Za-z0-9._:-]*$")
    )]
    pub id: Option<String>,
    pub product: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[cfg_attr(feature = "openapi", schema(max_length = 4096))]
    pub note: String,
    /// `stable` when it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channel: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct NewDevicesBody {
    pub product: String,
    #[cfg_attr(feature = "openapi", schema(minimum = 1, maximum = 1000))]
    pub count: i64,
    /// What the ids begin with; the product's name when it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(
        feature = "openapi",
        schema(min_length = 1, max_length = 50, pattern = "^[A-Za-z0-9_][A-Za-z0-9._:-]*$")
    )]
    pub prefix: Option<String>,
    /// `stable` when it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channel: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
}

/// What is absent stays as it is; a null `pinned_sequence` takes the pin away.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct DeviceSettingsBody {
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(max_length = 4096))]
    pub note: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channel: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tags: Option<Vec<String>>,
    /// Sequence number of the release that it is to run whatever the rollouts say.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<i64>))]
    pub pinned_sequence: Option<Option<i64>>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct RevokeBody {
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(min_length = 1, max_length = 4096))]
    pub reason: Option<String>,
}

/// Whether it is enrolled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum DeviceState {
    New,
    Enrolled,
    Revoked,
}

named!(DeviceState { New = "new", Enrolled = "enrolled", Revoked = "revoked" });

/// How it is. The first of these that holds: `suspended` (until it is resumed) or `revoked`; `new` (never seen); `silent` (not seen for longer than the product's
/// deadline and than is usual for it); `crashing`; `failing`; `unheard` (not seen for longer than the product's deadline, and
/// what is usual for it is not known); `updating`; `ok`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Health {
    Revoked,
    Suspended,
    New,
    Silent,
    Crashing,
    Failing,
    Unheard,
    Updating,
    Ok,
}

named!(Health {
    Revoked = "revoked",
    Suspended = "suspended",
    New = "new",
    Silent = "silent",
    Crashing = "crashing",
    Failing = "failing",
    Unheard = "unheard",
    Updating = "updating",
    Ok = "ok",
});

/// What a list of devices is ordered by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum DeviceSort {
    #[default]
    Id,
    /// Those that were never seen first. Of more than 5,000 devices to the hour, and by id within it.
    LastSeen,
    Created,
}

named!(DeviceSort { Id = "id", LastSeen = "last-seen", Created = "created" });

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::IntoParams))]
#[cfg_attr(feature = "openapi", into_params(parameter_in = Query))]
pub struct ListParams {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub product: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub channel: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub tag: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<DeviceState>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
    /// Sequence number of the release that it runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", param(minimum = 0))]
    pub sequence: Option<i64>,
    /// Part of the id, in any case.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub q: String,
    /// Id of the rollout that offered it a release last.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub rollout: String,
    /// Index of that rollout's wave, from 0; only with `rollout`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", param(minimum = 0))]
    pub wave: Option<i64>,
    /// How it does with that release; only with `rollout` and `wave`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", param(inline))]
    pub attempt: Option<rollout::Attempt>,
    /// How often the rollout had been resumed after a halt when the device was counted last, as `halt` of a rollout tells it;
    /// only with `rollout`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", param(minimum = 0))]
    pub epoch: Option<i64>,
    /// Only devices whose enrollment waits for approval.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub waiting: bool,
    /// Only devices that are suspended.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub suspended: bool,
    /// Only devices of which two boards seem to have the identity.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub clone_suspected: bool,
    /// Only devices that were refused with a certificate that had ended, and have got no other since.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub certificate_refused: bool,
    /// Only devices whose certificate ends within so many days, or has ended; 0: has ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", param(minimum = 0, maximum = 3650))]
    pub certificate_ends_within_days: Option<i64>,
    /// Whether to count how many devices fit.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub total: bool,
    // Not `#[serde(flatten)]`, with which numbers in queries are not read.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", param(minimum = 1, maximum = 1000))]
    pub limit: Option<i64>,
    /// `next_cursor` of the page before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    /// `previous_cursor` of the page after.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// `id` when it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", param(inline))]
    pub sort: Option<DeviceSort>,
    /// `ascending` when it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", param(inline))]
    pub order: Option<Order>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Created {
    #[serde(flatten)]
    pub device: Device,
    /// Shown once.
    pub enrollment_token: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct NewToken {
    pub id: String,
    /// Shown once.
    pub enrollment_token: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CreatedDevices {
    pub items: Vec<NewToken>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Device {
    pub id: String,
    pub product: String,
    pub state: DeviceState,
    pub health: Health,
    pub note: String,
    pub channel: String,
    pub tags: Vec<String>,
    pub pinned_sequence: Option<i64>,
    #[cfg_attr(feature = "openapi", schema(format = DateTime))]
    pub created_at: String,
    #[cfg_attr(feature = "openapi", schema(format = DateTime))]
    pub approved_at: Option<String>,
    #[cfg_attr(feature = "openapi", schema(format = DateTime))]
    pub enrolled_at: Option<String>,
    /// Since when its enrollment waits for approval; null when it does not.
    #[cfg_attr(feature = "openapi", schema(format = DateTime))]
    pub waiting_since: Option<String>,
    #[cfg_attr(feature = "openapi", schema(format = DateTime))]
    pub revoked_at: Option<String>,
    pub revoked_reason: Option<String>,
    /// Whether it is revoked only until it is resumed.
    pub suspended: bool,
    #[cfg_attr(feature = "openapi", schema(format = DateTime))]
    pub last_seen_at: Option<String>,
    pub certificate: Option<Certificate>,
    pub running: Option<Running>,
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<Object>))]
    pub slots: Vec<Slot>,
    pub updater_version: Option<String>,
    pub strategy: Option<String>,
    pub reset_cause: Option<String>,
    pub starts: Option<i64>,
    pub free_heap_bytes: Option<i64>,
    pub critical_errors: Option<i64>,
    pub last_critical: Option<i64>,
    pub last_outcome: Option<Outcome>,
    /// Since when two boards seem to come with its certificate: its vault was copied. Null when they do not.
    #[cfg_attr(feature = "openapi", schema(format = DateTime))]
    pub clone_suspected_since: Option<String>,
    /// It came with a certificate that had ended, was refused, and has got no other since; null else.
    pub certificate_refused: Option<CertificateRefused>,
    pub attempt: Option<Attempt>,
    pub failures: Option<Failures>,
    pub quarantine: Option<Quarantine>,
    pub revision: i64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Certificate {
    pub serial: String,
    #[cfg_attr(feature = "openapi", schema(format = DateTime))]
    pub not_before: String,
    #[cfg_attr(feature = "openapi", schema(format = DateTime))]
    pub not_after: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Running {
    pub digest: String,
    pub sequence: Option<i64>,
    pub version: Option<String>,
}

/// A slot as the device reported it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Slot {
    pub label: String,
    pub size_bytes: i64,
    pub bootable: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Outcome {
    pub sequence: Option<i64>,
    pub reason: String,
    pub code: i64,
    #[cfg_attr(feature = "openapi", schema(format = DateTime))]
    pub at: String,
}

/// A certificate that had ended was refused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CertificateRefused {
    /// `certificate-ended`: it may renew itself, and has not; `certificate-ended-too-long`, `certificate-replaced`,
    /// `revoked`: it may not.
    pub cause: String,
    /// When that was last, to within an hour.
    #[cfg_attr(feature = "openapi", schema(format = DateTime))]
    pub at: String,
}

/// The release that a rollout offered it last, and how that goes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Attempt {
    pub rollout: Option<String>,
    pub wave: Option<i64>,
    pub sequence: Option<i64>,
    /// offered, installed, healthy, failed, crashed, silent, unheard
    pub state: String,
    #[cfg_attr(feature = "openapi", schema(format = DateTime))]
    pub at: Option<String>,
}

/// The release that failed on it, and how often.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Failures {
    pub sequence: i64,
    pub count: i64,
}

/// The release that is not offered to it any more.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Quarantine {
    pub sequence: Option<i64>,
    #[cfg_attr(feature = "openapi", schema(format = DateTime))]
    pub since: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Event {
    #[cfg_attr(feature = "openapi", schema(format = DateTime))]
    pub at: String,
    pub kind: String,
    pub detail: Value,
}
