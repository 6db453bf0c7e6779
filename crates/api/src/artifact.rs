//! Uploads.

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::IntoParams))]
#[cfg_attr(feature = "openapi", into_params(parameter_in = Query))]
#[serde(default)]
pub struct UploadParams {
    /// Whose quota it counts towards; that of the token when it is for one product.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub product: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Uploaded {
    pub digest: String,
    pub size_bytes: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::IntoParams))]
#[cfg_attr(feature = "openapi", into_params(parameter_in = Query))]
#[serde(default)]
pub struct ListParams {
    /// Whose quota they count towards.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub product: String,
    /// Only those that no release has.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub unused: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Artifact {
    pub digest: String,
    /// Whose quota it counts towards; null for that of no product.
    pub product: Option<String>,
    pub size_bytes: i64,
    /// When it was uploaded last.
    #[cfg_attr(feature = "openapi", schema(format = DateTime))]
    pub uploaded_at: String,
    /// Whether a release has it, as its image or as its ELF file.
    pub used: bool,
    /// From when on it may be deleted; null when a release has it.
    #[cfg_attr(feature = "openapi", schema(format = DateTime))]
    pub deletable_at: Option<String>,
}
