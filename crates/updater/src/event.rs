//! What can happen. Each event answers the action before it.

use manifest::Digest;
use wire::{AnchorsDigest, Decision, Reason};

use crate::carried::{Anchors, Chain, FirstSector, Key};
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
    KeyStored(Key),
    /// Answers `Enroll` and `Renew`: a certificate has been issued.
    CertificateIssued {
        /// What it is for.
        key: Key,
        /// Its validity.
        life: CertificateLife,
        /// The certificate with what leads to its issuer.
        chain: Chain,
    },
    /// Answers `FetchAnchors`: the server's trust anchors, which verify the server that is spoken to.
    AnchorsFetched {
        /// Their digest.
        digest: AnchorsDigest,
        /// Themselves.
        anchors: Anchors,
    },
    /// Answers `SaveCertificate`, `SaveAnchors`, `SaveRecord`, `SaveNote`, `SaveTimeFloor`, `ClearCrashes` and
    /// `CountCritical`.
    Saved,
    /// Answers `CheckIn`.
    Decided {
        /// What the server says.
        decision: Decision,
        /// End of the validity of the certificate that the server showed, seconds since 1970, where it can be read.
        server_not_after_s: Option<u64>,
    },
    /// Answers `Preview`: the image could be started as far as its headers say. The digest of the first chunk.
    Previewed(Digest),
    /// Answers `HashChunk` and `FetchChunk`: the digest of what is in flash now.
    ChunkHashed(Digest),
    /// Answers `FetchChunk` that was to keep the first sector.
    FirstChunkHashed {
        /// The digest of what is in flash now, with the first sector in its place.
        digest: Digest,
        /// The first sector.
        first_sector: FirstSector,
    },
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
    /// The action failed, and the server said when to ask again (`Retry-After`, RFC 9110 section 10.2.3).
    PutOff {
        /// Why.
        reason: Reason,
        /// Not before so many seconds have passed.
        retry_after_s: u32,
    },
}

/// Why an action failed, before it is an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Why.
    pub reason: Reason,
    /// When the server said to ask again, in seconds from then.
    pub retry_after_s: Option<u32>,
}

impl From<Reason> for Failure {
    fn from(reason: Reason) -> Self {
        Self { reason, retry_after_s: None }
    }
}

impl From<Failure> for Event {
    fn from(Failure { reason, retry_after_s }: Failure) -> Self {
        match retry_after_s {
            None => Self::Failed(reason),
            Some(retry_after_s) => Self::PutOff { reason, retry_after_s },
        }
    }
}
