//! The vault: the updater's own NVS partition, in Espressif's format, so that Espressif's tools can read and make
//! it (ESP-IDF v5.5, `docs/en/api-reference/storage/nvs_flash.rst`). Crate `esp-nvs` implements the format.
//!
//! | key | type | content |
//! | --- | --- | --- |
//! | `device_id`, `product` | string | who the device is |
//! | `server_url` | string | `https://host:port` |
//! | `token` | string, optional | one-time enrollment token; empty after enrollment |
//! | `ca` | blob | trust anchors: DER certificates one after the other |
//! | `publishers` | blob | publisher keys: compressed points one after the other |
//! | `ssid0`, `pass0` … `ssid7`, `pass7` | strings, optional | Wi-Fi networks, best first |
//! | `country` | string, optional | where the device is: two letters (ISO 3166-1); without it `01`, the world |
//! | `key`, `key2` | blobs, optional | the device's key, PKCS#8 DER, twice |
//! | `cert`, `cert2` | blobs, optional | the device's chain: DER certificates one after the other, its own first; twice |
//! | `record`, `outcome` | blobs, optional | the shell's |
//! | `sequence` | u64, optional | the sequence number of the record, a second time |
//! | `time_floor` | u32, optional | seconds since 1970-01-01 UTC |
//! | `ap` | blob of 8 bytes, optional | the access point that was joined last: network, BSSID, channel |
//!
//! Power cuts: replacing a value writes the new one first and then marks the old one erased; where both are found
//! at the next open, the newer one stays, and where the new one is torn, the old one. Setting a value that is
//! there already writes nothing, and opening a vault never does: what a power cut left in the middle of something is
//! repaired with the next write that is meant (`guard.rs`). A new key and its certificate are written as `key2` and `cert2`,
//! and when these are whole as `key` and `cert`: at every moment a key and a certificate for it are whole (`identity.rs`).
//!
//! Damage: while something reads as damaged nothing is written, for the next start may read it right, and the repair would
//! erase it. When that start finds the same damage, it is accepted ([`Vault::accept_damage`]). What a power cut left in the
//! middle of something looks the same, and waits for the second start too. Nothing is ever deleted, so that an item that
//! reads as erased without another of its name is damage as well.

mod damage;
mod error;
mod guard;
mod identity;
mod nvs;
mod provision;
mod server_url;

pub use error::{ItemError, VaultError};
pub use provision::{Provisioning, provision};
pub use server_url::{ServerUrl, ServerUrlError};

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use embedded_storage::nor_flash::NorFlash;
use manifest::PublisherKeys;
use rustls::pki_types::CertificateDer;
use zeroize::Zeroizing;

use crate::country::CountryCode;
use crate::pki::{MAX_DEVICE_ID_BYTES, split_certificates};
use crate::platform::{AccessPoint, WifiCredentials};
use crate::region::Region;
use identity::Found;
use nvs::Store;
use provision::check_network;

/// The smallest vault, in sectors: what Espressif's tools ask of any NVS partition (one is always kept free).
pub const MIN_SECTORS: u32 = 3;

/// The bits of [`Vault::damage`].
pub const DAMAGE_BITS: u32 = 0xff_ffff;

/// For [`Vault::accept_damage`]: whatever is damaged.
pub const ANY_DAMAGE: u32 = u32::MAX;

/// The most Wi-Fi networks.
pub const MAX_WIFI_NETWORKS: usize = WIFI_KEYS.len();

