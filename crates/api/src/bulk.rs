//! Many devices at once.

use serde::{Deserialize, Serialize};

use crate::device::{DeviceState, Health};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ImportBody {
    pub product: String,
    #[cfg_attr(feature = "openapi", schema(min_items = 1, max_items = 1000))]
    pub devices: Vec<ImportedDevice>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ImportedDevice {
    #[cfg_attr(
        feature = "openapi",
        schema(min_length = 1, max_length = 64, pattern = "^[A-Za-z0-9_][A-Za-z0-9._:-]*$")
    )]
    pub id: String,
    /// `stable` when it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channel: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
}

/// Which devices of a product; what is absent fits all. As the list of devices takes it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Selection {
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
    #[cfg_attr(feature = "openapi", schema(minimum = 0))]
    pub sequence: Option<i64>,
    /// Part of the id, in any case.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub q: String,
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
    #[cfg_attr(feature = "openapi", schema(minimum = 0, maximum = 3650))]
    pub certificate_ends_within_days: Option<i64>,
}

/// For what needs no more to be said: approving, resuming, deleting.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct BulkBody {
    pub filter: Selection,
    /// How many there are, past `cursor`. Another number is refused. Without it, they are counted and nothing is changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expect: Option<i64>,
    /// `next_cursor` of the call before.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub cursor: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct RevokeBulkBody {
    pub filter: Selection,
    /// How many there are, past `cursor`. Another number is refused. Without it, they are counted and nothing is changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expect: Option<i64>,
    /// `next_cursor` of the call before.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub cursor: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(min_length = 1, max_length = 4096))]
    pub reason: Option<String>,
    /// Only until they are resumed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub suspend: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ChangeBulkBody {
    pub filter: Selection,
    /// How many there are, past `cursor`. Another number is refused. Without it, they are counted and nothing is changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expect: Option<i64>,
    /// `next_cursor` of the call before.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub cursor: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channel: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub add_tags: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remove_tags: Vec<String>,
}

/// What became of a call about all devices of a filter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct BulkOutcome {
    /// How many fit the filter, past `cursor`.
    pub count: i64,
    /// How many this call changed; with some there was nothing left to do.
    pub changed: i64,
    /// Goes on with the others, of which there are `count - 1000`; null when there are none.
    pub next_cursor: Option<String>,
}
