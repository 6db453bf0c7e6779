//! What has to be done to start an image: pure, and the same for every chip.

use core::ops::Range;

use digest::Digest;
use digest::consts::U32;
use embedded_storage::nor_flash::{NorFlashError as _, ReadNorFlash};
use flashfmt::image::boot::{self, LOWEST_LOADED_ADDR};
use flashfmt::image::{MAX_SEGMENTS, Outline, Segment, Segments};
use flashfmt::{ImageError, ImageHeader, Progress, SECTOR_BYTES, StreamVerifier};
use heapless::Vec;

use crate::memory::{FLASH_PAGES, MemoryMap, PAGE_BYTES, overlap};
use crate::refused::{Misfit, Refused};

/// Bytes read from flash at once.
const BLOCK_BYTES: usize = 1024;

/// An application partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Address in flash.
    pub offset: u32,
    /// Its size.
    pub size_bytes: u32,
}

/// How much of an image is looked at before it is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// Everything, checksum and SHA-256 included.
    Full,
    /// The headers. For a wake from deep sleep only: what is kept in deep sleep is not loaded again.
    Structure,
}

/// What has to be done to start an image. Whoever holds one knows that no step touches the chain-loader itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadPlan {
    entry_addr: u32,
    mapped: Vec<MapSegment, { MAX_SEGMENTS + 1 }>,
    loaded: Vec<LoadSegment, MAX_SEGMENTS>,
}

/// Flash pages that are mapped one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapSegment {
    /// First entry of the MMU's table.
    pub first_entry: u32,
    /// First page of flash.
    pub first_page: u32,
    /// How many.
    pub pages: u32,
}

/// Data that is copied to RAM. All three are multiples of 4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoadSegment {
    /// Where to.
    pub load_addr: u32,
    /// Where its data is in flash.
    pub flash_addr: u32,
    /// How much.
    pub len_bytes: u32,
}

/// Checks the image in a slot and plans its start. `H` is a SHA-256, the chip's engine or the `sha2` crate's; it
/// is used by [`Check::Full`].
///
/// # Errors
/// [`Refused`]: the image must not be started.
pub fn plan<H, F>(map: &MemoryMap, slot: Slot, check: Check, flash: &mut F) -> Result<LoadPlan, Refused>
where
    H: Digest<OutputSize = U32> + Clone,
    F: ReadNorFlash,
{
    const { assert!(4_usize.is_multiple_of(F::READ_SIZE), "the parts of an image are multiples of 4 bytes") };
    slot.check()?;
    let mut read = |offset: u32, buffer: &mut [u8]| {
        let addr = slot.offset + offset;
        flash.read(addr, buffer).map_err(|error| Refused::Flash { addr, kind: error.kind() })
    };
    match check {
        Check::Full => {
            let (header, segments) = verified::<H, _>(slot, &mut read)?;
            Ok(LoadPlan::new(map, slot, &header, &segments)?)
        }
        Check::Structure => {
            let Outline { header, segments, .. } = Outline::read(slot.size_bytes, &mut read)?;
            Ok(LoadPlan::new(map, slot, &header, &segments)?.after_deep_sleep(map))
        }
    }
}

/// Verifies all bytes of the image.
fn verified<H, E>(
    slot: Slot,
    read: &mut impl FnMut(u32, &mut [u8]) -> Result<(), E>,
) -> Result<(ImageHeader, Segments), E>
where
    H: Digest<OutputSize = U32> + Clone,
    E: From<ImageError>,
{
    let mut verifier = StreamVerifier::with_sha256(slot.size_bytes, H::new());
    let mut block = [0; BLOCK_BYTES];
    // A slot is made of sectors, and a sector of blocks: no block is cut off.
    for offset in (0..slot.size_bytes).step_by(BLOCK_BYTES) {
        read(offset, &mut block)?;
        match verifier.update(&block)? {
            Progress::NeedMore => {}
            Progress::Done { .. } => break,
        }
    }
    let summary = verifier.finish()?;
    Ok((summary.header, summary.segments))
}

const _: () = assert!((SECTOR_BYTES as usize).is_multiple_of(BLOCK_BYTES));

