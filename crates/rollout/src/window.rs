//! Schedule windows: the hours of the week in which a rollout offers its release.

use std::fmt;

use serde::{Deserialize, Serialize};

const MINUTE_MS: i64 = 60_000;
const MINUTES_A_DAY: u16 = 24 * 60;
const DAY_MS: i64 = MINUTES_A_DAY as i64 * MINUTE_MS;
const WEEK_MS: i64 = 7 * DAY_MS;

/// 1970-01-01 was a Thursday: the fourth day of a week that begins on Monday.
const EPOCH_DAY: i64 = 3;

/// Hours of the week in UTC. In JSON `{"days": ["sat", "sun"], "from": "22:00", "to": "06:00"}`.
///
/// It opens at `from` on each of the days, and closes at `to`: of the next day when that is not later than `from`. So
/// equal times mean 24 hours.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Unchecked")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "openapi", schema(as = RolloutWindow))]
pub struct Window {
    days: Vec<Day>,
    from: TimeOfDay,
    to: TimeOfDay,
}

/// A day of the week.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "their names say it")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "openapi", schema(as = RolloutDay))]
pub enum Day {
    Mon,
    Tue,
    Wed,
    Thu,
    Fri,
    Sat,
    Sun,
}

/// Minutes since midnight, in JSON as text such as `06:30`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "openapi", schema(value_type = String, pattern = "^([01][0-9]|2[0-3]):[0-5][0-9]$"))]
pub struct TimeOfDay(u16);

/// Why a window is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WindowError {
    /// It would never open.
    #[error(
        "expected at least one day (mon, tue, wed, thu, fri, sat, sun), found none; leave the window out for always"
    )]
    NoDays,
    /// No time of day.
    #[error("expected a time from 00:00 to 23:59, found {found:?}")]
    Time {
        /// The text.
        found: String,
    },
}

impl Day {
    /// All days, Monday first.
    pub const ALL: [Self; 7] = [Self::Mon, Self::Tue, Self::Wed, Self::Thu, Self::Fri, Self::Sat, Self::Sun];
}

impl Window {
    /// A window on these days, from one time to the other, in UTC.
    ///
    /// # Errors
    /// [`WindowError::NoDays`].
    pub fn new(mut days: Vec<Day>, from: TimeOfDay, to: TimeOfDay) -> Result<Self, WindowError> {
        if days.is_empty() {
            return Err(WindowError::NoDays);
        }
        days.sort_unstable();
        days.dedup();
        Ok(Self { days, from, to })
    }

    /// How long it is closed from `now_ms` (milliseconds since 1970) on; `None` while it is open.
    #[must_use]
    pub fn closed_for_ms(&self, now_ms: i64) -> Option<i64> {
        let (open_ms, _) = self.opening(now_ms);
        (open_ms > now_ms).then(|| open_ms - now_ms)
    }

    /// The moment by which the window was open for `duration_ms`, from `start_ms` on.
    #[must_use]
    pub fn after_open_ms(&self, start_ms: i64, duration_ms: i64) -> i64 {
        // The same hours every week: whole weeks need no walk, but the last one does, whose last opening may end long before
        // the week.
        let weeks = (duration_ms - 1).max(0) / self.open_ms_a_week();
        let mut left_ms = duration_ms - weeks * self.open_ms_a_week();
        let mut at_ms = start_ms + weeks * WEEK_MS;
        while left_ms > 0 {
            let (open_ms, close_ms) = self.opening(at_ms);
            let from_ms = open_ms.max(at_ms);
            let step_ms = left_ms.min(close_ms - from_ms);
            left_ms -= step_ms;
            at_ms = from_ms + step_ms;
        }
        at_ms
    }

    /// The opening that `now_ms` is in, or the next one: when it opens and when it closes.
    fn opening(&self, now_ms: i64) -> (i64, i64) {
        let today = now_ms.div_euclid(DAY_MS);
        // From yesterday, whose opening may last until today, to the same day of next week.
        for day in today - 1..=today + 7 {
            let open_ms = day * DAY_MS + self.from.ms();
            let close_ms = open_ms + self.length_ms();
            if self.opens_on(day) && close_ms > now_ms {
                return (open_ms, close_ms);
            }
        }
        // There is a day, so one of the eight fits.
        (now_ms, now_ms + self.length_ms())
    }

    fn opens_on(&self, day: i64) -> bool {
        let weekday = (day + EPOCH_DAY).rem_euclid(7);
        self.days.iter().any(|day| *day as i64 == weekday)
    }

    fn length_ms(&self) -> i64 {
        let length_ms = self.to.ms() - self.from.ms();
        if length_ms > 0 { length_ms } else { length_ms + DAY_MS }
    }

    fn open_ms_a_week(&self) -> i64 {
        // Openings do not overlap: none is longer than a day.
        self.days.len() as i64 * self.length_ms()
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let days: Vec<_> = self.days.iter().map(|day| format!("{day:?}").to_lowercase()).collect();
        write!(f, "{} {}-{} UTC", days.join(","), String::from(self.from), String::from(self.to))
    }
}

impl TimeOfDay {
    fn ms(self) -> i64 {
        i64::from(self.0) * MINUTE_MS
    }
}

impl TryFrom<String> for TimeOfDay {
    type Error = WindowError;

