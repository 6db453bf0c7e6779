//! What the shell does to flash.

use alloc::boxed::Box;
use alloc::string::ToString;
use alloc::vec;
use alloc::vec::Vec;

use embedded_storage::nor_flash::{NorFlash, ReadNorFlash};
use flashfmt::image::{Progress, StreamVerifier};
use manifest::Digest;
use sha2::Digest as _;
use updater::{ImageFacts, SlotFacts};
use wire::Reason;

use super::{Sector, Shell, digest};
use crate::board::Board;
use crate::flash::{FlashFault, erase, read, write};
use crate::handover::{self, Found};
use crate::map::{Map, Slot};
use crate::region::{Region, SECTOR_BYTES};

impl<B: Board> Shell<'_, B> {
    /// Reads the partition table.
    pub(super) fn read_map(&mut self) -> Result<Map, Reason> {
        let read = Map::read(self.board.flash());
        self.blame(read)
    }

    /// Takes the updater's place in otadata, and says whether the application had taken it. Trouble does not end the
    /// pit stop: the hand-over writes otadata again.
    pub(super) fn settle(&mut self) -> bool {
        match handover::settle(self.board.flash(), &self.map) {
            Ok(Found::ApplicationConfirmedItself) => true,
            Ok(Found::Usual) => false,
            Err(fault) => {
                self.trouble(fault.reason(), &fault);
                false
            }
        }
    }

    /// The slots with what is bootable in them. Finding nothing bootable is no trouble here.
    pub(super) fn survey_slots(&mut self) -> Vec<SlotFacts> {
        let board = &mut *self.board;
        let facts = |slot: &Slot| SlotFacts {
            label: slot.label.clone(),
            size_bytes: slot.region.size_bytes,
            image: verify(board, slot.region).ok(),
        };
        self.map.slots.iter().map(facts).collect()
    }

    /// Hashes a part of a slot; a held first sector stands for the one in flash.
    pub(super) fn hash(&mut self, slot: Region, offset: u32, length_bytes: u32) -> Result<Digest, Reason> {
        let part = self.part(slot, offset, length_bytes)?;
        let held = self.held_sector.as_deref().filter(|_| offset == 0);
        let hashed = hash::<B>(self.board.flash(), part, held);
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
        let verified = verify(self.board, slot);
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

fn hash<B: Board>(
    flash: &mut B::Flash,
    part: Region,
    first_sector: Option<&Sector>,
) -> Result<Digest, FlashFault> {
    let mut hash = B::Sha256::new();
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

fn verify<B: Board>(board: &mut B, slot: Region) -> Result<ImageFacts, FlashFault> {
    let mut verifier = StreamVerifier::with_sha256(slot.size_bytes, B::Sha256::new());
    for_each_sector(board.flash(), slot, |bytes| {
        match verifier.update(bytes).map_err(FlashFault::Image)? {
            Progress::NeedMore => Ok(true),
            Progress::Done { .. } => Ok(false),
        }
    })?;
    let summary = verifier.finish().map_err(FlashFault::Image)?;
    let (expected, found) = (board.facts().chip_id, summary.header.chip.id());
    if found != expected {
        return Err(FlashFault::Chip { expected, found });
    }
    if !board.can_start(&summary) {
        return Err(FlashFault::NotStartable);
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