/// Names of the items, each at most 15 characters (the format's limit).
mod key {
    pub(super) const DEVICE_ID: &str = "device_id";
    pub(super) const PRODUCT: &str = "product";
    pub(super) const SERVER_URL: &str = "server_url";
    pub(super) const TOKEN: &str = "token";
    pub(super) const ANCHORS: &str = "ca";
    pub(super) const PUBLISHERS: &str = "publishers";
    pub(super) const COUNTRY: &str = "country";
    pub(super) const KEY: &str = "key";
    pub(super) const KEY_COPY: &str = "key2";
    pub(super) const CHAIN: &str = "cert";
    pub(super) const CHAIN_COPY: &str = "cert2";
    pub(super) const RECORD: &str = "record";
    pub(super) const OUTCOME: &str = "outcome";
    pub(super) const TIME_FLOOR: &str = "time_floor";
    pub(super) const ACCESS_POINT: &str = "ap";
    pub(super) const SEQUENCE: &str = "sequence";
}

const WIFI_KEYS: [(&str, &str); 8] = [
    ("ssid0", "pass0"),
    ("ssid1", "pass1"),
    ("ssid2", "pass2"),
    ("ssid3", "pass3"),
    ("ssid4", "pass4"),
    ("ssid5", "pass5"),
    ("ssid6", "pass6"),
    ("ssid7", "pass7"),
];

/// What the device needs before it can do anything on a network. Written when the device is provisioned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Name of the device at the server.
    pub device_id: String,
    /// Kind of the device.
    pub product: String,
    /// Where the server is.
    pub server: ServerUrl,
    /// Whose certificates a server may have; at least one.
    pub anchors: Vec<CertificateDer<'static>>,
    /// Whose manifests are trusted; at least one.
    pub publishers: PublisherKeys,
    /// Wi-Fi networks, best first; none on a wired device. A damaged one is left out.
    pub wifi: Vec<WifiCredentials>,
    /// Where the device is. Without the item, with a damaged one, or with one that the radio does not know: the world.
    pub country: CountryCode,
}

/// Everything in the vault. One damaged item leaves the others readable: what to do about it is the caller's to
/// choose.
pub struct VaultContents {
    /// What the device was provisioned with.
    pub settings: Result<Settings, VaultError>,
    /// The one-time enrollment token.
    pub token: Result<Option<Zeroizing<String>>, VaultError>,
    /// The device's key, PKCS#8 DER.
    pub key: Result<Option<Zeroizing<Vec<u8>>>, VaultError>,
    /// The device's chain, its own certificate first: one for the key, where there is one.
    pub chain: Result<Option<Vec<CertificateDer<'static>>>, VaultError>,
    /// Whether two copies of the key, or of the chain, can be read and differ.
    pub is_half_saved: bool,
    /// The record of the last install, as the shell encodes it.
    pub record: Result<Option<Vec<u8>>, VaultError>,
    /// The sequence number of the record, kept a second time.
    pub sequence: Result<Option<u64>, VaultError>,
    /// The outcome of the last install or refusal, as the shell encodes it.
    pub outcome: Result<Option<Vec<u8>>, VaultError>,
    /// The time floor, in seconds since 1970-01-01 UTC.
    pub time_floor_s: Result<Option<u32>, VaultError>,
    /// The access point that was joined last.
    pub access_point: Result<Option<AccessPoint>, VaultError>,
}

impl fmt::Debug for VaultContents {
    /// Without token and key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VaultContents")
            .field("settings", &self.settings)
            .field("chain", &self.chain.as_ref().map(|chain| chain.as_ref().map(Vec::len)))
            .field("record", &self.record)
            .field("sequence", &self.sequence)
            .field("outcome", &self.outcome)
            .field("time_floor_s", &self.time_floor_s)
            .field("access_point", &self.access_point)
            .finish_non_exhaustive()
    }
}

/// An open vault. It borrows the flash: open it, use it, drop it.
pub struct Vault<'f, F: NorFlash>(Store<'f, F>);

impl<'f, F: NorFlash> Vault<'f, F> {
    /// Opens the vault in `region`. A blank region is an empty vault. It reads the whole region, one sector at a
    /// time onto the stack (4 KiB), and keeps an index of a few bytes for each item.
    ///
    /// # Errors
    /// [`VaultError::Region`] and [`VaultError::Flash`]. Damaged items are no error here.
    pub fn open(flash: &'f mut F, region: Region) -> Result<Self, VaultError> {
        Store::open(flash, region).map(Self)
    }

