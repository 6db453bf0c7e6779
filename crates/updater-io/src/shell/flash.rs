//! What the shell does to flash.

use alloc::string::ToString;
use alloc::vec;
use alloc::vec::Vec;

use embedded_storage::nor_flash::{NorFlash, ReadNorFlash};
use flashfmt::image::{ImageHeader, Outline, Progress, Segments, StreamVerifier, boot};
use manifest::Digest;
use sha2::Digest as _;
use updater::{FirstSector, ImageFacts, SlotContent, SlotFacts};
use wire::Reason;

use super::{Shell, digest};
use crate::board::Board;
use crate::flash::{FlashFault, erase, read, write};
use crate::handover::{self, Found};
use crate::map::{Map, Slot, Strategy};
use crate::region::{Region, SECTOR_BYTES};

impl<B: Board> Shell<'_, B> {
    /// Reads the partition table.
    pub(super) fn read_map(&mut self) -> Result<Map, Reason> {
        let read = Map::read(self.board.flash());
        self.flash_reason(read)
    }

    /// Takes the updater's place in otadata, and says whether the application had taken it. A fault does not end the
    /// pit stop: the hand-over writes otadata again.
    pub(super) fn keep_place(&mut self) -> bool {
        match handover::keep_place(self.board.flash(), &self.map) {
            Ok(Found::ApplicationConfirmedItself) => true,
            Ok(Found::Usual) => false,
            Err(fault) => {
                self.fault(fault.reason(), &fault);
                false
            }
        }
    }

    /// The slots with what their headers say. Finding nothing bootable is no fault here.
    pub(super) fn survey_slots(&mut self) -> Vec<SlotFacts> {
        let strategy = self.map.strategy;
        let board = &mut *self.board;
        let facts = |slot: &Slot| SlotFacts {
            label: slot.label.clone(),
            size_bytes: slot.region.size_bytes,
            content: content(board, strategy, slot.region),
        };
        self.map.slots.iter().map(facts).collect()
    }

    /// Hashes a part of a slot.
    pub(super) fn hash(&mut self, slot: Region, offset: u32, length_bytes: u32) -> Result<Digest, Reason> {
        let part = self.part(slot, offset, length_bytes)?;
        let hashed = hash::<B>(self.board.flash(), part, &[]);
        self.flash_reason(hashed)
    }

    /// Hashes the first part of a slot, with bytes in place of those at its start.
    pub(super) fn hash_with(&mut self, part: Region, first: &[u8]) -> Result<Digest, Reason> {
        let hashed = hash::<B>(self.board.flash(), part, first);
        self.flash_reason(hashed)
    }

    /// Erases the slot's first sector, unless it is blank.
    pub(super) fn invalidate(&mut self, slot: Region) -> Result<(), Reason> {
        let header = Region { offset: slot.offset, size_bytes: SECTOR_BYTES.min(slot.size_bytes) };
        let invalidated = erase_unless_blank(self.board.flash(), header);
        self.flash_reason(invalidated)
    }

    /// Writes the first sector. The sector is erased once more right before: should it have been left
    /// half-erased by a power cut, it may read blank and still not hold what is written to it.
    pub(super) fn seal(&mut self, slot: Region, first_sector: &FirstSector) -> Result<(), Reason> {
        let flash = self.board.flash();
        let sealed = erase(flash, Region { size_bytes: SECTOR_BYTES, ..slot })
            .and_then(|()| write(flash, slot.offset, first_sector.0.as_slice()));
        self.flash_reason(sealed)
    }

    /// Verifies the image in a slot as at a start.
    pub(super) fn verify(&mut self, slot: Region) -> Result<ImageFacts, Reason> {
        let verified = verify(self.board, self.map.strategy, slot);
        self.flash_reason(verified)
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
        self.flash_reason(part)
    }

    /// Writes `sector` of a chunk into flash, which has been erased there.
    pub(super) fn write_erased(&mut self, address: u32, sector: &mut Vec<u8>) -> Result<(), Reason> {
        // The end of the image is filled up to what the flash can write at once.
        sector.resize(sector.len().next_multiple_of(B::Flash::WRITE_SIZE), 0xff);
        let written = write(self.board.flash(), address, sector);
        sector.clear();
        self.flash_reason(written)
    }

    /// Erases all sectors of a part of a slot.
    pub(super) fn erase_part(&mut self, part: Region) -> Result<(), Reason> {
        let size_bytes = part.size_bytes.next_multiple_of(SECTOR_BYTES);
        let erased = erase(self.board.flash(), Region { size_bytes, ..part });
        self.flash_reason(erased)
    }

    pub(super) fn flash_reason<T>(&mut self, result: Result<T, FlashFault>) -> Result<T, Reason> {
        result.map_err(|fault| self.fault(fault.reason(), &fault))
    }
}

