//! Certificate requests: any bytes, any DER in base64, the device's own, and the device's own with changed bytes.

/// The server's file itself: it is private there.
#[path = "../../../crates/server/src/device/est/csr.rs"]
mod server;

use std::sync::OnceLock;

use arbitrary::Arbitrary;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use p256::pkcs8::EncodePrivateKey;
use rcgen::PublicKeyData as _;
use updater_io::pki::{DeviceKey, MAX_DEVICE_ID_BYTES, csr};

#[derive(Arbitrary, Debug)]
pub enum Input<'a> {
    Bytes(&'a [u8]),
    Der(&'a [u8]),
    Device(&'a str),
    Changed(Vec<(u8, u8)>),
}

pub fn run(input: Input<'_>) {
    let key = device_key();
    let read = |der: &[u8]| server::public_key(BASE64_STANDARD.encode(der).as_bytes());
    match input {
        Input::Bytes(bytes) => {
            let _ = server::public_key(bytes);
        }
        Input::Der(der) => {
            if let Ok(found) = read(der) {
                assert!(der.windows(65).any(|window| window == found.der_bytes()));
            }
        }
        // Every request that a device can make is understood.
        Input::Device(id) => match csr(key, id) {
            Ok(der) => assert_eq!(read(&der).unwrap().der_bytes(), key.public_key()),
            Err(_) => assert!(!(1..=MAX_DEVICE_ID_BYTES).contains(&id.len())),
        },
        // What was changed is not signed any more.
        Input::Changed(changes) => {
            let good = csr(key, "lamp-1").unwrap();
            let mut der = good.clone();
            for (place, byte) in changes {
                let place = usize::from(place) % der.len();
                der[place] = byte;
            }
            if let Ok(found) = read(&der) {
                assert_eq!(found.der_bytes(), key.public_key());
                // What is signed ends with an empty set of attributes; before it are two heads and the version.
                let end = good.windows(2).rposition(|bytes| bytes == [0xA0, 0]).unwrap();
                assert!(der[10..end] == good[10..end], "accepted with another subject or key");
            }
        }
    }
}

fn device_key() -> &'static DeviceKey {
    static KEY: OnceLock<DeviceKey> = OnceLock::new();
    KEY.get_or_init(|| {
        let secret = p256::SecretKey::from_slice(&[7; 32]).unwrap();
        DeviceKey::from_pkcs8(secret.to_pkcs8_der().unwrap().as_bytes()).unwrap()
    })
}