    /// Stands for what is damaged, while that keeps everything from being written; 0 for nothing.
    #[must_use]
    pub fn damage(&self) -> u32 {
        self.0.damage()
    }

    /// Says which damage another start has found. The same is given up with the next write.
    pub fn accept_damage(&mut self, damage: u32) {
        self.0.accept_damage(damage);
    }

    /// Reads everything.
    ///
    /// # Errors
    /// [`VaultError::Flash`] when the flash cannot be read; other errors are in the items that they concern.
    pub fn load(&mut self) -> Result<VaultContents, VaultError> {
        let Found { key, chain, is_half_saved } = self.identity()?;
        Ok(VaultContents {
            settings: unless_flash_fails(self.settings())?,
            token: unless_flash_fails(self.token())?,
            key,
            chain,
            is_half_saved,
            record: unless_flash_fails(self.record())?,
            sequence: unless_flash_fails(self.sequence())?,
            outcome: unless_flash_fails(self.outcome())?,
            time_floor_s: unless_flash_fails(self.time_floor_s())?,
            access_point: unless_flash_fails(self.access_point())?,
        })
    }

    /// Reads what the device was provisioned with.
    ///
    /// # Errors
    /// [`VaultError`], for the first item that is missing, damaged or not acceptable.
    pub fn settings(&mut self) -> Result<Settings, VaultError> {
        Ok(Settings {
            device_id: accept(key::DEVICE_ID, self.required_string(key::DEVICE_ID)?, check_device_id)?,
            product: accept(key::PRODUCT, self.required_string(key::PRODUCT)?, check_product)?,
            server: accept(key::SERVER_URL, self.required_string(key::SERVER_URL)?, |url| {
                ServerUrl::parse(&url).map_err(ItemError::ServerUrl)
            })?,
            anchors: accept(key::ANCHORS, self.required_blob(key::ANCHORS)?, |der| certificates(&der))?,
            publishers: accept(key::PUBLISHERS, self.required_blob(key::PUBLISHERS)?, |bytes| {
                check_publishers(PublisherKeys::from_bytes(&bytes).map_err(ItemError::Publishers)?)
            })?,
            wifi: self.wifi()?,
            country: self.country()?,
        })
    }

    /// Reads the one-time enrollment token.
    ///
    /// # Errors
    /// [`VaultError`]
    pub fn token(&mut self) -> Result<Option<Zeroizing<String>>, VaultError> {
        Ok(self.0.string(key::TOKEN)?.filter(|token| !token.is_empty()).map(Zeroizing::new))
    }

    /// Reads the device's key, PKCS#8 DER.
    ///
    /// # Errors
    /// [`VaultError`], when neither copy can be read.
    pub fn key(&mut self) -> Result<Option<Zeroizing<Vec<u8>>>, VaultError> {
        self.identity()?.key
    }

    /// Reads the record of the last install.
    ///
    /// # Errors
    /// [`VaultError`]
    pub fn record(&mut self) -> Result<Option<Vec<u8>>, VaultError> {
        self.0.blob(key::RECORD)
    }

    /// Reads the sequence number that is kept beside the record.
    ///
    /// # Errors
    /// [`VaultError`]
    pub fn sequence(&mut self) -> Result<Option<u64>, VaultError> {
        self.0.long_number(key::SEQUENCE)
    }

    /// Reads the outcome of the last install or refusal.
    ///
    /// # Errors
    /// [`VaultError`]
    pub fn outcome(&mut self) -> Result<Option<Vec<u8>>, VaultError> {
        self.0.blob(key::OUTCOME)
    }

