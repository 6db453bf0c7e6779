//! Values of options that several commands share; checked here so that a typing error is a matter of usage.

use flashfmt::Chip;
use flashfmt::chip::UnknownChipName;
use time::format_description::well_known::{Iso8601, Rfc3339};
use time::{Date, OffsetDateTime};

use crate::client::Client;
use crate::failure::Failure;
use crate::publish;

/// As many releases are looked through for a version.
pub(crate) const SEARCHED_RELEASES: usize = 1000;

/// The longest product name or device id, in bytes.
const MAX_NAME_BYTES: usize = 64;

/// A product name: `[a-z0-9-]{1,64}`.
pub(crate) fn product(text: &str) -> Result<String, String> {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    checked(text, allowed, "lower-case letters, digits and `-`")
}

/// A device id: `[A-Za-z0-9._-]{1,64}`, but not `.` and `..`, which are steps in a path.
pub(crate) fn device(text: &str) -> Result<String, String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if matches!(text, "." | "..") {
        return Err("expected more than dots".to_owned());
    }
    checked(text, allowed, "letters, digits, `.`, `_` and `-`")
}

/// A chip's name, such as `esp32c3` or `ESP32-C3`.
pub(crate) fn chip(text: &str) -> Result<Chip, String> {
    text.parse().map_err(|error: UnknownChipName| error.to_string())
}

/// The sequence number of a release that is named by its version or its number.
pub(crate) fn sequence_of(client: &Client, product: &str, release: &str) -> Result<u64, Failure> {
    let published = client.releases(product, SEARCHED_RELEASES)?.items;
    let found = publish::sequences_of(&[release.to_owned()], &published)?;
    // In ascending order: of releases with one version the newest is meant.
    found
        .last()
        .map(|sequence| sequence.0)
        .ok_or_else(|| Failure::new(format!("there is no release {release}")))
}

/// A moment: RFC 3339, or a date for the beginning of that day in UTC.
pub(crate) fn moment(text: &str) -> Result<String, String> {
    if OffsetDateTime::parse(text, &Rfc3339).is_ok() {
        return Ok(text.to_owned());
    }
    match Date::parse(text, &Iso8601::DATE) {
        Ok(_) => Ok(format!("{text}T00:00:00Z")),
        Err(_) => {
            Err("expected a date such as 2027-06-30, or a moment such as 2027-06-30T12:00:00Z".to_owned())
        }
    }
}

/// How many entries of a list to show: at least one.
pub(crate) fn limit(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|limit| *limit > 0).ok_or_else(|| "expected a number from 1 on".to_owned())
}

fn checked(text: &str, allowed: impl Fn(u8) -> bool, what: &str) -> Result<String, String> {
    if text.is_empty() || text.len() > MAX_NAME_BYTES {
        return Err(format!("expected 1 to {MAX_NAME_BYTES} characters, found {}", text.len()));
    }
    if !text.bytes().all(allowed) {
        return Err(format!("expected {what} only"));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_begin_at_one() {
        assert_eq!(limit("1"), Ok(1));
        for wrong in ["0", "-1", "", "many"] {
            assert!(limit(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn names_that_addresses_can_carry() {
        assert_eq!(product("lamp-2"), Ok("lamp-2".to_owned()));
        assert_eq!(device("Lamp_0001.a"), Ok("Lamp_0001.a".to_owned()));
        for wrong in ["", "Lamp", "a/b", "a b", "lamp?", "é", &"a".repeat(65)] {
            assert!(product(wrong).is_err(), "{wrong}");
        }
        for wrong in ["", ".", "..", "a/b", "a b", "a?b", "a%2f", "é", &"a".repeat(65)] {
            assert!(device(wrong).is_err(), "{wrong}");
        }
    }
}
