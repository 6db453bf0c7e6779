//! Making a vault.

use alloc::string::{String, ToString};

use embedded_storage::nor_flash::NorFlash;
use manifest::PublisherKeys;
use rustls::pki_types::CertificateDer;

use super::nvs::{Store, check_region};
use super::{
    ItemError, MAX_WIFI_NETWORKS, ServerUrl, VaultError, WIFI_KEYS, accept, certificates, check_device_id,
    check_product, check_publishers, concatenate, key,
};
use crate::country::CountryCode;
use crate::platform::WifiCredentials;
use crate::region::Region;

/// What a device is provisioned with.
#[derive(Clone, Copy)]
pub struct Provisioning<'a> {
    /// Name of the device at the server: 1 to 64 visible ASCII characters.
    pub device_id: &'a str,
    /// Kind of the device.
    pub product: &'a str,
    /// Where the server is.
    pub server: &'a ServerUrl,
    /// One-time enrollment token.
    pub token: Option<&'a str>,
    /// Whose certificates a server may have; at least one.
    pub anchors: &'a [CertificateDer<'a>],
    /// Whose manifests are trusted; at least one.
    pub publishers: &'a PublisherKeys,
    /// Wi-Fi networks, best first; at most [`MAX_WIFI_NETWORKS`].
    pub wifi: &'a [WifiCredentials],
    /// Where the device is.
    pub country: CountryCode,
    /// The time when the device is provisioned, in seconds since 1970-01-01 UTC.
    pub time_floor_s: Option<u32>,
}

/// Erases the region and writes a fresh vault. Nothing is erased when something in `provisioning` is not acceptable.
///
/// # Errors
/// [`VaultError`]
pub fn provision<F: NorFlash>(
    flash: &mut F,
    region: Region,
    provisioning: &Provisioning<'_>,
) -> Result<(), VaultError> {
    let Provisioning { device_id, product, server, token, anchors, publishers, wifi, country, time_floor_s } =
        *provisioning;
    let anchors = concatenate(anchors);
    let server_url = server.to_string();
    accept(key::DEVICE_ID, String::from(device_id), check_device_id)?;
    accept(key::PRODUCT, String::from(product), check_product)?;
    accept(key::SERVER_URL, server_url.as_str(), |url| ServerUrl::parse(url).map_err(ItemError::ServerUrl))?;
    accept(key::ANCHORS, anchors.as_slice(), certificates)?;
    accept(key::PUBLISHERS, publishers.clone(), check_publishers)?;
    if wifi.len() > MAX_WIFI_NETWORKS {
        let source = ItemError::WifiCount { found: wifi.len() };
        return Err(VaultError::Invalid { key: WIFI_KEYS[0].0, source });
    }
    for ((key, _), network) in WIFI_KEYS.into_iter().zip(wifi) {
        accept(key, network, check_network)?;
    }

    check_region(flash, region)?;
    let end = region.offset + region.size_bytes;
    flash.erase(region.offset, end).map_err(|_| VaultError::Flash)?;
    let mut store = Store::open(flash, region)?;
    store.set_string(key::DEVICE_ID, device_id)?;
    store.set_string(key::PRODUCT, product)?;
    store.set_string(key::SERVER_URL, &server_url)?;
    store.set_blob(key::ANCHORS, &anchors)?;
    store.set_blob(key::PUBLISHERS, &publishers.to_bytes())?;
    for ((ssid_key, passphrase_key), network) in WIFI_KEYS.into_iter().zip(wifi) {
        store.set_string(ssid_key, &network.ssid)?;
        store.set_string(passphrase_key, &network.passphrase)?;
    }
    if country != CountryCode::WORLD {
        store.set_string(key::COUNTRY, country.as_str())?;
    }
    if let Some(time_floor_s) = time_floor_s {
        store.set_number(key::TIME_FLOOR, time_floor_s)?;
    }
    token.map_or(Ok(()), |token| store.set_string(key::TOKEN, token))
}

/// IEEE 802.11-2020 section 9.4.2.2: 1 to 32 bytes of name. Annex J.4.1: 8 to 63 characters of passphrase, or 64
/// hexadecimal digits of key.
pub(super) fn check_network(network: &WifiCredentials) -> Result<(), ItemError> {
    let (ssid_bytes, passphrase_bytes) = (network.ssid.len(), network.passphrase.len());
    if (1..=32).contains(&ssid_bytes) && matches!(passphrase_bytes, 0 | 8..=64) {
        Ok(())
    } else {
        Err(ItemError::Wifi { ssid_bytes, passphrase_bytes })
    }
}
