//! What the shell finds out before the first decision.

use alloc::string::String;
use alloc::vec::Vec;

use manifest::{Digest, PublisherKeys, Sequence};
use wire::{AnchorsDigest, HandOverStrategy, Outcome, Reason, Running};

use crate::InstallRecord;
use crate::carried::{Key, Token};
use crate::slot::SlotIndex;

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
    /// What the journal holds.
    pub journal: JournalFacts,
    /// Whether otadata says that the application confirmed itself: the updater has not run since the hand-over.
    pub confirmed_itself: bool,
    /// A random number, for jitter.
    pub jitter: u32,
}

/// What the journal holds; zeros in a layout without one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JournalFacts {
    /// Critical errors over its life.
    pub critical_errors: u32,
    /// Code of the last critical error.
    pub last_critical: Option<u16>,
    /// Starts in a row that may hide a crash of the updater: the retained register did not survive the reset.
    pub crashes: u32,
}

/// An application slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotFacts {
    /// Partition label.
    pub label: String,
    /// Size of the partition in bytes.
    pub size_bytes: u32,
    /// What is in it.
    pub content: SlotContent,
}

/// What is in a slot, as far as this start has looked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SlotContent {
    /// Nothing: its first sector is blank, as before the first install and in the middle of one.
    Blank,
    /// Nothing that could be started.
    Unbootable,
    /// The headers of an image for this chip that could be started. The rest has not been verified.
    Headers,
    /// An image that is whole, made for this chip, and that the hand-over can start: header, segments, checksum and
    /// appended SHA-256 have been verified at this start. Only such a slot is handed over to.
    Verified(ImageFacts),
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
    /// What is installed; `None` before the first install by Pitstop, and when the record cannot be read.
    pub record: Option<InstallRecord>,
    /// The sequence number of the record, kept a second time: nothing older is installed when the record is lost.
    pub sequence_floor: Option<Sequence>,
    /// The last install or refusal, or that the application confirmed itself.
    pub last_outcome: Option<Outcome>,
    /// The time floor: the later of build time and stored server time, seconds since 1970.
    pub time_floor_s: u64,
    /// Whether it can be written at this start: nothing in it reads as damaged that no start before has seen.
    pub is_writable: bool,
}

/// How far the device's identity has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// No certificate, and no token to ask for one with.
    Missing,
    /// No key yet, and a token.
    Token(Token),
    /// A key, no certificate for it, and the token to ask for one with.
    Key {
        /// What the certificate will be for.
        key: Key,
        /// What lets it enroll.
        token: Token,
    },
    /// Key and certificate.
    Certified(Certified),
    /// Key or certificate are there, and neither copy can be read. A new key would not be let in: the token is used up.
    Damaged,
}

/// A key for which there is a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certified {
    /// The key.
    pub key: Key,
    /// How long its certificate is valid.
    pub life: CertificateLife,
    /// Whether the two copies in the vault differ: power was lost while the next certificate was being stored.
    pub is_half_saved: bool,
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
    /// The facts of one slot.
    #[must_use]
    pub fn slot(&self, slot: SlotIndex) -> Option<&SlotFacts> {
        self.slots.get(usize::from(slot.0))
    }

    /// The verified image in a slot.
    #[must_use]
    pub fn image(&self, slot: SlotIndex) -> Option<&ImageFacts> {
        match &self.slot(slot)?.content {
            SlotContent::Verified(image) => Some(image),
            SlotContent::Blank | SlotContent::Unbootable | SlotContent::Headers => None,
        }
    }

    /// Notes what is in a slot now.
    pub(crate) fn set_content(&mut self, slot: SlotIndex, content: SlotContent) {
        if let Some(facts) = self.slots.get_mut(usize::from(slot.0)) {
            facts.content = content;
        }
    }

    /// All slots, in the order of the partition table.
    pub(crate) fn indices(&self) -> impl Iterator<Item = SlotIndex> + use<> {
        (0..u8::try_from(self.slots.len()).unwrap_or(u8::MAX)).map(SlotIndex)
    }

    /// What is installed, as far as the vault knows.
    #[must_use]
    pub fn record(&self) -> Option<&InstallRecord> {
        self.vault.as_ref().ok()?.record.as_ref()
    }

    /// What runs when `slot` is started. The sequence number is named only when the image is the recorded one, and so
    /// is the version of the release where the image names none itself.
    #[must_use]
    pub fn running(&self, slot: SlotIndex) -> Option<Running> {
        let image = self.image(slot)?;
        let record = self.record().filter(|record| record.digest == image.digest);
        let own = image.version.clone().filter(|version| !version.is_empty());
        Some(Running {
            digest: image.digest.0.into(),
            sequence: record.map(|record| record.sequence.0),
            version: own.or_else(|| record.map(|record| record.version.clone())),
        })
    }
}
