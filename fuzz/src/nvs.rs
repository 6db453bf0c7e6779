//! Vaults that are damaged and whose checksums are right all the same.

use std::sync::OnceLock;

use esp_nvs::platform::software_crc32;
use manifest::{PublisherKeys, PublisherSigningKey};
use updater_io::country::CountryCode;
use updater_io::platform::WifiCredentials;
use updater_io::region::Region;
use updater_io::vault::{Provisioning, ServerUrl, provision};

use crate::flash::NorMock;

/// Sectors of the vault.
pub const SECTORS: u32 = 4;
pub const SECTOR_BYTES: usize = 4096;
pub const REGION: Region = Region { offset: 0, size_bytes: SECTORS * SECTOR_BYTES as u32 };

/// Header and state bitmap of a page come before its entries (`nvs_page.hpp` of ESP-IDF).
const HEADER_BYTES: usize = 32;
const FIRST_ENTRY: usize = 64;
const ENTRY_BYTES: usize = 32;

/// A provisioned vault.
pub fn vault() -> NorMock {
    static VAULT: OnceLock<Vec<u8>> = OnceLock::new();
    let bytes = VAULT.get_or_init(|| {
        let mut flash = NorMock::blank(REGION.size_bytes as usize);
        let server = ServerUrl::parse("https://updates.example:8443").unwrap();
        let secret = p256::SecretKey::from_slice(&[7; 32]).unwrap();
        let publishers = PublisherKeys::from_iter([PublisherSigningKey::new(secret).publisher_key()]);
        let anchor = include_bytes!("../../crates/updater-io/tests/golden/ca.der").as_slice().into();
        let provisioning = Provisioning {
            device_id: "lamp-1",
            product: "lamp",
            server: &server,
            token: Some("once"),
            anchors: &[anchor],
            publishers: &publishers,
            wifi: &[WifiCredentials { ssid: "pit".into(), passphrase: "pitstoppit".to_owned().into() }],
            country: CountryCode::WORLD,
            time_floor_s: Some(1_795_000_000),
        };
        provision(&mut flash, REGION, &provisioning).unwrap();
        flash.bytes
    });
    NorMock::new(bytes.clone())
}

/// Puts `bytes` at `address`, and makes the checksums right of the page header and of the entries that they touch.
pub fn put(flash: &mut [u8], address: usize, bytes: &[u8]) {
    for (index, byte) in bytes.iter().enumerate() {
        if let Some(old) = flash.get_mut(address + index) {
            *old = *byte;
        }
    }
    let end = (address + bytes.len()).min(flash.len());
    for at in (address / ENTRY_BYTES * ENTRY_BYTES..end).step_by(ENTRY_BYTES) {
        let in_page = at % SECTOR_BYTES;
        let record = &mut flash[at..at + ENTRY_BYTES];
        if in_page < HEADER_BYTES {
            // From the sequence number to the checksum itself.
            let checksum = software_crc32(u32::MAX, &record[4..28]);
            record[28..].copy_from_slice(&checksum.to_le_bytes());
        } else if in_page >= FIRST_ENTRY {
            // Everything but the checksum itself.
            let checksum = software_crc32(software_crc32(u32::MAX, &record[..4]), &record[8..]);
            record[4..8].copy_from_slice(&checksum.to_le_bytes());
        }
    }
}
