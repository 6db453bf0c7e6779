//! How often a device is heard, and what its runs tell: silence and health are judged by the device itself.

use wire::ResetCause;

use crate::LastRun;

/// So many intervals have to be known before somebody says what is usual.
const KNOWN_INTERVALS: u32 = 3;

/// A device that is not heard for so many times its usual interval is silent.
const USUAL_TIMES: i64 = 4;

/// The weight of the newest interval is one in so many.
const WEIGHT: i64 = 4;

/// An interval counts as so many times the usual one at most: the server or its network may have been away.
const MOST_TIMES: i64 = 8;

/// The longest interval, ten years, in milliseconds: a clock may jump.
const MAX_INTERVAL_MS: i64 = 10 * 365 * 24 * 3_600_000;

/// So many short runs in a row are a failure, whatever ended them: a person who presses a button gives up before.
pub const SHORT_RUNS: u32 = 5;

/// A device's usual interval between the starts at which it is heard: an exponential average.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cadence {
    /// In milliseconds.
    pub interval_ms: i64,
    /// From how many intervals.
    pub intervals: u32,
}

impl Cadence {
    /// The cadence after one more interval.
    #[must_use]
    pub fn after(before: Option<Self>, interval_ms: i64) -> Self {
        let interval_ms = interval_ms.clamp(0, MAX_INTERVAL_MS);
        match before {
            None => Self { interval_ms, intervals: 1 },
            Some(before) => {
                let most_ms = before.interval_ms.max(1).saturating_mul(MOST_TIMES);
                let interval_ms = if before.is_known() { interval_ms.min(most_ms) } else { interval_ms };
                let change_ms = interval_ms.saturating_sub(before.interval_ms) / WEIGHT;
                Self {
                    interval_ms: before.interval_ms.saturating_add(change_ms),
                    intervals: before.intervals.saturating_add(1),
                }
            }
        }
    }

    /// Whether it is known well enough to call a device silent by it.
    #[must_use]
    pub fn is_known(&self) -> bool {
        self.intervals >= KNOWN_INTERVALS
    }

    /// After how long without a word a device is silent, or unheard when its cadence is not known, in milliseconds: the
    /// product's deadline, or a multiple of what is usual for the device if that is longer.
    #[must_use]
    pub fn patience_ms(cadence: Option<Self>, deadline_ms: i64) -> i64 {
        match cadence {
            Some(cadence) if cadence.is_known() => {
                deadline_ms.max(cadence.interval_ms.saturating_mul(USUAL_TIMES))
            }
            Some(_) | None => deadline_ms,
        }
    }
}

/// The runs of the application since a device was heard last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Runs {
    /// What ended the last one.
    pub cause: ResetCause,
    /// How many there were; 0 for a second check-in of the same start.
    pub count: u32,
    /// How long they took on average, pit stops included, in milliseconds; `None` when that is not known.
    pub length_ms: Option<i64>,
}