impl LoadPlan {
    /// Plans the start of an image whose headers are known, and which is taken to be whole.
    ///
    /// Like ESP-IDF's bootloader (`bootloader_utility.c`, `unpack_load_app`; `esp_image_format.c`, `process_segment`
    /// and `verify_load_addresses`), with three deviations. Off-spec: every mapped segment is mapped, not only the
    /// last one of each kind; segments must not overlap; the entry point must be code of the image. What the bootloader
    /// refuses is refused here too ([`boot::check_load_addresses`]), a bootloader among it.
    ///
    /// # Errors
    /// [`Misfit`]: the image cannot run from this slot on this chip.
    pub fn new(
        map: &MemoryMap,
        slot: Slot,
        header: &ImageHeader,
        segments: &Segments,
    ) -> Result<Self, Misfit> {
        slot.check()?;
        if header.chip != map.chip {
            return Err(Misfit::Chip { expected: map.chip, found: header.chip });
        }
        let segments = segments.as_slice();
        let mut plan = Self { entry_addr: header.entry_addr, mapped: Vec::new(), loaded: Vec::new() };
        for (index, segment) in segments.iter().enumerate() {
            if u64::from(segment.data_offset) + u64::from(segment.len) > u64::from(slot.size_bytes) {
                return Err(Misfit::OutsideSlot { index });
            }
            let flash_addr = slot.offset + segment.data_offset;
            match Kind::of(map, segment) {
                Kind::Skipped => {}
                Kind::Mapped => plan.map_segment(map, index, segments, flash_addr)?,
                Kind::Loaded => {
                    check_load(map, index, segment, &segments[..index])?;
                    // Cannot be full: there is room for every segment of an image.
                    let _ = plan.loaded.push(LoadSegment {
                        load_addr: segment.load_addr,
                        flash_addr,
                        len_bytes: segment.len,
                    });
                }
            }
        }
        if !segments.iter().any(|segment| holds_code(map, segment, header.entry_addr)) {
            return Err(Misfit::Entry { entry_addr: header.entry_addr });
        }
        boot::check_load_addresses(header, segments)?;
        Ok(plan)
    }

    /// Where the application starts.
    #[must_use]
    pub fn entry_addr(&self) -> u32 {
        self.entry_addr
    }

    /// What is mapped. Every other entry of the MMU's table is to map nothing.
    #[must_use]
    pub fn mapped(&self) -> &[MapSegment] {
        &self.mapped
    }

    /// What is copied to RAM.
    #[must_use]
    pub fn loaded(&self) -> &[LoadSegment] {
        &self.loaded
    }

    /// Leaves out what the application kept in deep sleep.
    fn after_deep_sleep(mut self, map: &MemoryMap) -> Self {
        self.loaded.retain(|segment| {
            let addrs = segment.load_addr..segment.load_addr + segment.len_bytes;
            map.region(&addrs).is_some_and(|region| !region.kept_in_deep_sleep)
        });
        self
    }

    fn map_segment(
        &mut self,
        map: &MemoryMap,
        index: usize,
        segments: &[Segment],
        flash_addr: u32,
    ) -> Result<(), Misfit> {
        let Segment { load_addr, len, .. } = segments[index];
        let addrs = addrs_of(&segments[index]).filter(|addrs| {
            map.chip
                .flash_windows()
                .iter()
                .any(|window| window.contains(&load_addr) && addrs.end <= window.end)
        });
        let Some(addrs) = addrs else {
            return Err(Misfit::OutsideMemory { index, load_addr, len_bytes: len });
        };
        if load_addr % PAGE_BYTES != flash_addr % PAGE_BYTES {
            return Err(Misfit::MappingUnaligned { index, load_addr, flash_addr });
        }
        let wanted = MapSegment {
            first_entry: map.mmu.entry_of(load_addr),
            first_page: flash_addr / PAGE_BYTES,
            pages: addrs.end.div_ceil(PAGE_BYTES) - load_addr / PAGE_BYTES,
        };
        // `set_cache_and_start_app` maps the first page of the read-only data in the last entry as well: there the
        // application finds out which partition it runs from.
        let is_data = |segment: &Segment| segment.len > 0 && map.data_window().contains(&segment.load_addr);
        if segments.iter().position(is_data) == Some(index) {
            let last = MapSegment { first_entry: map.mmu.entries - 1, pages: 1, ..wanted };
            self.push_mapped(index, last)?;
        }
        self.push_mapped(index, wanted)
    }

