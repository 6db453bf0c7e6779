//! A vault in which anything may stand, with checksums that are right: what is read, what is written then, and what is
//! read after that.

use crate::flash::NorMock;
use crate::nvs::{self, REGION};
use arbitrary::Arbitrary;
use updater_io::platform::{AccessPoint, WifiCredentials};
use updater_io::vault::Vault;

#[derive(Arbitrary, Debug)]
pub struct Input<'a> {
    start: Start,
    /// Bytes with the checksums around them.
    checked: Vec<(u16, &'a [u8])>,
    /// Bytes alone.
    bytes: Vec<(u16, &'a [u8])>,
    writes: Vec<Write<'a>>,
}

#[derive(Arbitrary, Debug)]
enum Start {
    Provisioned,
    Blank,
    Zeros,
}

#[derive(Arbitrary, Debug)]
enum Write<'a> {
    Record(&'a [u8]),
    Outcome(&'a [u8]),
    Key(&'a [u8]),
    TimeFloor(u32),
    AccessPoint([u8; 8]),
    ClearToken,
    Wifi(&'a str, &'a str),
}

pub fn run(input: Input<'_>) {
    let mut flash = match input.start {
        Start::Provisioned => nvs::vault(),
        Start::Blank => NorMock::blank(REGION.size_bytes as usize),
        Start::Zeros => NorMock::new(vec![0; REGION.size_bytes as usize]),
    };
    for (place, bytes) in input.bytes {
        for (at, byte) in (usize::from(place)..flash.bytes.len()).zip(bytes) {
            flash.bytes[at] = *byte;
        }
    }
    let is_forged = !input.checked.is_empty();
    for (place, bytes) in input.checked {
        nvs::put(&mut flash.bytes, usize::from(place), bytes);
    }
    read(&mut flash);
    for write in input.writes.iter().take(8) {
        perform(&mut flash, write, is_forged);
    }
    read(&mut flash);
}

/// Reads everything there is. Whatever it is, reading it twice gives the same.
fn read(flash: &mut NorMock) {
    let Ok(mut vault) = Vault::open(flash, REGION) else { return };
    let Ok(first) = vault.load() else { return };
    let second = vault.load().unwrap();
    assert_eq!(format!("{first:?}"), format!("{second:?}"));
    if let Ok(settings) = &first.settings {
        assert!(!settings.anchors.is_empty() && !settings.publishers.is_empty());
        assert!((1..=64).contains(&settings.device_id.len()) && !settings.product.is_empty());
    }
}

/// Writes into the vault. What was written without an error is read after the next start, unless somebody who knows the
/// format has been at it: then the namespace, for one, may be any.
fn perform(flash: &mut NorMock, write: &Write<'_>, is_forged: bool) {
    let Ok(mut vault) = Vault::open(flash, REGION) else { return };
    let is_written = match *write {
        Write::Record(record) => vault.set_record(record),
        Write::Outcome(outcome) => vault.set_outcome(outcome),
        Write::Key(key) => vault.set_key(key),
        Write::TimeFloor(time_floor_s) => vault.set_time_floor_s(time_floor_s),
        Write::AccessPoint(bytes) => vault.set_access_point(AccessPoint::from_bytes(bytes)),
        Write::ClearToken => vault.clear_token(),
        Write::Wifi(ssid, passphrase) => vault.add_wifi(&network(ssid, passphrase)),
    };
    if is_written.is_err() || is_forged {
        return;
    }
    let mut vault = Vault::open(flash, REGION).unwrap();
    match *write {
        Write::Record(record) => assert_eq!(vault.record().unwrap().as_deref(), Some(record)),
        Write::Outcome(outcome) => assert_eq!(vault.outcome().unwrap().as_deref(), Some(outcome)),
        Write::Key(key) => {
            assert_eq!(vault.key().unwrap().as_ref().map(|key| key.as_slice()), Some(key));
        }
        Write::TimeFloor(time_floor_s) => assert_eq!(vault.time_floor_s(), Ok(Some(time_floor_s))),
        Write::AccessPoint(bytes) => {
            assert_eq!(vault.access_point(), Ok(Some(AccessPoint::from_bytes(bytes))));
        }
        Write::ClearToken => assert_eq!(vault.token(), Ok(None)),
        Write::Wifi(ssid, passphrase) => {
            if let Ok(settings) = vault.settings() {
                assert!(settings.wifi.contains(&network(ssid, passphrase)));
            }
        }
    }
}

fn network(ssid: &str, passphrase: &str) -> WifiCredentials {
    WifiCredentials { ssid: ssid.into(), passphrase: passphrase.to_owned().into() }
}
