//! Sizes, digests and times as people read them.

use std::borrow::Cow;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// The digits that say enough about a digest in a table.
const SHORT_DIGEST_DIGITS: usize = 12;

const MINUTE_S: i64 = 60;
const HOUR_S: i64 = 60 * MINUTE_S;
const DAY_S: i64 = 24 * HOUR_S;

/// Text of others as a terminal may have it: without what it would obey, but for the ends of lines and tabs.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    let is_shown = |char: char| wire::is_printable(char) || matches!(char, '\n' | '\t');
    if text.chars().all(is_shown) {
        text.into()
    } else {
        text.chars().filter(|char| is_shown(*char)).collect()
    }
}

/// The same, in one line.
pub(super) fn in_a_line(text: &str) -> String {
    text.chars()
        .map(|char| if matches!(char, '\n' | '\t') { ' ' } else { char })
        .filter(|char| wire::is_printable(*char))
        .collect()
}

/// `1 artifact`, `2 artifacts`.
pub(crate) fn counted(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// Bytes with thousands set apart: `3 080 192 bytes`.
pub(crate) fn bytes(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text + if count == 1 { " byte" } else { " bytes" }
}

/// A size rounded to what can be compared at a glance: `2.9 MiB`.
pub(crate) fn size(count: u64) -> String {
    const KIB: u64 = 1024;
    const MIB: u64 = 1024 * KIB;
    const GIB: u64 = 1024 * MIB;
    match count {
        0..KIB => format!("{count} B"),
        KIB..MIB => format!("{:.1} KiB", count as f64 / KIB as f64),
        MIB..GIB => format!("{:.2} MiB", count as f64 / MIB as f64),
        GIB.. => format!("{:.2} GiB", count as f64 / GIB as f64),
    }
}

/// The first digits of a hexadecimal digest.
pub(crate) fn short_digest(digest: &str) -> &str {
    digest.get(..SHORT_DIGEST_DIGITS).unwrap_or(digest)
}

/// How long ago an RFC 3339 moment was, such as `3 min ago`; the text itself when it is no such moment.
pub(crate) fn ago(moment: &str, now: OffsetDateTime) -> String {
    let Ok(then) = OffsetDateTime::parse(moment, &Rfc3339) else { return moment.to_owned() };
    let past_s = (now - then).whole_seconds();
    match past_s {
        ..MINUTE_S => "just now".to_owned(),
        MINUTE_S..HOUR_S => format!("{} min ago", past_s / MINUTE_S),
        HOUR_S..DAY_S => format!("{} h ago", past_s / HOUR_S),
        DAY_S.. => format!("{} d ago", past_s / DAY_S),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_grouped() {
        assert_eq!(bytes(1), "1 byte");
        assert_eq!(bytes(999), "999 bytes");
        assert_eq!(bytes(1_000), "1 000 bytes");
        assert_eq!(bytes(3_080_192), "3 080 192 bytes");
    }

    #[test]
    fn sizes_are_rounded() {
        assert_eq!(size(0), "0 B");
        assert_eq!(size(1023), "1023 B");
        assert_eq!(size(1536), "1.5 KiB");
        assert_eq!(size(3_080_192), "2.94 MiB");
        assert_eq!(size(8 << 30), "8.00 GiB");
    }

    #[test]
    fn past_moments() {
        let now = OffsetDateTime::parse("2026-11-22T17:00:00Z", &Rfc3339).unwrap();
        assert_eq!(ago("2026-11-22T16:59:30Z", now), "just now");
        assert_eq!(ago("2026-11-22T17:10:00Z", now), "just now");
        assert_eq!(ago("2026-11-22T16:57:00Z", now), "3 min ago");
        assert_eq!(ago("2026-11-22T12:00:00Z", now), "5 h ago");
        assert_eq!(ago("2026-11-20T12:00:00Z", now), "2 d ago");
        assert_eq!(ago("yesterday", now), "yesterday");
    }

    #[test]
    fn digests_are_shortened() {
        assert_eq!(short_digest("0123456789abcdef"), "0123456789ab");
        assert_eq!(short_digest("short"), "short");
    }
}