    fn try_from(text: String) -> Result<Self, WindowError> {
        let number = |digits: &str| {
            (digits.len() == 2 && digits.bytes().all(|byte| byte.is_ascii_digit()))
                .then(|| digits.parse::<u16>().ok())
                .flatten()
        };
        text.split_once(':')
            .and_then(|(hours, minutes)| Some((number(hours)?, number(minutes)?)))
            .filter(|(hours, minutes)| *hours < 24 && *minutes < 60)
            .map(|(hours, minutes)| Self(hours * 60 + minutes))
            .ok_or(WindowError::Time { found: text })
    }
}

impl From<TimeOfDay> for String {
    fn from(time: TimeOfDay) -> Self {
        format!("{:02}:{:02}", time.0 / 60, time.0 % 60)
    }
}

/// A window as it is read, before it is checked.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Unchecked {
    #[serde(default = "every_day")]
    days: Vec<Day>,
    from: TimeOfDay,
    to: TimeOfDay,
}

fn every_day() -> Vec<Day> {
    Day::ALL.to_vec()
}

impl TryFrom<Unchecked> for Window {
    type Error = WindowError;

    fn try_from(window: Unchecked) -> Result<Self, WindowError> {
        Self::new(window.days, window.from, window.to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_MS: i64 = 60 * MINUTE_MS;
    /// 2026-11-23, a Monday.
    const MONDAY_MS: i64 = 1_795_392_000_000;

    fn window(json: &str) -> Window {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn opens_and_closes_on_time() {
        let office = window(r#"{"days":["tue"],"from":"09:00","to":"17:30"}"#);
        let tuesday_ms = MONDAY_MS + DAY_MS;
        let opens_ms = tuesday_ms + 9 * HOUR_MS;
        assert_eq!(office.closed_for_ms(MONDAY_MS), Some(33 * HOUR_MS));
        assert_eq!(office.closed_for_ms(opens_ms - 1), Some(1));
        assert_eq!(office.closed_for_ms(opens_ms), None);
        assert_eq!(office.closed_for_ms(tuesday_ms + 17 * HOUR_MS + HOUR_MS / 2 - 1), None);
        let closed_ms = tuesday_ms + 17 * HOUR_MS + HOUR_MS / 2;
        assert_eq!(office.closed_for_ms(closed_ms), Some(opens_ms + WEEK_MS - closed_ms));
    }

    #[test]
    fn a_window_may_last_past_midnight() {
        let night = window(r#"{"days":["sun"],"from":"22:00","to":"06:00"}"#);
        assert_eq!(night.closed_for_ms(MONDAY_MS + 6 * HOUR_MS - 1), None);
        assert_eq!(night.closed_for_ms(MONDAY_MS + 6 * HOUR_MS), Some(WEEK_MS - 8 * HOUR_MS));
        assert_eq!(night.closed_for_ms(MONDAY_MS - 2 * HOUR_MS), None);
        assert_eq!(night.closed_for_ms(MONDAY_MS - 2 * HOUR_MS - 1), Some(1));
        let always = window(r#"{"from":"12:00","to":"12:00"}"#);
        for hour in 0..168 {
            assert_eq!(always.closed_for_ms(MONDAY_MS + hour * HOUR_MS), None);
        }
    }

    #[test]
    fn closed_time_does_not_count() {
        let night = window(r#"{"days":["mon","tue"],"from":"22:00","to":"02:00"}"#);
        let noon_ms = MONDAY_MS + 12 * HOUR_MS;
        assert_eq!(night.after_open_ms(noon_ms, 0), noon_ms);
        assert_eq!(night.after_open_ms(noon_ms, HOUR_MS), MONDAY_MS + 23 * HOUR_MS);
        assert_eq!(night.after_open_ms(noon_ms, 5 * HOUR_MS), MONDAY_MS + 47 * HOUR_MS);
        assert_eq!(night.after_open_ms(noon_ms, 9 * HOUR_MS), MONDAY_MS + WEEK_MS + 23 * HOUR_MS);
        for weeks in 1..=3 {
            let over_ms = MONDAY_MS + (weeks - 1) * WEEK_MS + 50 * HOUR_MS;
            assert_eq!(night.after_open_ms(noon_ms, weeks * 8 * HOUR_MS), over_ms, "Wednesday, 02:00");
        }
        let in_the_middle_ms = MONDAY_MS + 23 * HOUR_MS;
        assert_eq!(night.after_open_ms(in_the_middle_ms, 4 * HOUR_MS), MONDAY_MS + 47 * HOUR_MS);
    }

    #[test]
    fn bad_windows_are_refused_with_a_reason() {
        for (json, part) in [
            (r#"{"days":[],"from":"09:00","to":"17:30"}"#, "at least one day"),
            (r#"{"from":"24:00","to":"17:30"}"#, "expected a time from 00:00 to 23:59, found \"24:00\""),
            (r#"{"from":"9:00","to":"17:30"}"#, "found \"9:00\""),
            (r#"{"from":"+9:00","to":"17:30"}"#, "found \"+9:00\""),
            (r#"{"days":["noday"],"from":"09:00","to":"17:30"}"#, "unknown variant `noday`"),
        ] {
            let error = serde_json::from_str::<Window>(json).unwrap_err().to_string();
            assert!(error.contains(part), "{json}\n{error}");
        }
        let shown = window(r#"{"days":["sun","sat","sun"],"from":"22:00","to":"06:00"}"#);
        assert_eq!(shown.to_string(), "sat,sun 22:00-06:00 UTC");
    }
}
