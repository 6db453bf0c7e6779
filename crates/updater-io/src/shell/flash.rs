//! What the shell does to flash.

use alloc::boxed::Box;
use alloc::string::ToString;
use alloc::vec;
use alloc::vec::Vec;

use embedded_storage::nor_flash::{NorFlash, NorFlashError, NorFlashErrorKind, ReadNorFlash};
use flashfmt::image::{ImageError, Progress, StreamVerifier};
use flashfmt::partition::{PartitionError, PartitionTable, TABLE_BYTES, TABLE_OFFSET};
use manifest::Digest;
use sha2::{Digest as _, Sha256};
use updater::{ImageFacts, SlotFacts};
use wire::Reason;

use super::{Map, Sector, Shell, digest};
use crate::board::Board;
use crate::region::{Region, SECTOR_BYTES};

/// Partition that holds the vault.
const VAULT_LABEL: &str = "vault";
/// Partition that holds the journal.
const JOURNAL_LABEL: &str = "journal";

/// Trouble with flash.
#[derive(Debug, thiserror::Error)]
pub enum FlashFault {
    /// The driver could not read.
    #[error("expected to read {length_bytes} bytes at {address:#x}, found {kind:?}")]
    Read {
        /// First address.
        address: u32,
        /// How many bytes.
        length_bytes: usize,
        /// The driver's word.
        kind: NorFlashErrorKind,
    },
    /// The driver could not erase.
    #[error("expected to erase {address:#x} to {end:#x}, found {kind:?}")]
    Erase {
        /// First address.
        address: u32,
        /// First address after it.
        end: u32,
        /// The driver's word.
        kind: NorFlashErrorKind,
    },
    /// The driver could not write.
    #[error("expected to write {length_bytes} bytes at {address:#x}, found {kind:?}")]
    Write {
        /// First address.
        address: u32,
        /// How many bytes.
        length_bytes: usize,
        /// The driver's word.
        kind: NorFlashErrorKind,
    },
    /// The partition table is not one.
    #[error("the partition table cannot be used")]
    PartitionTable(#[source] PartitionError),
    /// What is in the slot is no bootable image.
    #[error("the image cannot be booted")]
    Image(#[source] ImageError),
    /// The image is for another chip.
    #[error("expected an image for chip id {expected}, found one for {found}")]
    Chip {
        /// The board's chip.
        expected: u16,
        /// The image's.
        found: u16,
    },
    /// The engine asked for a part that is not in the slot.
    #[error("expected a part of a slot of {slot_bytes} bytes, found {offset_bytes} + {length_bytes}")]
    OutsideSlot {
        /// Size of the slot.
        slot_bytes: u32,
        /// First byte that was asked for.
        offset_bytes: u32,
        /// How many bytes.
        length_bytes: u32,
    },
    /// `Seal` without a first sector to write.
    #[error("expected the first sector to be held, found none; the shell or the engine is wrong")]
    NothingHeld,
}

impl FlashFault {
    fn reason(&self) -> Reason {
        match self {
            Self::Read { .. } => Reason::FlashRead,
            Self::Erase { .. } | Self::Write { .. } => Reason::FlashWrite,
            Self::PartitionTable(_) => Reason::PartitionTable,
            Self::Image(_) | Self::Chip { .. } => Reason::ImageInvalid,
            Self::OutsideSlot { .. } | Self::NothingHeld => Reason::Internal,
        }
    }
}

impl<B: Board> Shell<'_, B> {
    /// Reads the partition table.
    pub(super) fn read_map(&mut self) -> Result<Map, Reason> {
        let flash = self.board.flash();
        let read = read_map(flash);
        self.blame(read)
    }

    /// The slots with what is bootable in them. Finding nothing bootable is no trouble here.
    pub(super) fn survey_slots(&mut self) -> Vec<SlotFacts> {
        let chip_id = self.board.facts().chip_id;
        let flash = self.board.flash();
        let facts = |(label, region): &(_, Region)| SlotFacts {
            label: Clone::clone(label),
            size_bytes: region.size_bytes,
            image: verify(flash, *region, chip_id).ok(),
        };
        self.map.slots.iter().map(facts).collect()
    }

    /// Hashes a part of a slot; a held first sector stands for the one in flash.
    pub(super) fn hash(&mut self, slot: Region, offset: u32, length_bytes: u32) -> Result<Digest, Reason> {
        let part = self.part(slot, offset, length_bytes)?;
        let held = self.held_sector.as_deref().filter(|_| offset == 0);
        let hashed = hash(self.board.flash(), part, held);
        self.blame(hashed)
    }

    /// Erases the slot's first sector, unless it is blank.
    pub(super) fn invalidate(&mut self, slot: Region) -> Result<(), Reason> {
        self.held_sector = None;
        let header = Region { offset: slot.offset, size_bytes: SECTOR_BYTES.min(slot.size_bytes) };
        let invalidated = erase_unless_blank(self.board.flash(), header);
        self.blame(invalidated)
    }

    /// Writes the held first sector. The sector is erased once more right before: should it have been left
    /// half-erased by a power cut, it may read blank and still not hold what is written to it.
    pub(super) fn seal(&mut self, slot: Region) -> Result<(), Reason> {
        let Some(held) = self.held_sector.take() else { return self.blame(Err(FlashFault::NothingHeld)) };
        let flash = self.board.flash();
        let sealed = erase(flash, Region { size_bytes: SECTOR_BYTES, ..slot })
            .and_then(|()| write(flash, slot.offset, held.as_slice()));
        self.blame(sealed)
    }

    /// Verifies the image in a slot as at a start.
    pub(super) fn verify(&mut self, slot: Region) -> Result<ImageFacts, Reason> {
        let chip_id = self.board.facts().chip_id;
        let verified = verify(self.board.flash(), slot, chip_id);
        self.blame(verified)
    }

    /// The part of a slot that an action means.
    pub(super) fn part(&mut self, slot: Region, offset: u32, length_bytes: u32) -> Result<Region, Reason> {
        let fits = offset.checked_add(length_bytes).is_some_and(|end| end <= slot.size_bytes);
        let part = match slot.offset.checked_add(offset) {
            Some(offset) if fits => Ok(Region { offset, size_bytes: length_bytes }),
            Some(_) | None => Err(FlashFault::OutsideSlot {
                slot_bytes: slot.size_bytes,
                offset_bytes: offset,
                length_bytes,
            }),
        };
        self.blame(part)
    }

    /// Writes `sector` of a chunk into flash, which has been erased there.
    pub(super) fn write_erased(&mut self, address: u32, sector: &mut Vec<u8>) -> Result<(), Reason> {
        // The end of the image is filled up to what the flash can write at once.
        sector.resize(sector.len().next_multiple_of(B::Flash::WRITE_SIZE), 0xff);
        let written = write(self.board.flash(), address, sector);
        sector.clear();
        self.blame(written)
    }

    /// Erases all sectors of a part of a slot.
    pub(super) fn erase_part(&mut self, part: Region) -> Result<(), Reason> {
        let size_bytes = part.size_bytes.next_multiple_of(SECTOR_BYTES);
        let erased = erase(self.board.flash(), Region { size_bytes, ..part });
        self.blame(erased)
    }

    pub(super) fn hold_first_sector(&mut self, sector: &mut Vec<u8>) {
        let mut held: Box<Sector> = Box::new([0xff; SECTOR_BYTES as usize]);
        held.iter_mut().zip(sector.drain(..)).for_each(|(to, from)| *to = from);
        self.held_sector = Some(held);
    }

    pub(super) fn blame<T>(&mut self, result: Result<T, FlashFault>) -> Result<T, Reason> {
        result.map_err(|fault| self.trouble(fault.reason(), &fault))
    }
}

fn read_map<F: ReadNorFlash>(flash: &mut F) -> Result<Map, FlashFault> {
    let mut bytes = vec![0; TABLE_BYTES];
    read(flash, TABLE_OFFSET, &mut bytes)?;
    let table = PartitionTable::parse(&bytes).map_err(FlashFault::PartitionTable)?;
    let capacity_bytes = u32::try_from(flash.capacity()).unwrap_or(u32::MAX);
    table.check_fits(capacity_bytes).map_err(FlashFault::PartitionTable)?;
    let region = |partition: flashfmt::partition::Partition| Region {
        offset: partition.offset,
        size_bytes: partition.size,
    };
    Ok(Map {
        slots: table.app_slots().map(|slot| (slot.label.as_str().to_string(), region(slot))).collect(),
        vault: table.find_label(VAULT_LABEL).map(region),
        journal: table.find_label(JOURNAL_LABEL).map(region),
    })
}

fn hash<F: ReadNorFlash>(
    flash: &mut F,
    part: Region,
    first_sector: Option<&Sector>,
) -> Result<Digest, FlashFault> {
    let mut hash = Sha256::new();
    let mut flash_part = part;
    if let Some(sector) = first_sector {
        let held_bytes = SECTOR_BYTES.min(part.size_bytes);
        hash.update(&sector[..held_bytes as usize]);
        flash_part = Region { offset: part.offset + held_bytes, size_bytes: part.size_bytes - held_bytes };
    }
    for_each_sector(flash, flash_part, |bytes| {
        hash.update(bytes);
        Ok(true)
    })?;
    Ok(digest(hash))
}

fn verify<F: ReadNorFlash>(flash: &mut F, slot: Region, chip_id: u16) -> Result<ImageFacts, FlashFault> {
    let mut verifier = StreamVerifier::new(slot.size_bytes);
    for_each_sector(flash, slot, |bytes| match verifier.update(bytes).map_err(FlashFault::Image)? {
        Progress::NeedMore => Ok(true),
        Progress::Done { .. } => Ok(false),
    })?;
    let summary = verifier.finish().map_err(FlashFault::Image)?;
    let found = summary.header.chip.id();
    if found != chip_id {
        return Err(FlashFault::Chip { expected: chip_id, found });
    }
    let version = summary.app_desc.map(|app_desc| app_desc.version.as_str().to_string());
    Ok(ImageFacts { digest: Digest(summary.digest), version })
}

fn erase_unless_blank<F: NorFlash>(flash: &mut F, part: Region) -> Result<(), FlashFault> {
    let mut blank = true;
    for_each_sector(flash, part, |bytes| {
        blank = bytes.iter().all(|byte| *byte == 0xff);
        Ok(blank)
    })?;
    if blank { Ok(()) } else { erase(flash, part) }
}

/// Reads a part sector by sector, until `each` says stop. The last bytes are read with what the flash can read at
/// once, and handed on without the surplus.
fn for_each_sector<F: ReadNorFlash>(
    flash: &mut F,
    part: Region,
    mut each: impl FnMut(&[u8]) -> Result<bool, FlashFault>,
) -> Result<(), FlashFault> {
    let mut buffer = vec![0; SECTOR_BYTES as usize];
    for start in (0..part.size_bytes).step_by(SECTOR_BYTES as usize) {
        let wanted_bytes = (part.size_bytes - start).min(SECTOR_BYTES) as usize;
        let read_bytes = wanted_bytes.next_multiple_of(F::READ_SIZE);
        read(flash, part.offset + start, &mut buffer[..read_bytes])?;
        if !each(&buffer[..wanted_bytes])? {
            break;
        }
    }
    Ok(())
}

fn read<F: ReadNorFlash>(flash: &mut F, address: u32, bytes: &mut [u8]) -> Result<(), FlashFault> {
    let length_bytes = bytes.len();
    flash.read(address, bytes).map_err(|error| FlashFault::Read { address, length_bytes, kind: error.kind() })
}

fn erase<F: NorFlash>(flash: &mut F, part: Region) -> Result<(), FlashFault> {
    let (address, end) = (part.offset, part.offset.saturating_add(part.size_bytes));
    flash.erase(address, end).map_err(|error| FlashFault::Erase { address, end, kind: error.kind() })
}

fn write<F: NorFlash>(flash: &mut F, address: u32, bytes: &[u8]) -> Result<(), FlashFault> {
    flash.write(address, bytes).map_err(|error| FlashFault::Write {
        address,
        length_bytes: bytes.len(),
        kind: error.kind(),
    })
}
