//! Values of options that several commands share; checked here so that a typing error is a matter of usage.

use std::str::FromStr;
use std::time::Duration;

use api::UnknownName;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use flashfmt::Chip;
use flashfmt::chip::UnknownChipName;
use rollout::Percent;
use time::format_description::well_known::{Iso8601, Rfc3339};
use time::{Date, OffsetDateTime, UtcOffset};

use crate::client::Client;
use crate::failure::Failure;
use crate::publish::{self, PublishError};

/// As many releases are looked through for a version.
pub(crate) const SEARCHED_RELEASES: usize = 1000;

/// The longest product name or device id, in bytes.
const MAX_NAME_BYTES: usize = 64;

/// A product name: `[a-z0-9-]{1,64}`.
pub(crate) fn product(text: &str) -> Result<String, String> {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    checked(text, allowed, "lower-case letters, digits and `-`")
}

/// A device id: `[A-Za-z0-9._:-]{1,64}`, but not `.` and `..`, which are steps in a path. New ones begin with a letter, a digit
/// or `_`, which the server says.
pub(crate) fn device(text: &str) -> Result<String, String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b':' | b'-');
    if matches!(text, "." | "..") {
        return Err("expected more than dots".to_owned());
    }
    checked(text, allowed, "letters, digits, `.`, `_`, `:` and `-`")
}

/// The id of a device that is to be made.
pub(crate) fn new_device(text: &str) -> Result<String, String> {
    let id = device(text)?;
    if id.starts_with(['.', ':', '-']) {
        return Err(format!("expected an id that begins with a letter, a digit or `_`, found {id}"));
    }
    Ok(id)
}

/// A chip's name, such as `esp32c3` or `ESP32-C3`.
pub(crate) fn chip(text: &str) -> Result<Chip, String> {
    text.parse().map_err(|error: UnknownChipName| error.to_string())
}

/// A size of flash: whole megabytes.
pub(crate) fn flash_size(text: &str) -> Result<u32, String> {
    let digits = text.trim_end_matches(['B', 'b']).trim_end_matches(['M', 'm']);
    match digits.trim_end().parse::<u32>() {
        Ok(megabytes) if (1..=128).contains(&megabytes) && digits.len() < text.len() => Ok(megabytes << 20),
        Ok(_) | Err(_) => Err("expected a size of flash from 1MB to 128MB, such as 4MB".to_owned()),
    }
}

/// The sequence number of the one release that is named by its version or its number (`3`, `#3`).
///
/// # Errors
/// When there is none, or several releases have the version: then all are named.
pub(crate) fn sequence_of(client: &Client, product: &str, release: &str) -> Result<i64, Failure> {
    let published = client.releases(product, SEARCHED_RELEASES)?;
    let number = release.strip_prefix('#').unwrap_or(release).parse().ok();
    match (publish::sequence_of(release, &published.items), number) {
        // Of more releases than are looked through, a number is one that the server knows.
        (Err(PublishError::UnknownVersion { .. }), Some(number)) if published.next_cursor.is_some() => {
            Ok(number)
        }
        (found, _) => Ok(found?),
    }
}

/// The beginning of a time: RFC 3339, or a date for the beginning of that day in UTC.
pub(crate) fn start(text: &str) -> Result<OffsetDateTime, String> {
    moment(text, |date| Some(date.midnight().assume_utc()))
}

/// The end of a time: RFC 3339, or a date for the end of that day in UTC, whatever it is that ends.
pub(crate) fn end(text: &str) -> Result<OffsetDateTime, String> {
    moment(text, |date| date.next_day().map(|next| next.midnight().assume_utc()))
}

fn moment(text: &str, of_day: impl Fn(Date) -> Option<OffsetDateTime>) -> Result<OffsetDateTime, String> {
    OffsetDateTime::parse(text, &Rfc3339)
        .ok()
        .or_else(|| Date::parse(text, &Iso8601::DATE).ok().and_then(of_day))
        .ok_or_else(|| {
            "expected a date such as 2027-06-30, or a moment such as 2027-06-30T12:00:00Z".to_owned()
        })
}

/// A length of time, such as `90m`, `2h` or `1d 12h`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .map_err(|_| "expected a length of time with its unit, such as 30s, 90m, 2h or 7d".to_owned())
}

/// A length of time in whole days, such as `30d`.
pub(crate) fn days(text: &str) -> Result<i64, String> {
    const DAY_S: u64 = 24 * 60 * 60;
    match duration(text) {
        Ok(length) if length.as_secs() % DAY_S == 0 => Ok(signed(length.as_secs() / DAY_S)),
        Ok(_) | Err(_) => Err("expected a number of whole days, such as 30d".to_owned()),
    }
}

