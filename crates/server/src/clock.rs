//! The server's clock: milliseconds since 1970 (UTC) inside, RFC 3339 outside.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::pki_types::UnixTime;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use time::macros::datetime;
use tokio::sync::Notify;

/// A day, in the unit of all times.
pub(crate) const DAY_MS: i64 = 24 * 3_600_000;

/// The server's clock. It shows the time of the machine, and can be set ahead, for tests and for demonstrations of plans
/// that take days. Clones are one clock.
#[derive(Clone, Debug, Default)]
pub struct Clock(Arc<Hands>);

#[derive(Debug, Default)]
struct Hands {
    /// Time that passed, as far as everybody is concerned.
    ahead_ms: AtomicI64,
    /// By how much the machine's clock is wrong.
    wrong_ms: AtomicI64,
    moved: Notify,
}

impl Clock {
    /// Now, in milliseconds since 1970.
    #[must_use]
    pub fn now_ms(&self) -> i64 {
        self.machine_ms().saturating_add(self.0.ahead_ms.load(Ordering::Acquire))
    }

    /// Now, in whole seconds: the precision of certificates.
    pub(crate) fn now_utc(&self) -> OffsetDateTime {
        from_ms(self.now_ms())
    }

    /// The same without what was set ahead: it jumps when the machine's clock does, and when the machine slept.
    #[must_use]
    pub fn machine_ms(&self) -> i64 {
        now_ms().saturating_add(self.0.wrong_ms.load(Ordering::Acquire))
    }

    /// Sets the clock ahead by so many milliseconds.
    pub fn advance_ms(&self, by_ms: i64) {
        self.0.ahead_ms.fetch_add(by_ms, Ordering::AcqRel);
        self.0.moved.notify_one();
    }

    /// Makes the machine's clock jump by so many milliseconds, forward or back: for tests.
    pub fn jump_ms(&self, by_ms: i64) {
        self.0.wrong_ms.fetch_add(by_ms, Ordering::AcqRel);
        self.0.moved.notify_one();
    }

    /// Returns when the clock was set.
    pub(crate) async fn moved(&self) {
        self.0.moved.notified().await;
    }
}

/// The time before which no clock is right: 2026-01-01T00:00:00Z. This software is of that year.
pub(crate) const EARLIEST: OffsetDateTime = datetime!(2026-01-01 00:00 UTC);

/// Now, in milliseconds since 1970.
pub(crate) fn now_ms() -> i64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX)
}

impl rustls::time_provider::TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        let since_epoch = Duration::from_millis(u64::try_from(self.now_ms()).unwrap_or_default());
        Some(UnixTime::since_unix_epoch(since_epoch))
    }
}

/// Now, in whole seconds, by the machine's clock.
#[cfg(test)]
pub(crate) fn now_utc() -> OffsetDateTime {
    from_ms(now_ms())
}

/// A time in milliseconds since 1970, in whole seconds.
pub(crate) fn from_ms(at_ms: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(at_ms.div_euclid(1000)).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

/// A time as RFC 3339 in UTC with whole seconds, such as `2026-11-22T17:00:00Z`.
pub(crate) fn rfc3339(at_ms: i64) -> String {
    // Formatting fails for years past 9999 only.
    from_ms(at_ms).format(&Rfc3339).unwrap_or_default()
}

/// The milliseconds since 1970 of a time as RFC 3339 writes it; `None` for other text.
pub(crate) fn parse_rfc3339(text: &str) -> Option<i64> {
    let time = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    i64::try_from(time.unix_timestamp_nanos().div_euclid(1_000_000)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_whole_seconds() {
        assert_eq!(rfc3339(1_795_366_800_999), "2026-11-22T17:00:00Z");
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
        assert_eq!(parse_rfc3339("2026-11-22T18:00:00.999+01:00"), Some(1_795_366_800_999));
        assert_eq!(parse_rfc3339("2026-11-22"), None);
    }
}
