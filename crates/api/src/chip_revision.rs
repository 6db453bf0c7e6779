//! Revisions of chips as people write them; the API has numbers.

/// A text that is no chip revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a chip revision such as v0.4")]
pub struct ChipRevisionError;

/// A revision as datasheets write it, `v0.4` or `0.4`, or as the API does: 4 (major * 100 + minor).
///
/// # Errors
/// It is neither.
pub fn parse(text: &str) -> Result<i64, ChipRevisionError> {
    let number = match text.strip_prefix('v').unwrap_or(text).split_once('.') {
        Some((major, minor)) => match (major.parse::<u16>(), minor.parse::<u16>()) {
            (Ok(major), Ok(minor @ 0..100)) => {
                major.checked_mul(100).and_then(|major| major.checked_add(minor))
            }
            _ => None,
        },
        None => text.parse().ok(),
    };
    number.map(i64::from).ok_or(ChipRevisionError)
}

/// A revision as datasheets write it: `v0.4`.
#[must_use]
pub fn text(revision: i64) -> String {
    format!("v{}.{}", revision / 100, revision % 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chip_revisions_are_as_datasheets_write_them() {
        for (text, expected) in [("v0.4", 4), ("0.4", 4), ("v1.01", 101), ("v3.99", 399), ("4", 4), ("0", 0)]
        {
            assert_eq!(parse(text), Ok(expected), "{text}");
        }
        for wrong in ["", "v", "v1", "1.", ".4", "v0.100", "-1", "v0.4.1", "any", "65536", "v656.0"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
        for revision in [0, 4, 101, 399, 65_535] {
            assert_eq!(parse(&text(revision)), Ok(revision));
        }
    }
}
