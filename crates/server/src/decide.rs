//! What a device is to run: one pure function of what is known.

use manifest::{Digest, Sequence};

/// What is known of a device at a check-in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceFacts {
    /// What it runs; `None` when no slot is bootable.
    pub running: Option<Running>,
    /// The release that it refused last.
    pub refused: Option<Refused>,
    /// The server's clock, in milliseconds since 1970.
    pub now_ms: i64,
    /// How long a refused release is not offered again, in seconds.
    pub refusal_backoff_s: u32,
}

/// The application that runs on a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Running {
    /// SHA-256 of the whole image.
    pub digest: Digest,
    /// Sequence number of its release; `None` for an image that Pitstop did not install.
    pub sequence: Option<Sequence>,
}

/// A release that a device refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Its sequence number.
    pub sequence: Sequence,
    /// When, in milliseconds since 1970.
    pub at_ms: i64,
}

/// What a decision needs to know of a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReleaseFacts {
    /// Its sequence number.
    pub sequence: Sequence,
    /// SHA-256 of its image.
    pub digest: Digest,
}

/// What a device is to do, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The product has no release.
    NoRelease,
    /// The newest release runs.
    UpToDate,
    /// Something newer than the newest release runs, and going back is the publisher's to allow.
    Ahead,
    /// The device refused the newest release a short while ago.
    Wait {
        /// When to offer it again, in seconds from now.
        wait_s: u32,
    },
    /// Run this release.
    Offer {
        /// Its sequence number.
        sequence: Sequence,
    },
}

impl Verdict {
    /// Its name in metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::NoRelease => "no-release",
            Self::UpToDate => "up-to-date",
            Self::Ahead => "ahead",
            Self::Wait { .. } => "wait",
            Self::Offer { .. } => "offer",
        }
    }
}

/// Decides what a device of a product with these releases (in any order) is to run.
///
/// An image that runs without a number, or under an older one, is offered again under the newest: nothing is
/// downloaded for it, and the device then knows the number that it must not go back from.
#[must_use]
pub fn decide(device: &DeviceFacts, product_releases: &[ReleaseFacts]) -> Verdict {
    let Some(newest) = product_releases.iter().max_by_key(|release| release.sequence) else {
        return Verdict::NoRelease;
    };
    if let Some(Running { digest, sequence: Some(sequence) }) = device.running {
        if sequence > newest.sequence {
            return Verdict::Ahead;
        }
        if sequence == newest.sequence && digest == newest.digest {
            return Verdict::UpToDate;
        }
    }
    // A device with nothing to run has nothing to lose: it waits for no backoff but its own.
    let has_an_app = device.running.is_some();
    if let Some(refused) = device.refused.filter(|refused| has_an_app && refused.sequence == newest.sequence)
    {
        let again_at_ms = refused.at_ms.saturating_add(i64::from(device.refusal_backoff_s) * 1000);
        let wait_ms = again_at_ms.saturating_sub(device.now_ms);
        if wait_ms > 0 {
            // A clock that was set back must not make the wait longer than the backoff.
            let wait_s = u32::try_from((wait_ms + 999) / 1000).unwrap_or(u32::MAX);
            return Verdict::Wait { wait_s: wait_s.min(device.refusal_backoff_s) };
        }
    }
    Verdict::Offer { sequence: newest.sequence }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_MS: i64 = 3_600_000;

    fn release(sequence: u64) -> ReleaseFacts {
        ReleaseFacts { sequence: Sequence(sequence), digest: Digest([sequence as u8; 32]) }
    }

    fn running(sequence: Option<u64>, digest: u8) -> DeviceFacts {
        DeviceFacts {
            running: Some(Running { digest: Digest([digest; 32]), sequence: sequence.map(Sequence) }),
            refused: None,
            now_ms: 10 * HOUR_MS,
            refusal_backoff_s: 3600,
        }
    }

    fn refused(sequence: u64, at_ms: i64) -> DeviceFacts {
        DeviceFacts { refused: Some(Refused { sequence: Sequence(sequence), at_ms }), ..running(Some(1), 1) }
    }

    #[test]
    fn the_newest_release_is_offered_until_it_runs() {
        let releases = [release(2), release(3), release(1)];
        let offer = Verdict::Offer { sequence: Sequence(3) };
        assert_eq!(decide(&DeviceFacts { running: None, ..running(None, 0) }, &releases), offer);
        assert_eq!(decide(&running(Some(1), 1), &releases), offer);
        assert_eq!(decide(&running(Some(2), 2), &releases), offer);
        assert_eq!(decide(&running(Some(3), 3), &releases), Verdict::UpToDate);
        assert_eq!(decide(&running(Some(4), 4), &releases), Verdict::Ahead);
        assert_eq!(decide(&running(Some(1), 1), &[]), Verdict::NoRelease);
    }

    #[test]
    fn the_image_without_its_number_is_offered_again() {
        let offer = Verdict::Offer { sequence: Sequence(3) };
        assert_eq!(decide(&running(None, 3), &[release(3)]), offer);
        assert_eq!(decide(&running(Some(2), 3), &[release(3)]), offer);
        assert_eq!(decide(&running(Some(3), 9), &[release(3)]), offer, "same number, another image");
    }

    #[test]
    fn a_refused_release_waits_and_no_other_does() {
        let releases = [release(1), release(2)];
        let offer = Verdict::Offer { sequence: Sequence(2) };
        assert_eq!(decide(&refused(2, 10 * HOUR_MS), &releases), Verdict::Wait { wait_s: 3600 });
        assert_eq!(decide(&refused(2, 9 * HOUR_MS + 1), &releases), Verdict::Wait { wait_s: 1 });
        assert_eq!(decide(&refused(2, 9 * HOUR_MS), &releases), offer);
        assert_eq!(decide(&refused(1, 10 * HOUR_MS), &releases), offer);
        assert_eq!(decide(&refused(3, 10 * HOUR_MS), &releases), offer);
        let nothing_to_run = DeviceFacts { running: None, ..refused(2, 10 * HOUR_MS) };
        assert_eq!(decide(&nothing_to_run, &releases), offer);
        let clock_set_back = refused(2, 500 * HOUR_MS);
        assert_eq!(decide(&clock_set_back, &releases), Verdict::Wait { wait_s: 3600 });
    }
}