    /// Reads the time floor, in seconds since 1970-01-01 UTC.
    ///
    /// # Errors
    /// [`VaultError`]
    pub fn time_floor_s(&mut self) -> Result<Option<u32>, VaultError> {
        self.0.number(key::TIME_FLOOR)
    }

    /// Reads the access point that was joined last.
    ///
    /// # Errors
    /// [`VaultError`]
    pub fn access_point(&mut self) -> Result<Option<AccessPoint>, VaultError> {
        let bytes = self.0.blob(key::ACCESS_POINT)?;
        let access_point = |bytes: Vec<u8>| {
            let found_bytes = bytes.len();
            let bytes = bytes.try_into().map_err(|_| ItemError::AccessPoint { found_bytes })?;
            Ok(AccessPoint::from_bytes(bytes))
        };
        bytes.map(|bytes| accept(key::ACCESS_POINT, bytes, access_point)).transpose()
    }

    /// Puts nothing in the place of the enrollment token. None is no error.
    ///
    /// # Errors
    /// [`VaultError`]
    pub fn clear_token(&mut self) -> Result<(), VaultError> {
        if self.token()?.is_some() { self.0.set_string(key::TOKEN, "") } else { Ok(()) }
    }

    /// Saves the device's key, PKCS#8 DER. To be called before the first certificate is asked for.
    ///
    /// # Errors
    /// [`VaultError`]
    pub fn set_key(&mut self, pkcs8: &[u8]) -> Result<(), VaultError> {
        self.0.set_blob(key::KEY, pkcs8)?;
        self.0.set_blob(key::KEY_COPY, pkcs8)
    }

