//! A model of ESP-IDF's second-stage bootloader: which image a start ends in, and what it writes on the way.
//!
//! Rules of ESP-IDF `bootloader_support/src/bootloader_utility.c` (5.x; the same in 6.2):
//! `bootloader_utility_get_selected_boot_partition` chooses, `bootloader_utility_load_boot_image` falls back. Without
//! otadata the choice is `factory`. From the choice it works down to `factory`, then up through the slots above, and
//! takes the first image that verifies.
//!
//! Not modelled: secure boot, flash encryption, anti-rollback by eFuse, the `test` partition.

use embedded_storage::nor_flash::{NorFlash, ReadNorFlash};
use flashfmt::chip::Chip;
use flashfmt::image::{ImageError, ImageSummary, Progress, StreamVerifier};
use flashfmt::otadata::{
    self, OTA_ENTRY_BYTES, OTA_ENTRY_OFFSETS, OTADATA_BYTES, OtaEntries, OtaEntry, OtaState,
};
use flashfmt::partition::{Partition, PartitionError, PartitionTable, TABLE_BYTES, TABLE_OFFSET};

use crate::flash::SECTOR_BYTES;

/// A bootloader build.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bootloader {
    /// The chip it runs on; images for another one do not verify.
    pub chip: Chip,
    /// `CONFIG_BOOTLOADER_APP_ROLLBACK_ENABLE`. The bootloaders that espflash brings along have it off.
    pub rollback_enabled: bool,
}

/// What a start ends in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Boot {
    /// The updater: the image in `factory`, or in `ota_0` where there is no `factory` (the classic layout).
    Updater {
        /// The partition it was found in.
        partition: Partition,
        /// The verified image.
        image: Box<ImageSummary>,
    },
    /// An application.
    App {
        /// Its slot: 0 for `ota_0`.
        slot: u8,
        /// The partition it was found in.
        partition: Partition,
        /// The verified image.
        image: Box<ImageSummary>,
    },
    /// Nothing: the chip restarts over and over.
    Nothing(NothingReason),
}

/// Why nothing can be started.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NothingReason {
    /// No usable partition table.
    #[error("the partition table cannot be used; flash it again")]
    PartitionTable(#[source] PartitionError),
    /// No partition holds an image that verifies.
    #[error("none of {} app partitions holds an image that verifies; flash one again", .0.len())]
    NoImage(Vec<Refused>),
}

/// A partition that was tried in vain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The partition.
    pub partition: Partition,
    /// What is wrong with its contents.
    pub reason: RefusedReason,
}

/// Why the image in a partition is not started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RefusedReason {
    /// There is no valid image.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The image is for another chip (`bootloader_common_check_chip_validity`).
    #[error("image is for {found}, expected {expected}")]
    WrongChip {
        /// The chip of this device.
        expected: Chip,
        /// The chip of the image.
        found: Chip,
    },
}

/// The choice before any image is looked at: `FACTORY_INDEX` or a slot number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Choice {
    Factory,
    Slot {
        slot: u8,
        /// Both copies of otadata are empty: the bootloader records the slot it ends up in (`set_actual_ota_seq`).
        record_start: bool,
    },
}

impl Bootloader {
    /// A stock bootloader: rollback off.
    pub fn new(chip: Chip) -> Self {
        Self { chip, rollback_enabled: false }
    }

    /// One start: chooses, rewrites otadata as a rollback-enabled build does, and verifies images until one is right.
    ///
    /// # Errors
    /// What the flash says; in a simulation that is a loss of power.
    pub fn boot<F: NorFlash>(&self, flash: &mut F) -> Result<Boot, F::Error> {
        let mut bytes = [0; TABLE_BYTES];
        flash.read(TABLE_OFFSET, &mut bytes)?;
        let flash_bytes = u32::try_from(flash.capacity()).unwrap_or(u32::MAX);
        let table = match usable_table(&bytes, flash_bytes) {
            Ok(table) => table,
            Err(error) => return Ok(Boot::Nothing(NothingReason::PartitionTable(error))),
        };
        let choice = self.choose(flash, &table)?;
        let mut refused = Vec::new();
        for partition in in_order_of_trial(&table, choice) {
            match self.verify(flash, partition)? {
                Ok(image) => {
                    if let (Choice::Slot { record_start: true, .. }, Some(slot), Some(otadata)) =
                        (choice, partition.slot(), table.otadata())
                    {
                        let entry = OtaEntry::new(u32::from(slot.get()) + 1, OtaState::Valid);
                        rewrite(flash, otadata, 0, &entry)?;
                    }
                    return Ok(started(&table, partition, image));
                }
                Err(reason) => refused.push(Refused { partition, reason }),
            }
        }
        Ok(Boot::Nothing(NothingReason::NoImage(refused)))
    }

