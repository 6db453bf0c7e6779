//! Where devices connect, and what they are to trust.

use serde::{Deserialize, Serialize};

/// What a device needs to know of the server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Info {
    pub version: String,
    pub device_url: String,
    /// The trust anchors of devices, PEM after PEM: two while one CA takes the other's place.
    pub ca_pem: String,
    /// The CA of the certificate that the server shows, DER in base64.
    pub ca_der_base64: String,
    pub server_name: String,
    #[cfg_attr(feature = "openapi", schema(format = DateTime))]
    pub time: String,
}
