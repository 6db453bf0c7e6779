//! Releases.

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct PublishBody {
    /// The signed manifest (COSE_Sign1) in base64.
    pub manifest: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[cfg_attr(feature = "openapi", schema(max_length = 65_536))]
    pub notes: String,
    /// The channel whose devices it is for; `stable` when it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channel: Option<String>,
    /// The sequence number of an older release: a device must run that or a newer one before it is offered this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(minimum = 1))]
    pub requires: Option<i64>,
    /// SHA-256 of the ELF file that the image was made of, which lies among the artifacts.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(pattern = "^[0-9a-f]{64}$"))]
    pub elf_digest: Option<String>,
    /// That this application has no app descriptor. Without it an image that has none is refused.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub without_descriptor: bool,
    /// That this application may confirm itself. Without it an image that is known to is refused for a product whose
    /// bootloader starts the application: the updater would not run again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub confirms_itself: bool,
    /// That the image of another release is meant to be published as a new one, such as to go back to it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub same_image: bool,
    /// That devices are meant to refuse it until they trust the key. Without it a release is refused that no device trusts of
    /// those that tell.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub untrusted_key: bool,
    #[serde(default)]
    pub rollout: StartRollout,
}

/// Whether the release's rollout starts at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum StartRollout {
    /// By the product's default plan.
    #[default]
    Default,
    /// An operator makes one later; until then no device is offered the release.
    None,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Release {
    pub product: String,
    pub sequence: i64,
    pub version: String,
    pub channel: String,
    pub digest: String,
    pub size_bytes: i64,
    pub chip: String,
    /// The image's app descriptor.
    pub app: Option<AppInfo>,
    pub min_slot_bytes: i64,
    /// Sequence numbers of the releases that the publisher allows to return to from this one.
    pub revert_to: Vec<u64>,
    /// The sequence number of the release that a device must run, or a newer one, before it is offered this one.
    pub requires: Option<i64>,
    pub elf_digest: Option<String>,
    pub notes: String,
    /// What the publisher was warned of.
    pub warnings: Vec<String>,
    #[cfg_attr(feature = "openapi", schema(format = DateTime))]
    pub created_at: String,
    /// Since when it is offered to nobody; null when it is not archived.
    #[cfg_attr(feature = "openapi", schema(format = DateTime))]
    pub archived_at: Option<String>,
    /// Devices that are pinned to it, by id, ten at most. Not in lists.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pinned: Vec<String>,
}

/// What an image's app descriptor says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AppInfo {
    pub project_name: String,
    pub version: String,
    pub idf_version: String,
}
