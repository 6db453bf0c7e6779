//! Failures of one release on one device: backoff, then quarantine.

use manifest::Sequence;
use wire::Reason;

/// The longest backoff, in seconds: a week.
const MAX_BACKOFF_S: u32 = 7 * 24 * 3600;

/// The failures of one release on one device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The release that failed.
    pub sequence: Sequence,
    /// How often.
    pub count: u32,
    /// When last, in milliseconds since 1970.
    pub at_ms: i64,
    /// Whether it failed too often: it is not offered until an operator clears that.
    pub is_quarantined: bool,
    /// Whether the release was offered again since. Without that, whatever the device tells is this failure once more: a
    /// report that was repeated because its answer was lost.
    pub is_offered_again: bool,
}

/// Whether an outcome's code is a failure of the release. Codes 1xx and 2xx blame the manifest or the image, 4xx the
/// flash: trying again at once changes nothing and wears the flash. The network and the updater (3xx, 5xx) may do better
/// at the next start; a damaged identity and a lack of random numbers (404, 405) no release brings about.
#[must_use]
pub fn is_failure(code: i64) -> bool {
    let of_the_device =
        [Reason::IdentityDamaged, Reason::Randomness].map(|reason| i64::from(reason.code())).contains(&code);
    matches!(code, 100..=299 | 400..=499) && !of_the_device
}

impl Failure {
    /// Whether a failure of `sequence` that is told now is the one of this record.
    #[must_use]
    pub fn is_repeated_by(&self, sequence: Sequence) -> bool {
        self.sequence == sequence && !self.is_offered_again
    }

    /// The record after one more failure of `sequence`; another release than before begins at one.
    #[must_use]
    pub fn again(before: Option<Self>, sequence: Sequence, at_ms: i64, quarantine_after: u32) -> Self {
        let before = before.filter(|before| before.sequence == sequence);
        let count = before.map_or(0, |before| before.count).saturating_add(1);
        // What an operator has not cleared stays.
        let is_quarantined =
            count >= quarantine_after.max(1) || before.is_some_and(|before| before.is_quarantined);
        Self { sequence, count, at_ms, is_quarantined, is_offered_again: false }
    }

    /// How long the release is not offered again, in seconds: `refusal_backoff_s`, doubled with each failure, at most a
    /// week.
    #[must_use]
    pub fn backoff_s(&self, refusal_backoff_s: u32) -> u32 {
        let doublings = self.count.saturating_sub(1).min(20);
        let longest_s = MAX_BACKOFF_S.max(refusal_backoff_s);
        refusal_backoff_s.saturating_mul(1 << doublings).min(longest_s)
    }

    /// How long it is until the release may be offered again, in seconds; `None` when that is now.
    pub(crate) fn wait_s(&self, refusal_backoff_s: u32, now_ms: i64) -> Option<u32> {
        let backoff_s = self.backoff_s(refusal_backoff_s);
        let again_at_ms = self.at_ms.saturating_add(i64::from(backoff_s) * 1000);
        let wait_ms = again_at_ms.saturating_sub(now_ms);
        // A clock that was set back must not make the wait longer than the backoff, nor have it begin again for as long as
        // the failure lies in the future.
        let is_waiting = wait_ms > 0 && wait_ms <= 2 * i64::from(backoff_s) * 1000;
        is_waiting.then(|| u32::try_from((wait_ms + 999) / 1000).unwrap_or(u32::MAX).min(backoff_s))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_add_up_for_one_release_until_quarantine() {
        let first = Failure::again(None, Sequence(4), 1000, 3);
        let one = Failure {
            sequence: Sequence(4),
            count: 1,
            at_ms: 1000,
            is_quarantined: false,
            is_offered_again: false,
        };
        assert_eq!(first, one);
        assert!(first.is_repeated_by(Sequence(4)) && !first.is_repeated_by(Sequence(5)));
        assert!(!Failure { is_offered_again: true, ..first }.is_repeated_by(Sequence(4)));
        let second = Failure::again(Some(first), Sequence(4), 2000, 3);
        assert!(!second.is_quarantined);
        let third = Failure::again(Some(second), Sequence(4), 3000, 3);
        assert_eq!(third, Failure { count: 3, at_ms: 3000, is_quarantined: true, ..one });
        assert!(
            Failure::again(Some(third), Sequence(4), 3000, 9).is_quarantined,
            "only an operator clears it"
        );
        let other = Failure::again(Some(third), Sequence(5), 4000, 3);
        assert_eq!((other.count, other.is_quarantined), (1, false));
    }

    #[test]
    fn the_backoff_doubles_up_to_a_week() {
        let failed = |count| Failure {
            sequence: Sequence(1),
            count,
            at_ms: 0,
            is_quarantined: false,
            is_offered_again: false,
        };
        assert_eq!([1, 2, 3].map(|count| failed(count).backoff_s(3600)), [3600, 7200, 14_400]);
        assert_eq!(failed(u32::MAX).backoff_s(3600), MAX_BACKOFF_S);
        assert_eq!(failed(1).backoff_s(u32::MAX), u32::MAX);
        assert_eq!(failed(9).backoff_s(0), 0);
    }

    #[test]
    fn the_network_is_no_failure_of_a_release() {
        let failures = [100, 108, 200, 203, 400, 403, 499];
        let others = [0, 1, 99, 300, 315, 404, 405, 500, 506, 600, 100_000, -1];
        assert!(failures.into_iter().all(is_failure));
        assert!(!others.into_iter().any(is_failure));
    }
}
