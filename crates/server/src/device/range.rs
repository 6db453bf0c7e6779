//! Range requests (RFC 9110 section 14).

use axum::http::{HeaderMap, header};

/// What of an artifact to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Selection {
    /// All of it: 200.
    Whole,
    /// One part: 206. `first_byte + length_bytes` is at most the size.
    Part {
        /// Offset of the first byte.
        first_byte: u64,
        /// At least 1.
        length_bytes: u64,
    },
    /// A range without a byte of it: 416.
    Unsatisfiable,
}

/// What a request asks for, of an artifact of this size and entity tag.
///
/// `Range` holds only when `If-Range` is absent or names this very artifact (section 13.1.5); an artifact has no
/// date, so a date never does. Two `Range` lines, another unit or a malformed value are ignored, as section 14.2
/// asks for; so is a set of ranges, as it allows.
pub(super) fn select(headers: &HeaderMap, etag: &str, size_bytes: u64) -> Selection {
    let mut ranges = headers.get_all(header::RANGE).iter();
    let (Some(range), None) = (ranges.next(), ranges.next()) else { return Selection::Whole };
    let mut conditions = headers.get_all(header::IF_RANGE).iter();
    if !conditions.all(|condition| condition.as_bytes() == etag.as_bytes()) {
        return Selection::Whole;
    }
    range.to_str().map_or(Selection::Whole, |range| parse(range, size_bytes))
}

fn parse(value: &str, size_bytes: u64) -> Selection {
    let Some((unit, set)) = value.split_once('=') else { return Selection::Whole };
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return Selection::Whole;
    }
    // Lists may have empty members (section 5.6.1.2).
    let mut specs = set.split(',').map(str::trim).filter(|spec| !spec.is_empty());
    let (Some(spec), None) = (specs.next(), specs.next()) else { return Selection::Whole };
    let Some((first, last)) = spec.split_once('-') else { return Selection::Whole };
    match (first.is_empty(), last.is_empty()) {
        (true, true) => Selection::Whole,
        (true, false) => match number(last) {
            None => Selection::Whole,
            Some(suffix_bytes) => {
                let length_bytes = suffix_bytes.min(size_bytes);
                part(size_bytes - length_bytes, length_bytes)
            }
        },
        (false, is_open) => {
            let last_byte = if is_open { Some(u64::MAX) } else { number(last) };
            match number(first).zip(last_byte) {
                None => Selection::Whole,
                Some((first_byte, last_byte)) if first_byte > last_byte => Selection::Whole,
                Some((first_byte, last_byte)) => {
                    let end_byte = last_byte.saturating_add(1).min(size_bytes);
                    part(first_byte, end_byte.saturating_sub(first_byte))
                }
            }
        }
    }
}

fn part(first_byte: u64, length_bytes: u64) -> Selection {
    match length_bytes {
        0 => Selection::Unsatisfiable,
        1.. => Selection::Part { first_byte, length_bytes },
    }
}

/// Digits only; a number past 64 bits is past the end of everything.
fn number(text: &str) -> Option<u64> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;
    use proptest::prelude::*;

    const WHOLE: Selection = Selection::Whole;
    const NONE: Selection = Selection::Unsatisfiable;

    fn bytes(first_byte: u64, length_bytes: u64) -> Selection {
        Selection::Part { first_byte, length_bytes }
    }

    #[test]
    fn the_table_of_ranges() {
        for (value, expected) in [
            ("bytes=0-0", bytes(0, 1)),
            ("bytes=0-99", bytes(0, 100)),
            ("bytes=0-100", bytes(0, 100)),
            ("bytes=10-", bytes(10, 90)),
            ("bytes=99-", bytes(99, 1)),
            ("bytes=99-99999999999999999999999", bytes(99, 1)),
            ("bytes=-1", bytes(99, 1)),
            ("bytes=-100", bytes(0, 100)),
            ("bytes=-999", bytes(0, 100)),
            ("BYTES=5-6", bytes(5, 2)),
            ("bytes=, 5-6 ,", bytes(5, 2)),
            ("bytes=100-", NONE),
            ("bytes=100-200", NONE),
            ("bytes=99999999999999999999999-", NONE),
            ("bytes=-0", NONE),
            ("bytes=6-5", WHOLE),
            ("bytes=", WHOLE),
            ("bytes=-", WHOLE),
            ("bytes", WHOLE),
            ("bytes=a-b", WHOLE),
            ("bytes=+1-2", WHOLE),
            ("bytes=1-2-3", WHOLE),
            ("bytes=1-2,4-5", WHOLE),
            ("chunks=0-1", WHOLE),
        ] {
            assert_eq!(parse(value, 100), expected, "{value}");
        }
        assert_eq!(parse("bytes=0-", 0), NONE);
        assert_eq!(parse("bytes=-5", 0), NONE);
    }

    #[test]
    fn if_range_must_name_the_artifact() {
        let select_with = |condition: Option<&'static str>| {
            let mut headers = HeaderMap::new();
            headers.insert(header::RANGE, HeaderValue::from_static("bytes=1-2"));
            if let Some(condition) = condition {
                headers.insert(header::IF_RANGE, HeaderValue::from_static(condition));
            }
            select(&headers, "\"abc\"", 100)
        };
        assert_eq!(select_with(None), bytes(1, 2));
        assert_eq!(select_with(Some("\"abc\"")), bytes(1, 2));
        for other in ["\"abd\"", "W/\"abc\"", "abc", "Sun, 22 Nov 2026 17:00:00 GMT"] {
            assert_eq!(select_with(Some(other)), WHOLE, "{other}");
        }
    }

    #[test]
    fn two_range_lines_are_ignored() {
        let mut headers = HeaderMap::new();
        headers.append(header::RANGE, HeaderValue::from_static("bytes=1-2"));
        headers.append(header::RANGE, HeaderValue::from_static("bytes=3-4"));
        assert_eq!(select(&headers, "\"abc\"", 100), WHOLE);
    }

    proptest! {
        #[test]
        fn a_part_is_never_empty_and_never_past_the_end(value in "bytes=[0-9,. -]{0,24}", size_bytes in 0_u64..200) {
            match parse(&value, size_bytes) {
                Selection::Part { first_byte, length_bytes } => {
                    prop_assert!(length_bytes > 0 && first_byte + length_bytes <= size_bytes);
                }
                Selection::Whole | Selection::Unsatisfiable => {}
            }
        }

        #[test]
        fn well_formed_ranges_follow_the_rule(first in 0_u64..300, length in 1_u64..300, size_bytes in 0_u64..200) {
            let expected = match size_bytes.saturating_sub(first).min(length) {
                0 => Selection::Unsatisfiable,
                length_bytes => Selection::Part { first_byte: first, length_bytes },
            };
            prop_assert_eq!(parse(&format!("bytes={first}-{}", first + length - 1), size_bytes), expected);
        }
    }
}
