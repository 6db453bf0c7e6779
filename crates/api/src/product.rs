//! Products and their channels.

use rollout::Plan;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::absent::present;
use crate::publisher_key::{Key, NewKey};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct NewProductBody {
    #[cfg_attr(feature = "openapi", schema(min_length = 1, max_length = 64, pattern = "^[a-z0-9-]+$"))]
    pub name: String,
    /// Such as `esp32c3`.
    pub chip: String,
    pub layout: LayoutBody,
    /// Lowest revision of its chips: major * 100 + minor.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(minimum = 0, maximum = 65_535))]
    pub chip_revision: Option<i64>,
    /// A run of the application shorter than this shows nothing, and five in a row are a failure, whatever ended them; 0:
    /// no run is short. 60 when it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(minimum = 0, maximum = 86_400))]
    pub min_run_s: Option<i64>,
    /// Whether its devices renew their certificates with new keys; not, when it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rotate_keys: Option<bool>,
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(max_items = 16))]
    pub publisher_keys: Vec<NewKey>,
}

/// What is absent stays as it is; a null `default_plan` takes the plan away.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ProductSettingsBody {
    /// A device that took a release and is not seen again for this long, and for longer than is usual for it, is silent.
    /// It holds for devices that have taken one already.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(minimum = 60, maximum = 315_360_000))]
    pub silence_deadline_s: Option<i64>,
    /// So many failures of one release, and it is not offered to that device until an operator clears it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(minimum = 1, maximum = 1000))]
    pub quarantine_after: Option<i64>,
    /// Whether an enrollment waits for an operator's approval.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enrollment_approval: Option<bool>,
    /// Refused while the product has devices, or a release that is not archived and would not fit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layout: Option<LayoutBody>,
    /// The rollout plan that a published release starts with.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Object>))]
    pub default_plan: Option<Option<Value>>,
    /// Lowest revision of its chips: major * 100 + minor. An image that asks for a higher one is not published.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<i64>, minimum = 0, maximum = 65_535))]
    pub chip_revision: Option<Option<i64>>,
    /// A run of the application shorter than this shows nothing, and five in a row are a failure, whatever ended them; 0:
    /// no run is short.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(minimum = 0, maximum = 86_400))]
    pub min_run_s: Option<i64>,
    /// Whether its devices renew their certificates with new keys.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rotate_keys: Option<bool>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LayoutBody {
    #[cfg_attr(feature = "openapi", schema(min_length = 1, max_length = 64))]
    pub name: String,
    /// The partition table as ESP-IDF's CSV.
    #[cfg_attr(feature = "openapi", schema(min_length = 1, max_length = 16_384))]
    pub csv: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Product {
    pub name: String,
    pub chip: String,
    pub layout: LayoutBody,
    pub strategy: String,
    pub slots: Vec<SlotSize>,
    /// Those that are good now.
    pub publisher_keys: Vec<Key>,
    /// Lowest revision of its chips: major * 100 + minor.
    pub chip_revision: Option<i64>,
    pub silence_deadline_s: i64,
    pub quarantine_after: i64,
    pub enrollment_approval: bool,
    /// A run of the application shorter than this shows nothing, and five in a row are a failure.
    pub min_run_s: i64,
    /// Whether its devices renew their certificates with new keys.
    pub rotate_keys: bool,
    /// The rollout plan that a published release starts with; null: all devices at once.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Value>))]
    pub default_plan: Option<Plan>,
    /// How much its artifacts take, in bytes.
    pub artifact_bytes: u64,
    /// How much they may take: `artifact-quota-mib` of the server, in bytes.
    pub artifact_quota_bytes: u64,
    #[cfg_attr(feature = "openapi", schema(format = DateTime))]
    pub created_at: String,
    pub revision: i64,
}

/// A slot of a product's layout, as it is stored and shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SlotSize {
    /// Partition label, such as `ota_0`.
    pub label: String,
    pub size_bytes: u32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct NewChannel {
    #[cfg_attr(feature = "openapi", schema(min_length = 1, max_length = 64, pattern = "^[a-z0-9-]+$"))]
    pub name: String,
}

/// A channel. Every product has `stable` and `beta`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Channel {
    pub name: String,
    #[cfg_attr(feature = "openapi", schema(format = DateTime))]
    pub created_at: String,
}
