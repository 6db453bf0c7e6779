//! What a device says when it checks in.

use alloc::string::String;
use alloc::vec::Vec;
use minicbor::bytes::ByteArray;
use minicbor::{Decode, Decoder, Encode, decode};

use crate::AnchorsDigest;

/// Names a publisher key: the `kid` of the manifests that it signs.
pub type PublisherId = ByteArray<8>;

/// The state of a device at one pit stop. The device itself is named by its client certificate, not here.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct CheckIn {
    /// [`crate::PROTOCOL_VERSION`] of the updater.
    #[n(0)]
    pub protocol: u8,
    /// The application that will be handed over to when nothing new comes; `None` when no slot is bootable.
    #[n(1)]
    pub running: Option<Running>,
    /// Every application slot, in the order of the partition table.
    #[n(2)]
    pub slots: Vec<Slot>,
    /// Chip id as in an image header (ESP-IDF `esp_chip_id_t`).
    #[n(3)]
    pub chip_id: u16,
    /// Version of the updater itself.
    #[n(4)]
    pub updater_version: String,
    /// How the last run of the application ended.
    #[n(5)]
    pub reset_cause: ResetCause,
    /// Starts since power was applied, this one included; wraps at 4,096.
    #[n(6)]
    pub starts: u32,
    /// The last install or refusal, or that the application confirmed itself, as the vault remembers it.
    #[n(7)]
    pub last_outcome: Option<Outcome>,
    /// Free heap when the check-in was written, in bytes; `None` where it cannot be known.
    #[n(8)]
    pub free_heap_bytes: Option<u32>,
    /// How this device hands over.
    #[n(9)]
    pub strategy: HandOverStrategy,
    /// Critical errors of the updater over the life of the journal.
    #[n(10)]
    pub critical_errors: u32,
    /// The last critical error.
    #[n(11)]
    pub last_critical: Option<u16>,
    /// Digest of the trust anchors in the vault, see [`crate::anchors_digest`]; `None` from an updater of before.
    #[n(12)]
    pub anchors: Option<AnchorsDigest>,
    /// Ids of the publisher keys in the vault, at most [`crate::MAX_PUBLISHERS`]; `None` from an updater of before, or one
    /// that has more.
    #[n(13)]
    pub publishers: Option<Vec<PublisherId>>,
}

/// The application that runs on a device.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Running {
    /// SHA-256 of the whole image; this identifies the build.
    #[n(0)]
    pub digest: ByteArray<32>,
    /// Sequence number of the release; `None` for an image that Pitstop did not install.
    #[n(1)]
    pub sequence: Option<u64>,
    /// Version text of the app descriptor, when the image has one. Informational: it is often a constant.
    #[n(2)]
    pub version: Option<String>,
}

/// An application slot.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Slot {
    /// Partition label, such as `ota_0`.
    #[n(0)]
    pub label: String,
    /// Size of the partition in bytes.
    #[n(1)]
    pub size_bytes: u32,
    /// Whether a whole, valid image for this chip is in it.
    #[n(2)]
    pub bootable: bool,
}

/// How an install ended, or why there was none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Outcome {
    /// Sequence number of the release; `None` when the manifest could not be trusted enough to name it.
    #[n(0)]
    pub sequence: Option<u64>,
    /// [`crate::Reason::code`]; kept as a number, so that an old server stores a new code.
    #[n(1)]
    pub reason: u16,
}

/// Why the chip reset, as seen at the start of the updater. Codes are append-only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode)]
#[cbor(index_only)]
pub enum ResetCause {
    /// Not known, or not one of the others.
    #[n(0)]
    Unknown,
    /// Power was applied.
    #[n(1)]
    PowerOn,
    /// The application asked for a restart.
    #[n(2)]
    Software,
    /// The application panicked.
    #[n(3)]
    Panic,
    /// A watchdog fired.
    #[n(4)]
    Watchdog,
    /// The supply voltage fell too low.
    #[n(5)]
    Brownout,
    /// Wake from deep sleep.
    #[n(6)]
    DeepSleep,
    /// The reset pin, or a debugger.
    #[n(7)]
    External,
    /// The updater itself ended without announcing it, whatever the chip gave as the cause. The application did not
    /// run since the check-in before, so this says nothing of it.
    #[n(8)]
    UpdaterCrash,
}

impl ResetCause {
    /// The cause of a code; a code of a newer updater reads as [`ResetCause::Unknown`].
    #[must_use]
    pub fn from_code(code: u32) -> Self {
        match code {
            1 => Self::PowerOn,
            2 => Self::Software,
            3 => Self::Panic,
            4 => Self::Watchdog,
            5 => Self::Brownout,
            6 => Self::DeepSleep,
            7 => Self::External,
            8 => Self::UpdaterCrash,
            0 | 9.. => Self::Unknown,
        }
    }

    /// Whether this tells that the application crashed.
    #[must_use]
    pub fn is_crash(self) -> bool {
        match self {
            Self::Panic | Self::Watchdog => true,
            Self::Unknown
            | Self::PowerOn
            | Self::Software
            | Self::Brownout
            | Self::DeepSleep
            | Self::External
            | Self::UpdaterCrash => false,
        }
    }
}

/// The two ways to give the chip to the application (docs/handover.md). Codes are append-only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode)]
#[cbor(index_only)]
pub enum HandOverStrategy {
    /// The updater starts the application itself.
    #[n(0)]
    ChainLoad,
    /// The updater makes the bootloader start the application once.
    #[n(1)]
    OtadataRollback,
    /// A strategy of a newer updater.
    #[n(255)]
    Other,
}

// By hand, because a code of a newer updater must not make a whole check-in unreadable.
impl<'b, C> Decode<'b, C> for ResetCause {
    fn decode(decoder: &mut Decoder<'b>, _: &mut C) -> Result<Self, decode::Error> {
        decoder.u32().map(Self::from_code)
    }
}

impl<'b, C> Decode<'b, C> for HandOverStrategy {
    fn decode(decoder: &mut Decoder<'b>, _: &mut C) -> Result<Self, decode::Error> {
        Ok(match decoder.u32()? {
            0 => Self::ChainLoad,
            1 => Self::OtadataRollback,
            2.. => Self::Other,
        })
    }
}
