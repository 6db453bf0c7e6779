//! What the shell finds out before the first decision.

use alloc::string::String;
use alloc::vec::Vec;

use manifest::{Digest, PublisherKeys};
use minicbor::{Decode, Encode};
use wire::{AnchorsDigest, HandOverStrategy, Outcome, Reason, Running};

use crate::InstallRecord;

/// Number of an application slot, in the order of the partition table (`ota_0` is 0 in the default layouts).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Encode, Decode)]
#[cbor(transparent)]
pub struct SlotIndex(#[n(0)] pub u8);

/// The device as it stands at the start of a pit stop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Survey {
    /// Chip id (ESP-IDF `esp_chip_id_t`).
    pub chip_id: u16,
    /// Version of this updater.
    pub updater_version: String,
    /// How this device hands over.
    pub strategy: HandOverStrategy,
    /// The application slots, in the order of the partition table.
    pub slots: Vec<SlotFacts>,
    /// What the vault holds, or why it does not help.
    pub vault: Result<VaultFacts, Reason>,
    /// Critical errors over the life of the journal.
    pub critical_errors: u32,
    /// Code of the last critical error.
    pub last_critical: Option<u16>,
    /// Whether otadata says that the application confirmed itself: the updater has not run since the hand-over.
    pub confirmed_itself: bool,
    /// A random number, for jitter.
    pub jitter: u32,
}

/// An application slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotFacts {
    /// Partition label.
    pub label: String,
    /// Size of the partition in bytes.
    pub size_bytes: u32,
    /// The image in it, when it is whole and made for this chip: header, segments, checksum and appended
    /// SHA-256 have been verified. Only such a slot is handed over to.
    pub image: Option<ImageFacts>,
}

/// A verified image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageFacts {
    /// SHA-256 of the whole image.
    pub digest: Digest,
    /// Version text of the app descriptor.
    pub version: Option<String>,
}

/// What the vault holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VaultFacts {
    /// Name of the product.
    pub product: String,
    /// Publisher keys that may sign manifests.
    pub publishers: PublisherKeys,
    /// Digest of the trust anchors.
    pub anchors: AnchorsDigest,
    /// How far the identity has come.
    pub identity: Identity,
    /// What is installed; `None` before the first install by Pitstop.
    pub record: Option<InstallRecord>,
    /// The last install or refusal, or that the application confirmed itself.
    pub last_outcome: Option<Outcome>,
    /// The time floor: the later of build time and stored server time, seconds since 1970.
    pub time_floor_s: u64,
}

/// How far the device's identity has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identity {
    /// No key yet.
    Nothing,
    /// A key, no certificate for it.
    Key,
    /// Key and certificate.
    Certified(CertificateLife),
}

/// The validity of the device's certificate, seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CertificateLife {
    /// First second of validity.
    pub not_before_s: u64,
    /// Last second of validity.
    pub not_after_s: u64,
}

impl Survey {
    /// The slot to hand over to: the recorded one when it is bootable, else the first that is.
    #[must_use]
    pub fn boot_slot(&self) -> Option<SlotIndex> {
        let bootable = |slot: &SlotIndex| self.slot(*slot).is_some_and(|facts| facts.image.is_some());
        let recorded = self.record().map(|record| record.slot);
        let all = (0..self.slots.len()).filter_map(|index| u8::try_from(index).ok()).map(SlotIndex);
        recorded.into_iter().chain(all).find(bootable)
    }

    /// The facts of one slot.
    #[must_use]
    pub fn slot(&self, slot: SlotIndex) -> Option<&SlotFacts> {
        self.slots.get(usize::from(slot.0))
    }

    pub(crate) fn slot_mut(&mut self, slot: SlotIndex) -> Option<&mut SlotFacts> {
        self.slots.get_mut(usize::from(slot.0))
    }

    /// What is installed, as far as the vault knows.
    #[must_use]
    pub fn record(&self) -> Option<&InstallRecord> {
        self.vault.as_ref().ok()?.record.as_ref()
    }

    /// What will run when nothing new comes. The sequence number is named only when the image is the recorded one.
    #[must_use]
    pub fn running(&self) -> Option<Running> {
        let image = self.slot(self.boot_slot()?)?.image.as_ref()?;
        let record = self.record().filter(|record| record.digest == image.digest);
        Some(Running {
            digest: image.digest.0.into(),
            sequence: record.map(|record| record.sequence.0),
            version: image.version.clone(),
        })
    }
}