/// A share, such as `1%`, `2.5%` or `50`.
pub(crate) fn share(text: &str) -> Result<Percent, String> {
    text.parse()
        .map_err(|_| "expected a share from 0% to 100%, in steps of 0.01%, such as 1% or 12.5%".to_owned())
}

/// A whole number from 1 on.
pub(crate) fn count(text: &str) -> Result<u64, String> {
    text.parse().ok().filter(|count| *count > 0).ok_or_else(|| "expected a number from 1 on".to_owned())
}

/// A whole number.
pub(crate) fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| "expected a whole number".to_owned())
}

/// As the API takes numbers.
pub(crate) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// One of the names of an enum of the API.
pub(crate) fn one_of<T>(names: impl IntoIterator<Item = &'static str>) -> impl TypedValueParser<Value = T>
where
    T: FromStr<Err = UnknownName> + Clone + Send + Sync + 'static,
{
    PossibleValuesParser::new(names).try_map(|name| name.parse())
}

/// The lowest revision of a product's chips.
pub(crate) fn chip_revision(text: &str) -> Result<i64, String> {
    api::chip_revision::parse(text).map_err(|error| error.to_string())
}

/// As [`chip_revision`]; `any` for a product whose chips may be of any.
pub(crate) fn chip_revision_or_any(text: &str) -> Result<MinRevision, String> {
    if text == "any" {
        return Ok(MinRevision(None));
    }
    let revision = chip_revision(text).map_err(|error| format!("{error}, or any"))?;
    Ok(MinRevision(Some(revision)))
}

/// The lowest revision of a product's chips; `None`: any.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MinRevision(pub(crate) Option<i64>);

/// As the API takes moments.
pub(crate) fn rfc3339(moment: OffsetDateTime) -> Result<String, Failure> {
    let year = |_| Failure::usage("expected a moment before the year 10000");
    moment.to_offset(UtcOffset::UTC).format(&Rfc3339).map_err(year)
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
    fn moments_are_dates_or_times() {
        let seconds = |text: &str| {
            (start(text).map(OffsetDateTime::unix_timestamp), end(text).map(OffsetDateTime::unix_timestamp))
        };
        assert_eq!(seconds("1970-01-01"), (Ok(0), Ok(86_400)), "a day has a beginning and an end");
        assert_eq!(seconds("1970-01-01T00:00:10Z"), (Ok(10), Ok(10)));
        assert_eq!(seconds("1970-01-01T01:00:10+01:00"), (Ok(10), Ok(10)));
        for wrong in ["", "tomorrow", "2027-13-01", "2027-06-30 12:00", "30.6.2027"] {
            assert!(start(wrong).is_err() && end(wrong).is_err(), "{wrong}");
        }
        let evening = end("1970-01-01T23:30:00-01:00").unwrap();
        assert_eq!(rfc3339(evening).unwrap(), "1970-01-02T00:30:00Z");
    }

    #[test]
    fn what_is_no_value_is_told_in_a_sentence() {
        for error in [
            duration("long").unwrap_err(),
            duration("90").unwrap_err(),
            share("all").unwrap_err(),
            share("200%").unwrap_err(),
            count("0").unwrap_err(),
            count("many").unwrap_err(),
            number("-1").unwrap_err(),
            chip_revision("new").unwrap_err(),
            chip_revision_or_any("v1").unwrap_err(),
        ] {
            assert!(error.starts_with("expected "), "{error}");
        }
        assert_eq!(chip_revision_or_any("any"), Ok(MinRevision(None)));
        assert_eq!(duration("90m"), Ok(Duration::from_secs(5400)));
    }

    #[test]
    fn names_that_addresses_can_carry() {
        assert_eq!(product("lamp-2"), Ok("lamp-2".to_owned()));
        assert_eq!(device("Lamp_0001.a"), Ok("Lamp_0001.a".to_owned()));
        assert_eq!(new_device("AA:BB:CC:DD:EE:FF"), Ok("AA:BB:CC:DD:EE:FF".to_owned()));
        for wrong in ["-rf", ".a", ":a", "..", ""] {
            assert!(new_device(wrong).is_err(), "{wrong}");
        }
        for wrong in ["", "Lamp", "a/b", "a b", "lamp?", "é", &"a".repeat(65)] {
            assert!(product(wrong).is_err(), "{wrong}");
        }
        for wrong in ["", ".", "..", "a/b", "a b", "a?b", "a%2f", "é", &"a".repeat(65)] {
            assert!(device(wrong).is_err(), "{wrong}");
        }
    }
}