impl Runs {
    /// What they show of the application, and how many short ones in a row there are by now, of `short_before` until then.
    /// A run shorter than `min_ms` is short.
    ///
    /// A brownout counts as a crash: an application that draws more current than the supply gives is as bad as one that
    /// panics. An application that goes to deep sleep has done what it wanted to, however short that was.
    #[must_use]
    pub fn judge(&self, short_before: u32, min_ms: i64) -> (LastRun, u32) {
        let is_short = self.count > 0 && self.length_ms.is_some_and(|length_ms| length_ms < min_ms);
        let short = match (self.count, is_short) {
            (0, _) => short_before,
            (_, true) => short_before.saturating_add(self.count),
            (_, false) => 0,
        };
        match self.cause {
            ResetCause::Panic | ResetCause::Watchdog | ResetCause::Brownout => (LastRun::Crashed, short),
            ResetCause::UpdaterCrash => (LastRun::None, short_before),
            ResetCause::DeepSleep => (LastRun::Ended, 0),
            ResetCause::Unknown | ResetCause::PowerOn | ResetCause::Software | ResetCause::External => {
                let last_run = match (is_short, short >= SHORT_RUNS) {
                    (true, true) => LastRun::Crashed,
                    (true, false) => LastRun::None,
                    (false, _) => LastRun::Ended,
                };
                (last_run, short)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DAY_MS: i64 = 24 * 3_600_000;
    const MIN_MS: i64 = 60_000;

    fn after(intervals_ms: &[i64]) -> Option<Cadence> {
        intervals_ms.iter().fold(None, |cadence, interval_ms| Some(Cadence::after(cadence, *interval_ms)))
    }

    #[test]
    fn patience_follows_what_is_usual_for_the_device() {
        let patience_d = |intervals_d: &[i64]| {
            let intervals_ms: Vec<_> = intervals_d.iter().map(|days| days * DAY_MS).collect();
            Cadence::patience_ms(after(&intervals_ms), 7 * DAY_MS) / DAY_MS
        };
        assert_eq!(patience_d(&[]), 7);
        assert_eq!(patience_d(&[30, 30]), 7, "two intervals are no habit");
        assert_eq!(patience_d(&[30, 30, 30]), 120);
        assert_eq!(patience_d(&[1, 1, 1]), 7, "never less than the product says");
        let was_monthly = [30, 30, 30].into_iter().chain([1; 20]).collect::<Vec<_>>();
        assert_eq!(patience_d(&was_monthly), 7, "a habit may change");
        assert_eq!(patience_d(&[1, 1, 1, 365]), 11, "one odd gap is no habit");
    }

    #[test]
    fn what_the_application_did_not_ask_for_is_a_crash() {
        let causes = |of: LastRun| -> Vec<_> {
            let runs = |cause| Runs { cause, count: 1, length_ms: Some(MIN_MS) };
            let causes = (0..=9).map(ResetCause::from_code);
            causes.filter(|cause| runs(*cause).judge(0, MIN_MS).0 == of).collect()
        };
        assert_eq!(causes(LastRun::Crashed), [ResetCause::Panic, ResetCause::Watchdog, ResetCause::Brownout]);
        assert_eq!(
            causes(LastRun::None),
            [ResetCause::UpdaterCrash],
            "it is the updater's, and shows no run"
        );
    }

    /// Restarts after some seconds of running, one start after the other.
    fn restarts(cause: ResetCause, lengths_s: &[i64]) -> Vec<LastRun> {
        let mut short = 0;
        let judge = |length_s: &i64| {
            let last_run;
            let runs = Runs { cause, count: 1, length_ms: Some(length_s * 1000) };
            (last_run, short) = runs.judge(short, MIN_MS);
            last_run
        };
        lengths_s.iter().map(judge).collect()
    }

    #[test]
    fn short_runs_show_nothing_and_five_in_a_row_are_a_failure_whatever_ended_them() {
        use LastRun::{Crashed, Ended, None};
        for cause in [ResetCause::Software, ResetCause::PowerOn, ResetCause::External, ResetCause::Unknown] {
            assert_eq!(
                restarts(cause, &[9, 9, 9, 9, 9, 9, 90, 9]),
                [None, None, None, None, Crashed, Crashed, Ended, None],
                "{cause:?}"
            );
            assert_eq!(restarts(cause, &[9, 9, 9, 9, 90, 9, 9]), [None, None, None, None, Ended, None, None]);
        }
        assert_eq!(restarts(ResetCause::DeepSleep, &[9; 6]), [Ended; 6], "it sleeps as it was built to");
        // Twelve restarts between two check-ins, of which the network swallowed eleven.
        let runs = Runs { cause: ResetCause::Software, count: 12, length_ms: Some(9000) };
        assert_eq!(runs.judge(0, MIN_MS), (Crashed, 12));
        let same_start = Runs { cause: ResetCause::Software, count: 0, length_ms: Some(10) };
        assert_eq!(same_start.judge(4, MIN_MS), (Ended, 4), "it is the same start");
        let unknown = Runs { cause: ResetCause::Software, count: 1, length_ms: Option::None };
        assert_eq!(unknown.judge(4, MIN_MS), (Ended, 0));
        assert_eq!(Runs { length_ms: Some(1), ..runs }.judge(4, 0), (Ended, 0), "a product may not care");
    }

    proptest! {
        /// A device that is heard as it always is never becomes silent.
        #[test]
        fn a_device_that_keeps_its_habit_is_never_silent(
            usual_ms in 1..400 * DAY_MS,
            jitter in prop::collection::vec(-40_i64..40, 3..50),
            deadline_ms in MIN_MS..30 * DAY_MS,
        ) {
            let intervals: Vec<_> =
                jitter.iter().map(|percent| usual_ms.saturating_add(usual_ms / 100 * percent)).collect();
            let patience_ms = Cadence::patience_ms(after(&intervals), deadline_ms);
            let longest_ms = usual_ms + usual_ms / 100 * 40;
            prop_assert!(patience_ms > longest_ms, "{patience_ms} of {longest_ms}");
        }

        #[test]
        fn no_interval_is_too_odd(intervals in prop::collection::vec(any::<i64>(), 0..20), deadline_ms in 0..i64::MAX) {
            let patience_ms = Cadence::patience_ms(after(&intervals), deadline_ms);
            prop_assert!(patience_ms >= deadline_ms);
        }
    }
}
