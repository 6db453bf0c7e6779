//! What the engine wants done. The shell performs an action and makes no choice of its own.

use core::fmt;

use manifest::Digest;
use wire::{CheckIn, Outcome, Reason, Report};

use crate::carried::{Anchors, Chain, FirstSector, Key, Token};
use crate::record::InstallRecord;
use crate::slot::SlotIndex;

/// One thing to do; exactly one [`crate::Event`] answers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Read the partition table, the headers in the slots, and the rest that the scope names. Writes nothing but the
    /// updater's place in otadata, when the application has taken it.
    Survey(Scope),
    /// Join a network that the vault knows.
    Join {
        /// Give up after this.
        timeout_ms: u64,
    },
    /// Make a P-256 key and store it in the vault.
    MakeKey,
    /// Ask for the first certificate (EST `simpleenroll`).
    Enroll {
        /// What the certificate is to be for.
        key: Key,
        /// What lets the device in.
        token: Token,
        /// Give up after this.
        timeout_ms: u64,
    },
    /// Ask for the next certificate (EST `simplereenroll`), with the present one, which may have ended. Stores nothing.
    Renew {
        /// What the certificate is to be for.
        key: NextKey,
        /// Give up after this.
        timeout_ms: u64,
    },
    /// Store a certificate and its key, so that the vault holds the one before or this one whole at every moment.
    SaveCertificate {
        /// What it is for.
        key: Key,
        /// What `Enroll` or `Renew` brought.
        chain: Chain,
        /// The time floor to store with it, seconds since 1970; `None` to keep the stored one.
        time_floor_s: Option<u64>,
    },
    /// Ask for the server's trust anchors (EST `cacerts`), and try them on the server that is spoken to.
    FetchAnchors {
        /// Give up after this.
        timeout_ms: u64,
    },
    /// Store trust anchors in place of those in the vault.
    SaveAnchors {
        /// What `FetchAnchors` brought.
        anchors: Anchors,
    },
    /// Check in over mutual TLS, with the certificate that the vault has now.
    CheckIn {
        /// What to say.
        check_in: CheckIn,
        /// Give up after this.
        timeout_ms: u64,
    },
    /// Hash a part of a slot.
    HashChunk {
        /// Slot to read.
        slot: SlotIndex,
        /// First byte, from the start of the slot.
        offset_bytes: u32,
        /// How many bytes.
        length_bytes: u32,
    },
    /// Download the first chunk and what else of the image's headers there is, and judge what comes as the hand-over
    /// would. Nothing is written: this is asked before the only application is given up.
    Preview(Preview),
    /// Make the slot unbootable: erase its first sector, unless it is blank already.
    Invalidate {
        /// Slot that will be written.
        slot: SlotIndex,
    },
    /// Download one chunk into a slot, and hash what is in flash afterwards.
    FetchChunk(FetchChunk),
    /// Write the first sector. The slot is bootable afterwards.
    Seal {
        /// Slot to complete.
        slot: SlotIndex,
        /// What `FetchChunk` kept in memory.
        first_sector: FirstSector,
    },
    /// Verify the whole image in a slot, as at a start.
    VerifySlot {
        /// Slot to verify.
        slot: SlotIndex,
    },
    /// Store what is installed now. This commits an install.
    SaveRecord {
        /// The record.
        record: InstallRecord,
        /// The outcome to remember with it.
        outcome: Outcome,
        /// The time floor to store with it, seconds since 1970.
        time_floor_s: u64,
    },
    /// Remember a refusal, or that the application confirmed itself.
    SaveNote {
        /// The outcome to remember.
        outcome: Outcome,
    },
    /// Store the time floor alone.
    SaveTimeFloor {
        /// Seconds since 1970.
        time_floor_s: u64,
    },
    /// Note in the journal that the updater came to an announced end: no crash is counted any more.
    ClearCrashes,
    /// Append a critical error to the journal.
    CountCritical {
        /// The error.
        reason: Reason,
    },
    /// Tell the server how it went.
    Report {
        /// What to say.
        report: Report,
        /// Give up after this.
        timeout_ms: u64,
    },
    /// The pit stop is over.
    Finish(Verdict),
}

