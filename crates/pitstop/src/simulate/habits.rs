//! What becomes of a release on a light device: pure, and the same in every run.

use sha2::{Digest as _, Sha256};

/// Shares are told apart to a hundredth of a percent.
const BUCKETS: u32 = 10_000;

/// How many of the devices that take a release come to grief with it, in percent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Habits {
    /// Refuse it, with the reason `image-invalid`.
    pub(crate) fail_percent: f64,
    /// Install it, and come back each time after a panic of it.
    pub(crate) crash_percent: f64,
    /// Install it, and never come back.
    pub(crate) silent_percent: f64,
}

/// What becomes of one release on one device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Installed, and well.
    Healthy,
    /// Refused.
    Fails,
    /// Installed, and crashing.
    Crashes,
    /// Installed, and not seen again.
    Silent,
}

impl Habits {
    /// Every release is well.
    #[cfg(test)]
    pub(crate) const GOOD: Self = Self { fail_percent: 0.0, crash_percent: 0.0, silent_percent: 0.0 };

    /// Whether the shares are shares of one whole.
    pub(crate) fn are_shares(&self) -> bool {
        let parts = [self.fail_percent, self.crash_percent, self.silent_percent];
        parts.iter().all(|part| *part >= 0.0) && parts.iter().sum::<f64>() <= 100.0
    }

    /// The fate of the release `sequence` on a device. Two releases choose their victims independently.
    pub(crate) fn fate(&self, device: &str, sequence: u64) -> Fate {
        let hash = Sha256::new().chain_update(device).chain_update(sequence.to_be_bytes()).finalize();
        let number = hash.iter().take(4).fold(0_u32, |number, byte| number << 8 | u32::from(*byte));
        let percent = f64::from(number % BUCKETS) * 100.0 / f64::from(BUCKETS);
        let (fails, crashes) = (self.fail_percent, self.fail_percent + self.crash_percent);
        if percent < fails {
            Fate::Fails
        } else if percent < crashes {
            Fate::Crashes
        } else if percent < crashes + self.silent_percent {
            Fate::Silent
        } else {
            Fate::Healthy
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shares_are_met() {
        let habits = Habits { fail_percent: 5.0, crash_percent: 10.0, silent_percent: 20.0 };
        let fates: Vec<_> = (0..10_000).map(|index| habits.fate(&format!("lamp-{index}"), 2)).collect();
        let share = |wanted| fates.iter().filter(|fate| **fate == wanted).count();
        for (fate, expected) in
            [(Fate::Fails, 500), (Fate::Crashes, 1000), (Fate::Silent, 2000), (Fate::Healthy, 6500)]
        {
            assert!(share(fate).abs_diff(expected) < 150, "{fate:?}: {}", share(fate));
        }
    }

    #[test]
    fn all_or_nothing_is_exact() {
        let all = Habits { silent_percent: 100.0, ..Habits::GOOD };
        for index in 0..1000 {
            let device = format!("lamp-{index}");
            assert_eq!(all.fate(&device, 1), Fate::Silent);
            assert_eq!(Habits::GOOD.fate(&device, 1), Fate::Healthy);
        }
        assert!(all.are_shares() && !Habits { fail_percent: 0.5, ..all }.are_shares());
        assert!(!Habits { fail_percent: -1.0, ..Habits::GOOD }.are_shares());
    }
}
