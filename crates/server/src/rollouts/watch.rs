//! Time in which nobody watched: it is not held against devices, and opens no wave.
//!
//! While the server is down, its machine sleeps or its database is away, no device can be seen. When its clock jumps, time
//! passes in which none could have been. Whatever it was, the clock shows afterwards that the last look is too long ago.
//! What is judged by the clock gets as much time as was lost, but no more than its whole span.

use serde::{Deserialize, Serialize};

/// A look at the clock follows the last one within a second. Less than this is no gap: a restart, a busy machine, a clock
/// that is set right.
const GAP_MS: i64 = 60_000;

/// When somebody looked at the clock last. It is stored, so that a restart takes back nothing that was given.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Watch {
    /// By the machine's clock.
    last_ms: i64,
    /// When it went on after the last gap, and how long that was.
    since_ms: i64,
    gap_ms: i64,
}

/// What a look at the clock shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// The last one was a moment ago.
    Steady,
    /// Nobody watched for so long.
    Gap { gap_ms: i64 },
    /// The clock was ahead by so much, or is behind now.
    Back { by_ms: i64 },
}

impl Watch {
    /// The first one, by the machine's clock.
    pub(super) fn begin(machine_ms: i64) -> Self {
        Self { last_ms: machine_ms, since_ms: i64::MIN, gap_ms: 0 }
    }

    /// Looks at the machine's clock, and at the one that rollouts go by.
    pub(super) fn look(&mut self, machine_ms: i64, now_ms: i64) -> Look {
        let passed_ms = machine_ms.saturating_sub(self.last_ms);
        if passed_ms > GAP_MS {
            // A short one takes nothing from a long one.
            if now_ms.saturating_add(passed_ms) > self.since_ms.saturating_add(self.gap_ms) {
                (self.since_ms, self.gap_ms) = (now_ms, passed_ms);
            }
            Look::Gap { gap_ms: passed_ms }
        } else if passed_ms < -GAP_MS {
            // What was given is given from now on.
            self.since_ms = self.since_ms.min(now_ms);
            Look::Back { by_ms: passed_ms.saturating_neg() }
        } else {
            Look::Steady
        }
    }

    /// What the look showed was acted on.
    pub(super) fn looked(&mut self, machine_ms: i64) {
        self.last_ms = machine_ms;
    }

    /// When something ends that takes `span_ms` and would end at `ends_ms`.
    pub(super) fn ends_ms(&self, ends_ms: i64, span_ms: i64) -> i64 {
        ends_ms.max(self.since_ms.saturating_add(self.gap_ms.min(span_ms)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_MS: i64 = 24 * 3_600_000;
    const NOW_MS: i64 = 1_800_000_000_000;

    #[test]
    fn what_was_lost_is_given_back_up_to_the_whole_span() {
        let mut watch = Watch::begin(NOW_MS);
        assert_eq!(watch.look(NOW_MS + GAP_MS, NOW_MS + GAP_MS), Look::Steady);
        assert_eq!(watch.ends_ms(NOW_MS, DAY_MS), NOW_MS);
        let later_ms = NOW_MS + 3 * DAY_MS;
        for _ in 0..2 {
            // Until it was acted on.
            assert_eq!(watch.look(later_ms, later_ms), Look::Gap { gap_ms: 3 * DAY_MS });
        }
        watch.looked(later_ms);
        assert_eq!(watch.look(later_ms + 1000, later_ms + 1000), Look::Steady);
        assert_eq!(watch.ends_ms(NOW_MS + DAY_MS, DAY_MS), later_ms + DAY_MS);
        assert_eq!(watch.ends_ms(NOW_MS + DAY_MS, 7 * DAY_MS), later_ms + 3 * DAY_MS);
        assert_eq!(watch.ends_ms(later_ms + 5 * DAY_MS, 7 * DAY_MS), later_ms + 5 * DAY_MS);
        watch.look(later_ms + 2 * GAP_MS, later_ms + 2 * GAP_MS);
        assert_eq!(watch.ends_ms(NOW_MS, 7 * DAY_MS), later_ms + 3 * DAY_MS);
    }

    #[test]
    fn a_clock_that_goes_back_takes_nothing_back() {
        let mut watch = Watch::begin(NOW_MS);
        watch.look(NOW_MS + 365 * DAY_MS, NOW_MS + 365 * DAY_MS);
        watch.looked(NOW_MS + 365 * DAY_MS);
        assert_eq!(watch.look(NOW_MS, NOW_MS), Look::Back { by_ms: 365 * DAY_MS });
        watch.looked(NOW_MS);
        assert_eq!(watch.ends_ms(NOW_MS, 7 * DAY_MS), NOW_MS + 7 * DAY_MS);
        let mut watch = Watch::begin(NOW_MS);
        watch.look(NOW_MS - DAY_MS, NOW_MS - DAY_MS);
        assert_eq!(watch.ends_ms(NOW_MS, 7 * DAY_MS), NOW_MS, "there was no gap");
    }

    #[test]
    fn no_clock_is_too_wrong() {
        let mut watch = Watch::begin(i64::MAX);
        assert_eq!(watch.look(0, 0), Look::Back { by_ms: i64::MAX });
        watch.looked(0);
        assert_eq!(watch.look(i64::MAX, i64::MAX), Look::Gap { gap_ms: i64::MAX });
        assert_eq!(watch.ends_ms(0, DAY_MS), i64::MAX);
    }
}
