//! What can happen. Each event answers the action before it.

use manifest::Digest;
use wire::{Decision, Reason};

use crate::facts::{CertificateLife, ImageFacts, Survey};

/// The answer to an action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Answers `Survey`.
    Surveyed(alloc::boxed::Box<Survey>),
    /// Answers `Join`: a network is joined. The heap is measured here, near its worst moment.
    Joined {
        /// Free heap in bytes, where it can be known.
        free_heap_bytes: Option<u32>,
    },
    /// Answers `MakeKey`: a new key is in the vault.
    KeyStored,
    /// Answers `Enroll` and `Renew`: a certificate for the device's key has been issued; the shell holds it.
    CertificateIssued(CertificateLife),
    /// Answers `SaveCertificate`, `SaveRecord`, `SaveNote`, `SaveTimeFloor` and `CountCritical`.
    Saved,
    /// Answers `CheckIn`.
    Decided {
        /// What the server says.
        decision: Decision,
        /// End of the validity of the certificate that the server showed, seconds since 1970, where it can be read.
        server_not_after_s: Option<u64>,
    },
    /// Answers `HashChunk` and `FetchChunk`: the digest of what is in flash now, the held first sector included.
    ChunkHashed(Digest),
    /// Answers `Invalidate`: the slot's first sector is blank.
    Invalidated,
    /// Answers `Seal`: the first sector is written.
    Sealed,
    /// Answers `VerifySlot`: a whole image for this chip is in the slot.
    SlotVerified(ImageFacts),
    /// Answers `Report`.
    Reported,
    /// The action failed.
    Failed(Reason),
}
