//! From a trusted manifest to an immutable plan: planning makes every choice, execution none.

use manifest::succession::{self, Allowed, Refused};
use manifest::{CHUNK_BYTES, Manifest};
use wire::Reason;

use crate::facts::{SlotContent, Survey, VaultFacts};
use crate::slot::SlotIndex;

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
pub fn plan(
    survey: &Survey,
    vault: &VaultFacts,
    boot_slot: Option<SlotIndex>,
    manifest: Manifest,
    now_s: u64,
) -> Decided {
    if manifest.product != vault.product {
        return Decided::Refuse(Reason::ProductMismatch);
    }
    if manifest.chip_id != survey.chip_id {
        return Decided::Refuse(Reason::ChipMismatch);
    }
    let installed = vault.record.as_ref().map(|record| record.installed());
    let same = installed.is_some_and(|installed| {
        installed.sequence == manifest.sequence && installed.digest == manifest.artifact.digest
    });
    // What is installed may be repaired for as long as it is used.
    if !same && manifest.expires_at_s.is_some_and(|expires_at_s| now_s > expires_at_s) {
        return Decided::Refuse(Reason::ManifestExpired);
    }
    match succession::judge(installed, &manifest) {
        Ok(Allowed::Same | Allowed::Newer | Allowed::Revert) => {}
        // Without a record, its number alone is left to go by.
        Ok(Allowed::First) if vault.sequence_floor.is_some_and(|floor| manifest.sequence < floor) => {
            return Decided::Refuse(Reason::SequenceOlder);
        }
        Ok(Allowed::First) => {}
        Err(Refused::Older { .. }) => return Decided::Refuse(Reason::SequenceOlder),
        Err(Refused::Reused { .. }) => return Decided::Refuse(Reason::SequenceReused),
    }
    let digest = manifest.artifact.digest;
    let holds = |slot: SlotIndex| survey.image(slot).is_some_and(|image| image.digest == digest);
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

/// The slot to install into: one that holds the image already, else the one that is least likely to be missed, else, when
/// it is the only one, the application's own.
fn target(
    survey: &Survey,
    boot_slot: Option<SlotIndex>,
    holds: impl Fn(SlotIndex) -> bool,
    fits: impl Fn(SlotIndex) -> bool,
) -> Option<SlotIndex> {
    let only = survey.slots.len() == 1;
    // With a spare slot the bootable application is never overwritten. Where none is known to be bootable, one may be all
    // the same, and could not be read at this start.
    let spare = |slot: &SlotIndex| only || Some(*slot) != boot_slot;
    let loss = |slot: &SlotIndex| {
        let recorded = survey.record().is_some_and(|record| record.slot == *slot);
        let content = survey.slot(*slot).map(|facts| &facts.content);
        (!holds(*slot), content != Some(&SlotContent::Blank), recorded)
    };
    survey.indices().filter(|slot| fits(*slot) && (spare(slot) || holds(*slot))).min_by_key(loss)
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