    /// Saves the trust anchors in place of those that are there; at least one.
    ///
    /// # Errors
    /// [`VaultError`]; nothing is written when the anchors are not acceptable.
    pub fn set_anchors(&mut self, anchors: &[CertificateDer<'_>]) -> Result<(), VaultError> {
        let anchors = concatenate(anchors);
        accept(key::ANCHORS, anchors.as_slice(), certificates)?;
        self.0.set_blob(key::ANCHORS, &anchors)
    }

    /// Saves the record of the last install.
    ///
    /// # Errors
    /// [`VaultError`]
    pub fn set_record(&mut self, record: &[u8]) -> Result<(), VaultError> {
        self.0.set_blob(key::RECORD, record)
    }

    /// Saves the sequence number a second time, before the record that commits it.
    ///
    /// # Errors
    /// [`VaultError`]
    pub fn set_sequence(&mut self, sequence: u64) -> Result<(), VaultError> {
        self.0.set_long_number(key::SEQUENCE, sequence)
    }

    /// Saves the outcome of the last install or refusal.
    ///
    /// # Errors
    /// [`VaultError`]
    pub fn set_outcome(&mut self, outcome: &[u8]) -> Result<(), VaultError> {
        self.0.set_blob(key::OUTCOME, outcome)
    }

    /// Saves the time floor, in seconds since 1970-01-01 UTC.
    ///
    /// # Errors
    /// [`VaultError`]
    pub fn set_time_floor_s(&mut self, time_floor_s: u32) -> Result<(), VaultError> {
        self.0.set_number(key::TIME_FLOOR, time_floor_s)
    }

    /// Saves the access point that was joined last.
    ///
    /// # Errors
    /// [`VaultError`]
    pub fn set_access_point(&mut self, access_point: AccessPoint) -> Result<(), VaultError> {
        self.0.set_blob(key::ACCESS_POINT, &access_point.to_bytes())
    }

    /// Adds a Wi-Fi network, or gives the network of that name another passphrase. When there is no room for one
    /// more, it takes the place of the last.
    ///
    /// # Errors
    /// [`VaultError`]; nothing is written when the network is not acceptable.
    pub fn add_wifi(&mut self, network: &WifiCredentials) -> Result<(), VaultError> {
        let [.., last] = WIFI_KEYS;
        let mut place = last;
        for keys in WIFI_KEYS {
            match unless_flash_fails(self.0.string(keys.0))? {
                Ok(Some(ssid)) if ssid != network.ssid => {}
                Ok(Some(_) | None) | Err(_) => {
                    place = keys;
                    break;
                }
            }
        }
        let (ssid_key, passphrase_key) = place;
        accept(ssid_key, network, check_network)?;
        // The name last: a network without its passphrase would be taken for an open one.
        self.0.set_string(passphrase_key, &network.passphrase)?;
        self.0.set_string(ssid_key, &network.ssid)
    }

    fn required_string(&mut self, key: &'static str) -> Result<String, VaultError> {
        self.0.string(key)?.ok_or(VaultError::Missing { key })
    }

    fn required_blob(&mut self, key: &'static str) -> Result<Vec<u8>, VaultError> {
        self.0.blob(key)?.ok_or(VaultError::Missing { key })
    }

    fn wifi(&mut self) -> Result<Vec<WifiCredentials>, VaultError> {
        let mut networks = Vec::new();
        for (ssid_key, passphrase_key) in WIFI_KEYS {
            let ssid = unless_flash_fails(self.0.string(ssid_key))?;
            let passphrase = unless_flash_fails(self.0.string(passphrase_key))?;
            if let (Ok(Some(ssid)), Ok(passphrase)) = (ssid, passphrase) {
                let passphrase = Zeroizing::new(passphrase.unwrap_or_default());
                networks.push(WifiCredentials { ssid, passphrase });
            }
        }
        Ok(networks)
    }

    fn country(&mut self) -> Result<CountryCode, VaultError> {
        let country = unless_flash_fails(self.0.string(key::COUNTRY))?.ok().flatten();
        Ok(country.and_then(|text| CountryCode::parse(&text)).unwrap_or_default())
    }
}

/// Lets [`VaultError::Flash`] through and keeps every other error for the item.
fn unless_flash_fails<T>(item: Result<T, VaultError>) -> Result<Result<T, VaultError>, VaultError> {
    match item {
        Err(VaultError::Flash) => Err(VaultError::Flash),
        item => Ok(item),
    }
}

/// Makes something of an item, or says whose fault it is that nothing can be made of it.
fn accept<T, U>(
    key: &'static str,
    item: T,
    make: impl FnOnce(T) -> Result<U, ItemError>,
) -> Result<U, VaultError> {
    make(item).map_err(|source| VaultError::Invalid { key, source })
}

/// A device id becomes a common name and the user of HTTP Basic. The server ends that at the last colon: tokens have none.
fn check_device_id(device_id: String) -> Result<String, ItemError> {
    let found_bytes = device_id.len();
    let is_visible = device_id.bytes().all(|byte| byte.is_ascii_graphic());
    if (1..=MAX_DEVICE_ID_BYTES).contains(&found_bytes) && is_visible {
        Ok(device_id)
    } else {
        Err(ItemError::DeviceId { found_bytes })
    }
}

fn check_product(product: String) -> Result<String, ItemError> {
    if product.is_empty() { Err(ItemError::Empty) } else { Ok(product) }
}

fn check_publishers(publishers: PublisherKeys) -> Result<PublisherKeys, ItemError> {
    if publishers.is_empty() { Err(ItemError::Empty) } else { Ok(publishers) }
}

/// Takes certificates that stand one after the other apart.
pub(crate) fn certificates(der: &[u8]) -> Result<Vec<CertificateDer<'static>>, ItemError> {
    let certificates = split_certificates(der).map_err(ItemError::Certificates)?;
    Ok(certificates.into_iter().map(|der| CertificateDer::from(der.to_vec())).collect())
}

/// Certificates one after the other, as they stand in the vault.
pub(crate) fn concatenate(certificates: &[CertificateDer<'_>]) -> Vec<u8> {
    certificates.iter().flat_map(|der| der.iter().copied()).collect()
}