    /// `bootloader_utility_get_selected_boot_partition`.
    fn choose<F: NorFlash>(&self, flash: &mut F, table: &PartitionTable<'_>) -> Result<Choice, F::Error> {
        let Some(partition) = table.otadata() else {
            return Ok(Choice::Factory);
        };
        let found = read_otadata(flash, partition)?;
        let ota_count = u8::try_from(table.ota_partitions().count()).unwrap_or(u8::MAX);
        let (entries, active) = if self.rollback_enabled {
            let step = otadata::on_boot(found, ota_count);
            for (copy, (entry, is_new)) in step.entries.iter().zip(step.rewritten).enumerate() {
                if let Some(entry) = entry.filter(|_| is_new) {
                    rewrite(flash, partition, copy, &entry)?;
                }
            }
            (step.entries, step.active)
        } else {
            (found, otadata::select(&found, ota_count))
        };
        Ok(match active {
            Some(active) => Choice::Slot { slot: active.slot, record_start: false },
            // A copy with a sequence number but the wrong CRC, or refused by its state, is not an initial one.
            None if table.factory().is_none() && is_unselectable(&entries) => {
                Choice::Slot { slot: 0, record_start: is_initial(&entries) }
            }
            None => Choice::Factory,
        })
    }

    /// `try_load_partition`: an image without appended SHA-256 is good enough for this bootloader.
    fn verify<F: ReadNorFlash>(
        &self,
        flash: &mut F,
        partition: Partition,
    ) -> Result<Result<Box<ImageSummary>, RefusedReason>, F::Error> {
        let mut verifier = StreamVerifier::new(partition.size).allow_missing_hash();
        let mut sector = [0; SECTOR_BYTES as usize];
        for offset in (partition.offset..partition.end()).step_by(sector.len()) {
            flash.read(offset, &mut sector)?;
            match verifier.update(&sector) {
                Ok(Progress::NeedMore) => {}
                Ok(Progress::Done { .. }) => break,
                Err(error) => return Ok(Err(error.into())),
            }
        }
        Ok(verifier.finish().map_err(RefusedReason::from).and_then(|image| {
            let (expected, found) = (self.chip, image.header.chip);
            if found == expected {
                Ok(Box::new(image))
            } else {
                Err(RefusedReason::WrongChip { expected, found })
            }
        }))
    }
}

fn usable_table(bytes: &[u8], flash_bytes: u32) -> Result<PartitionTable<'_>, PartitionError> {
    let table = PartitionTable::parse(bytes)?;
    table.check_fits(flash_bytes)?;
    Ok(table)
}

/// `bootloader_utility_load_boot_image`: down from the choice to `factory`, then up through the slots above it.
fn in_order_of_trial(table: &PartitionTable<'_>, choice: Choice) -> Vec<Partition> {
    let is_above = |partition: &Partition| match choice {
        Choice::Factory => true,
        Choice::Slot { slot: chosen, .. } => partition.slot().is_some_and(|slot| slot.get() > chosen),
    };
    // `index_to_partition` knows as many slots as there are, whatever their numbers: a gap hides the last ones.
    let count = table.ota_partitions().count();
    let known =
        table.ota_partitions().filter(|slot| slot.slot().is_some_and(|slot| usize::from(slot.get()) < count));
    let (above, mut order): (Vec<_>, Vec<_>) = known.partition(is_above);
    order.reverse();
    order.extend(table.factory());
    order.extend(above);
    order
}

/// Names what was found by the role of its partition in this layout.
fn started(table: &PartitionTable<'_>, partition: Partition, image: Box<ImageSummary>) -> Boot {
    match partition.slot().map(|slot| slot.get()) {
        Some(0) if table.factory().is_none() => Boot::Updater { partition, image },
        Some(slot) => Boot::App { slot, partition, image },
        None => Boot::Updater { partition, image },
    }
}

/// `bootloader_common_ota_select_invalid` of both copies.
fn is_unselectable(entries: &OtaEntries) -> bool {
    entries.iter().flatten().all(|entry| !entry.state.is_bootable())
}

/// Nothing was ever selected, or nothing that can be read.
fn is_initial(entries: &OtaEntries) -> bool {
    entries.iter().flatten().all(|entry| !entry.crc_ok())
}

fn read_otadata<F: ReadNorFlash>(flash: &mut F, partition: Partition) -> Result<OtaEntries, F::Error> {
    let mut entries = [None; 2];
    for (entry, offset) in entries.iter_mut().zip(OTA_ENTRY_OFFSETS) {
        let mut record = [0; OTA_ENTRY_BYTES];
        flash.read(partition.offset + offset, &mut record)?;
        *entry = OtaEntry::parse(&record);
    }
    Ok(entries)
}

/// `write_otadata`: the sector of one copy is erased, then the copy is written. When that fails, its callers go on; a
/// flash that cannot even be read any more is without power.
fn rewrite<F: NorFlash>(
    flash: &mut F,
    partition: Partition,
    copy: usize,
    entry: &OtaEntry,
) -> Result<(), F::Error> {
    let address = partition.offset + OTA_ENTRY_OFFSETS[copy];
    let written =
        flash.erase(address, address + SECTOR_BYTES).and_then(|()| flash.write(address, &entry.emit()));
    match written {
        Ok(()) => Ok(()),
        Err(_) => flash.read(address, &mut [0; OTA_ENTRY_BYTES]),
    }
}

const _: () = assert!(OTADATA_BYTES == OTA_ENTRY_OFFSETS.len() as u32 * SECTOR_BYTES);

#[cfg(test)]
mod tests;
