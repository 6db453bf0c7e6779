//! Any bytes as keys: publisher keys as the vault keeps them, a device's key as PKCS#8, a digest as text.

use manifest::{Digest, PublisherKeys};
use updater_io::pki::DeviceKey;

pub type Input<'a> = &'a [u8];

pub fn run(data: Input<'_>) {
    if let Ok(keys) = PublisherKeys::from_bytes(data) {
        assert_eq!(keys.to_bytes(), data, "one spelling");
    }
    if let Ok(key) = DeviceKey::from_pkcs8(data) {
        assert_eq!(*key.to_pkcs8(), data, "one spelling");
    }
    if let Ok(digest) = str::from_utf8(data).unwrap_or_default().parse::<Digest>() {
        assert_eq!(digest.to_string().as_bytes(), data, "one spelling");
    }
}