    fn push_mapped(&mut self, index: usize, wanted: MapSegment) -> Result<(), Misfit> {
        if let Some(entry) = self.mapped.iter().find_map(|other| wanted.conflict(other)) {
            return Err(Misfit::PageTaken { index, entry });
        }
        // Cannot be full: there is room for every segment and the last entry.
        let _ = self.mapped.push(wanted);
        Ok(())
    }
}

impl Slot {
    /// Whether it consists of sectors that the MMU can map.
    fn check(self) -> Result<(), Misfit> {
        let Self { offset, size_bytes } = self;
        let aligned = offset.is_multiple_of(SECTOR_BYTES) && size_bytes.is_multiple_of(SECTOR_BYTES);
        let in_reach = u64::from(offset) + u64::from(size_bytes) <= u64::from(FLASH_PAGES * PAGE_BYTES);
        if aligned && in_reach { Ok(()) } else { Err(Misfit::Slot { offset, size_bytes }) }
    }
}

impl MapSegment {
    /// The entries it takes.
    #[must_use]
    pub fn entries(&self) -> Range<u32> {
        self.first_entry..self.first_entry + self.pages
    }

    /// An entry that both take for different flash pages. When one shared entry agrees, all of them do.
    fn conflict(&self, other: &Self) -> Option<u32> {
        let page_of = |segment: &Self, entry| segment.first_page + entry - segment.first_entry;
        let entry = self.first_entry.max(other.first_entry);
        let shared = overlap(&self.entries(), &other.entries());
        (shared && page_of(self, entry) != page_of(other, entry)).then_some(entry)
    }
}

/// What is done with a segment: `should_map` and `should_load` of ESP-IDF's `esp_image_format.c`.
enum Kind {
    /// Nothing: padding, or without data.
    Skipped,
    /// It is read and run in flash.
    Mapped,
    /// It is copied to RAM.
    Loaded,
}

impl Kind {
    fn of(map: &MemoryMap, segment: &Segment) -> Self {
        if segment.len == 0 || segment.load_addr < LOWEST_LOADED_ADDR {
            Self::Skipped
        } else if map.chip.is_flash_mapped(segment.load_addr) {
            Self::Mapped
        } else {
            Self::Loaded
        }
    }
}

/// Whether a segment may be copied to its address, beside those `earlier` in the image.
fn check_load(map: &MemoryMap, index: usize, segment: &Segment, earlier: &[Segment]) -> Result<(), Misfit> {
    let Segment { load_addr, len: len_bytes, .. } = *segment;
    let Some(addrs) = loaded_addrs(map, segment) else {
        return Err(Misfit::OutsideMemory { index, load_addr, len_bytes });
    };
    if !load_addr.is_multiple_of(4) {
        return Err(Misfit::Unaligned { index, load_addr });
    }
    if overlap(&addrs, &map.reserved) {
        let reserved_addr = map.reserved.start;
        return Err(Misfit::OverLoader { index, load_addr, len_bytes, reserved_addr });
    }
    let same = |other: &Segment| loaded_addrs(map, other).is_some_and(|other| overlap(&addrs, &other));
    match earlier.iter().position(same) {
        Some(first) => Err(Misfit::Overlap { first, second: index }),
        None => Ok(()),
    }
}

/// Whether the byte at `addr` is code of this segment.
fn holds_code(map: &MemoryMap, segment: &Segment, addr: u32) -> bool {
    match Kind::of(map, segment) {
        Kind::Skipped => false,
        Kind::Mapped => {
            map.code_window().contains(&addr) && addrs_of(segment).is_some_and(|addrs| addrs.contains(&addr))
        }
        Kind::Loaded => {
            // The segment may be loaded through the data bus and run through the instruction bus.
            let run = addr..addr.saturating_add(1);
            let region = map.region(&run).filter(|region| region.executable);
            region
                .zip(loaded_addrs(map, segment))
                .is_some_and(|(region, addrs)| addrs.contains(&region.on_data_bus(&run).start))
        }
    }
}

/// The data bus addresses that a segment for RAM fills; `None` when it is not for RAM.
fn loaded_addrs(map: &MemoryMap, segment: &Segment) -> Option<Range<u32>> {
    let addrs = addrs_of(segment).filter(|addrs| !addrs.is_empty())?;
    Some(map.region(&addrs)?.on_data_bus(&addrs))
}

/// The addresses of a segment; `None` when it does not end before 4 GiB.
fn addrs_of(segment: &Segment) -> Option<Range<u32>> {
    Some(segment.load_addr..segment.load_addr.checked_add(segment.len)?)
}
