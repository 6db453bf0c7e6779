//! From a trusted manifest to an immutable plan: planning makes every choice, execution none.

use manifest::sequence::{self, Allowed, Refused};
use manifest::{CHUNK_BYTES, Manifest};
use wire::Reason;

use crate::facts::{SlotIndex, Survey, VaultFacts};

/// Size of a flash sector, the smallest erasable part (ESP32 series: 4 KiB). The image header is in the first.
pub const SECTOR_BYTES: u32 = 4096;

const _: () = assert!(CHUNK_BYTES.is_multiple_of(SECTOR_BYTES));

/// What to install where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The trusted manifest.
    pub manifest: Manifest,
    /// The slot that will hold it.
    pub slot: SlotIndex,
}

/// What a trusted manifest asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decided {
    /// The release runs already.
    UpToDate,
    /// Install by this plan.
    Install(Plan),
    /// Not this one.
    Refuse(Reason),
}

/// Judges a trusted manifest for this device and chooses the slot.
///
/// The order of the checks is the order of the reasons: what the manifest is for, whether it is still valid,
/// whether it may follow what is installed, and last whether it fits.
#[must_use]
pub fn plan(survey: &Survey, vault: &VaultFacts, manifest: Manifest, now_s: u64) -> Decided {
    if manifest.product != vault.product {
        return Decided::Refuse(Reason::ProductMismatch);
    }
    if manifest.chip_id != survey.chip_id {
        return Decided::Refuse(Reason::ChipMismatch);
    }
    if manifest.expires_at_s.is_some_and(|expires_at_s| now_s > expires_at_s) {
        return Decided::Refuse(Reason::ManifestExpired);
    }
    let installed = vault.record.as_ref().map(|record| record.installed());
    let same = match sequence::judge(installed, &manifest) {
        Ok(Allowed::Same) => true,
        Ok(Allowed::First | Allowed::Newer | Allowed::Revert) => false,
        Err(Refused::Older { .. }) => return Decided::Refuse(Reason::SequenceOlder),
        Err(Refused::Reused { .. }) => return Decided::Refuse(Reason::SequenceReused),
    };
    let digest = manifest.artifact.digest;
    let holds = |slot: SlotIndex| {
        survey.slot(slot).and_then(|facts| facts.image.as_ref()).is_some_and(|image| image.digest == digest)
    };
    let boot_slot = survey.boot_slot();
    if same && boot_slot.is_some_and(holds) {
        return Decided::UpToDate;
    }
    let fits =
        |slot: SlotIndex| survey.slot(slot).is_some_and(|facts| facts.size_bytes >= manifest.min_slot_bytes);
    match target(survey, boot_slot, holds, fits) {
        Some(slot) => Decided::Install(Plan { manifest, slot }),
        None => Decided::Refuse(Reason::ImageTooLarge),
    }
}

/// The slot to install into: one that holds the image already, else one that is not needed to boot, else, when it
/// is the only one, the application's own.
fn target(
    survey: &Survey,
    boot_slot: Option<SlotIndex>,
    holds: impl Fn(SlotIndex) -> bool,
    fits: impl Fn(SlotIndex) -> bool,
) -> Option<SlotIndex> {
    let slots = || (0..survey.slots.len()).filter_map(|index| u8::try_from(index).ok()).map(SlotIndex);
    let spare = |slot: &SlotIndex| Some(*slot) != boot_slot;
    match survey.slots.len() {
        0 => None,
        1 => slots().find(|slot| fits(*slot)),
        // With a spare slot the bootable application is never overwritten.
        _ => slots()
            .find(|slot| holds(*slot) && fits(*slot))
            .or_else(|| slots().filter(spare).find(|slot| fits(*slot))),
    }
}

impl Plan {
    /// How many chunks there are.
    #[must_use]
    pub fn chunks(&self) -> u32 {
        self.manifest.artifact.size_bytes.div_ceil(CHUNK_BYTES)
    }

    /// The chunk to work on at `position` of the install: all but the first in ascending order, and the first
    /// one last, since its first sector makes the slot bootable. `None` when all are done.
    #[must_use]
    pub fn chunk_at(&self, position: u32) -> Option<u32> {
        let chunks = self.chunks();
        (position < chunks).then(|| (position + 1) % chunks)
    }
}
