//! Which release may follow which.

use crate::{Digest, Manifest, Sequence};

/// What a device has installed, as far as sequence rules need it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Installed<'a> {
    /// Sequence number of the installed release.
    pub sequence: Sequence,
    /// Digest of its image.
    pub digest: Digest,
    /// Releases that its manifest allows to return to.
    pub revert_to: &'a [Sequence],
}

/// Why the sequence rules allow a manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allowed {
    /// Nothing was installed by Pitstop yet.
    First,
    /// The release is newer.
    Newer,
    /// The release is the installed one: repair the slot when it is damaged, otherwise there is nothing to do.
    Same,
    /// The release is older, and the installed manifest allows to return to it.
    Revert,
}

/// Why the sequence rules refuse a manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Going back without a signed revert.
    #[error("expected a sequence number of at least {installed}, found {offered}; publish a newer release")]
    Older {
        /// Sequence number that is installed.
        installed: Sequence,
        /// Sequence number of the manifest.
        offered: Sequence,
    },
    /// Two images under one sequence number.
    #[error("sequence number {sequence} is installed with another image; publish under a new number")]
    Reused {
        /// The number used twice.
        sequence: Sequence,
    },
}

/// Judges a verified manifest against what is installed.
///
/// # Errors
/// [`Refused`] when the number goes back without a signed revert, or names another image than before.
pub fn judge(installed: Option<Installed<'_>>, offered: &Manifest) -> Result<Allowed, Refused> {
    let Some(installed) = installed else { return Ok(Allowed::First) };
    if offered.sequence > installed.sequence {
        Ok(Allowed::Newer)
    } else if offered.sequence == installed.sequence {
        if offered.artifact.digest == installed.digest {
            Ok(Allowed::Same)
        } else {
            Err(Refused::Reused { sequence: offered.sequence })
        }
    } else if installed.revert_to.contains(&offered.sequence) {
        Ok(Allowed::Revert)
    } else {
        Err(Refused::Older { installed: installed.sequence, offered: offered.sequence })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::body::tests::manifest;
    use alloc::vec::Vec;

    fn verdict(
        installed: u64,
        revert_to: &[u64],
        offered: u64,
        same_image: bool,
    ) -> Result<Allowed, Refused> {
        let mut candidate = manifest(b"image");
        candidate.sequence = Sequence(offered);
        let digest = if same_image { candidate.artifact.digest } else { Digest::of(b"another") };
        let revert_to: Vec<_> = revert_to.iter().copied().map(Sequence).collect();
        judge(Some(Installed { sequence: Sequence(installed), digest, revert_to: &revert_to }), &candidate)
    }

    #[test]
    fn goes_forward_only_unless_a_signed_revert_says_so() {
        assert_eq!(judge(None, &manifest(b"image")), Ok(Allowed::First));
        assert_eq!(verdict(4, &[], 5, false), Ok(Allowed::Newer));
        assert_eq!(verdict(5, &[], 5, true), Ok(Allowed::Same));
        assert_eq!(verdict(5, &[], 5, false), Err(Refused::Reused { sequence: Sequence(5) }));
        let older = Err(Refused::Older { installed: Sequence(5), offered: Sequence(4) });
        assert_eq!(verdict(5, &[], 4, false), older);
        assert_eq!(verdict(5, &[3], 4, false), older);
        assert_eq!(verdict(5, &[4], 4, false), Ok(Allowed::Revert));
    }
}