/// Hashes a part of flash, with `first` in place of the bytes at its start.
fn hash<B: Board>(flash: &mut B::Flash, part: Region, first: &[u8]) -> Result<Digest, FlashFault> {
    let first = &first[..first.len().min(part.size_bytes as usize)];
    let mut hash = B::Sha256::new();
    hash.update(first);
    let first_bytes = first.len() as u32;
    let rest = Region { offset: part.offset + first_bytes, size_bytes: part.size_bytes - first_bytes };
    for_each_sector(flash, rest, |bytes| {
        hash.update(bytes);
        Ok(true)
    })?;
    Ok(digest(hash))
}

/// What the headers in a slot say. They are read again when they say nothing good: the next read may be right.
fn content<B: Board>(board: &mut B, strategy: Strategy, slot: Region) -> SlotContent {
    for _ in 0..2 {
        let read = |offset, buffer: &mut [u8]| read(board.flash(), slot.offset + offset, buffer);
        let outline = Outline::read(slot.size_bytes, read);
        let good = |found: Outline| check_headers(board, strategy, &found.header, &found.segments).is_ok();
        if outline.is_ok_and(good) {
            return SlotContent::Headers;
        }
    }
    let mut blank = true;
    let header = Region { size_bytes: SECTOR_BYTES.min(slot.size_bytes), ..slot };
    let read = for_each_sector(board.flash(), header, |bytes| {
        blank = bytes.iter().all(|byte| *byte == 0xff);
        Ok(blank)
    });
    if blank && read.is_ok() { SlotContent::Blank } else { SlotContent::Unbootable }
}

fn verify<B: Board>(board: &mut B, strategy: Strategy, slot: Region) -> Result<ImageFacts, FlashFault> {
    let mut verifier = StreamVerifier::with_sha256(slot.size_bytes, B::Sha256::new());
    for_each_sector(board.flash(), slot, |bytes| {
        match verifier.update(bytes).map_err(FlashFault::Image)? {
            Progress::NeedMore => Ok(true),
            Progress::Done { .. } => Ok(false),
        }
    })?;
    let summary = verifier.finish().map_err(FlashFault::Image)?;
    check_headers(board, strategy, &summary.header, &summary.segments)?;
    let version = summary.app_desc.map(|app_desc| app_desc.version.as_str().to_string());
    Ok(ImageFacts { digest: Digest(summary.digest), version })
}

/// Whether an image with these headers is for this chip, and is one that is started here: what the second-stage bootloader
/// would refuse is refused, whoever starts it. The same judgement for a slot and for a release, before anything is erased
/// for it.
pub(super) fn check_headers<B: Board>(
    board: &B,
    strategy: Strategy,
    header: &ImageHeader,
    segments: &Segments,
) -> Result<(), FlashFault> {
    boot::check(header, segments.as_slice(), None, &board.facts().target).map_err(FlashFault::Unbootable)?;
    match strategy {
        Strategy::ChainLoad if !board.can_start(header, segments) => Err(FlashFault::NotStartable),
        Strategy::ChainLoad | Strategy::OtadataRollback { .. } => Ok(()),
    }
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