/// What the next certificate is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NextKey {
    /// The present key.
    Same(Key),
    /// A new one, which is made for it.
    New,
}

/// How much a survey looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Everything.
    All,
    /// The partition table and the slots: vault and journal may be what crashes the updater.
    Slots,
}

/// What to look at of an artifact before anything is erased for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preview {
    /// Artifact to download from.
    pub artifact: Digest,
    /// Length of the whole image in bytes.
    pub size_bytes: u32,
    /// Length of the first chunk in bytes.
    pub length_bytes: u32,
    /// Its digest: headers of other bytes say nothing.
    pub digest: Digest,
    /// Slot that it is for.
    pub slot: SlotIndex,
    /// Wait this long before the try.
    pub delay_ms: u64,
    /// Give up after this.
    pub timeout_ms: u64,
}

/// One chunk to download.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FetchChunk {
    /// Artifact to download from.
    pub artifact: Digest,
    /// Slot to write.
    pub slot: SlotIndex,
    /// First byte, the same in artifact and slot.
    pub offset_bytes: u32,
    /// How many bytes.
    pub length_bytes: u32,
    /// Keep the first flash sector for `Seal` instead of writing it.
    pub hold_first_sector: bool,
    /// Wait this long before the try.
    pub delay_ms: u64,
    /// Give up after this.
    pub timeout_ms: u64,
}

/// How a pit stop ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Give the chip to the application in this slot, which has been verified.
    HandOver {
        /// Slot to start.
        slot: SlotIndex,
        /// Why nothing newer is handed over, or what was done; `None` when there was nothing to do.
        reason: Option<Reason>,
    },
    /// There is no application to start: wait, reset, try again.
    Restart {
        /// How long to wait.
        after_ms: u64,
        /// Why.
        reason: Reason,
    },
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HandOver { slot, reason: None } => write!(f, "hand over to slot {}", slot.0),
            Self::HandOver { slot, reason: Some(reason) } => {
                write!(f, "hand over to slot {}: {reason}", slot.0)
            }
            Self::Restart { after_ms, reason } => write!(f, "restart in {after_ms} ms: {reason}"),
        }
    }
}

/// Which kinds of flash an action may change; tests hold the shell to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writes {
    /// Nothing.
    Nothing,
    /// The vault, and the journal's note of it: damage, the sequence floor.
    Vault,
    /// The journal.
    Journal,
    /// This slot.
    Slot(SlotIndex),
}

impl Action {
    /// The region of flash that this action may change.
    #[must_use]
    pub fn writes(&self) -> Writes {
        match self {
            Self::Preview(_)
            | Self::Enroll { .. }
            | Self::Renew { .. }
            | Self::FetchAnchors { .. }
            | Self::CheckIn { .. }
            | Self::HashChunk { .. }
            | Self::VerifySlot { .. }
            | Self::Report { .. }
            | Self::Finish(_) => Writes::Nothing,
            // The access point, when it is another than last time.
            Self::Join { .. }
            | Self::MakeKey
            | Self::SaveCertificate { .. }
            | Self::SaveAnchors { .. }
            | Self::SaveRecord { .. }
            | Self::SaveNote { .. }
            | Self::SaveTimeFloor { .. } => Writes::Vault,
            // A survey notes damage in the vault.
            Self::Survey(_) | Self::ClearCrashes | Self::CountCritical { .. } => Writes::Journal,
            Self::Invalidate { slot } | Self::Seal { slot, .. } => Writes::Slot(*slot),
            Self::FetchChunk(fetch) => Writes::Slot(fetch.slot),
        }
    }
}
