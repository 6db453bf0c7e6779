//! Values of options that several commands share; checked here so that a typing error is a matter of usage.

use flashfmt::Chip;
use flashfmt::chip::UnknownChipName;

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
