//! Building a valid image from parts.
//!
//! For tests and for the demo where no firmware toolchain exists; what a linker and `esptool elf2image` do otherwise.

use alloc::vec;
use alloc::vec::Vec;

use sha2::{Digest, Sha256};

use super::header::SegmentHeader;
use super::{
    CHECKSUM_SEED, HASH_BYTES, HEADER_BYTES, ImageHeader, MAX_SEGMENTS, SEGMENT_BYTES_LIMIT,
    SEGMENT_HEADER_BYTES, trailer_bytes,
};
use crate::app_desc::{APP_DESC_OFFSET, AppDescriptor};
use crate::chip::Chip;

/// Every chip can be built with MMU pages of this size, and most only with it.
const MMU_PAGE_BYTES: u32 = 0x1_0000;

/// Addresses of the ESP32-C3 for [`esp32c3`].
pub mod esp32c3_addr {
    /// Start of the data window on flash (`SOC_DROM_LOW`).
    pub const DROM: u32 = 0x3C00_0000;
    /// Start of the instruction window on flash (`SOC_IROM_LOW`).
    pub const IROM: u32 = 0x4200_0000;
    /// RAM for code: internal SRAM after the 16 KiB of the instruction cache.
    pub const IRAM: u32 = 0x4038_0000;
}

/// Composes an image. Segments keep their order.
#[derive(Clone, Debug)]
pub struct Composer {
    chip: Chip,
    entry_addr: u32,
    hash_appended: bool,
    segments: Vec<(u32, Vec<u8>)>,
}

impl Composer {
    /// An image for `chip` that starts at `entry_addr`.
    pub fn new(chip: Chip, entry_addr: u32) -> Self {
        Self { chip, entry_addr, hash_appended: true, segments: Vec::new() }
    }

    /// Adds a segment; `data` is filled up with zeros to a multiple of 4 bytes.
    #[must_use]
    pub fn segment(mut self, load_addr: u32, data: &[u8]) -> Self {
        let mut data = data.to_vec();
        data.resize(data.len().next_multiple_of(4), 0);
        self.segments.push((load_addr, data));
        self
    }

    /// Adds a segment that begins with the descriptor. It must be the first, so that the descriptor stands at
    /// offset 0x20 of the image.
    #[must_use]
    pub fn segment_with_app_desc(self, load_addr: u32, app_desc: &AppDescriptor, data: &[u8]) -> Self {
        let mut with_desc = app_desc.emit().to_vec();
        with_desc.extend_from_slice(data);
        self.segment(load_addr, &with_desc)
    }

    /// Leaves the SHA-256 out, as `esptool --dont-append-digest` does.
    #[must_use]
    pub fn without_hash(mut self) -> Self {
        self.hash_appended = false;
        self
    }

    /// The image.
    ///
    /// Before a flash-mapped segment whose place does not suit the MMU, a segment of zeros with load address 0 is
    /// put in, which bootloaders skip.
    pub fn build(&self) -> Result<Vec<u8>, ComposeError> {
        let mut image = vec![0; HEADER_BYTES];
        let mut checksum = CHECKSUM_SEED;
        let mut count = 0_usize;
        for (load_addr, data) in &self.segments {
            if data.len() >= SEGMENT_BYTES_LIMIT as usize {
                return Err(ComposeError::SegmentTooLong { index: count, found_bytes: data.len() });
            }
            if let Some(gap_bytes) = self.gap_before(*load_addr, image.len() as u32)? {
                push_segment(&mut image, 0, &vec![0; gap_bytes as usize]);
                count += 1;
            }
            push_segment(&mut image, *load_addr, data);
            checksum = data.iter().fold(checksum, |sum, byte| sum ^ byte);
            count += 1;
            if count > MAX_SEGMENTS {
                return Err(ComposeError::SegmentCount { found: count });
            }
        }
        if count == 0 {
            return Err(ComposeError::SegmentCount { found: 0 });
        }
        let mut header = ImageHeader::new(self.chip, self.entry_addr, count as u8);
        header.hash_appended = self.hash_appended;
        image[..HEADER_BYTES].copy_from_slice(&header.emit());

        let end = image.len() + trailer_bytes(image.len() as u32) as usize;
        image.resize(end - 1, 0);
        image.push(checksum);
        if self.hash_appended {
            let hash: [u8; HASH_BYTES] = Sha256::digest(&image).into();
            image.extend_from_slice(&hash);
        }
        Ok(image)
    }

    /// Data length of the padding segment needed at `position` so that a segment for `load_addr` can follow.
    fn gap_before(&self, load_addr: u32, position: u32) -> Result<Option<u32>, ComposeError> {
        let header_bytes = SEGMENT_HEADER_BYTES as u32;
        let distance = load_addr.wrapping_sub(position + header_bytes) % MMU_PAGE_BYTES;
        if !self.chip.is_flash_mapped(load_addr) || distance == 0 {
            return Ok(None);
        }
        if !load_addr.is_multiple_of(4) {
            return Err(ComposeError::AddressUnaligned { load_addr });
        }
        // The padding has a header too; where it does not fit before the next fit place, go one page further.
        Ok(Some(distance.checked_sub(header_bytes).unwrap_or(distance + MMU_PAGE_BYTES - header_bytes)))
    }
}

fn push_segment(image: &mut Vec<u8>, load_addr: u32, data: &[u8]) {
    let header = SegmentHeader { load_addr, data_bytes: data.len() as u32 };
    image.extend_from_slice(&header.emit());
    image.extend_from_slice(data);
}

/// An application image for the ESP32-C3 with the memory map that ESP-IDF gives one.
///
/// `rodata` follows the descriptor in DROM, `code` is mapped from 0x42000020, `ram` is loaded to IRAM and holds the
/// entry point. DROM lies in the pages after IROM's, because both windows of this chip share one row of MMU
/// entries. Lengths are the caller's; together they must stay below the slot.
pub fn esp32c3(
    app_desc: &AppDescriptor,
    rodata: &[u8],
    code: &[u8],
    ram: &[u8],
) -> Result<Vec<u8>, ComposeError> {
    use esp32c3_addr::{DROM, IRAM, IROM};
    let code_bytes = u32::try_from(code.len()).unwrap_or(u32::MAX);
    if code_bytes >= SEGMENT_BYTES_LIMIT {
        return Err(ComposeError::SegmentTooLong { index: 2, found_bytes: code.len() });
    }
    let irom_pages = (APP_DESC_OFFSET + code_bytes).div_ceil(MMU_PAGE_BYTES);
    let drom_addr = DROM + irom_pages * MMU_PAGE_BYTES + APP_DESC_OFFSET;
    Composer::new(Chip::Esp32C3, IRAM)
        .segment_with_app_desc(drom_addr, app_desc, rodata)
        .segment(IRAM, ram)
        .segment(IROM + APP_DESC_OFFSET, code)
        .build()
}

/// Why an image cannot be composed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ComposeError {
    /// None, or too many with the padding between them.
    #[error("{found} segments with padding, expected 1 to {MAX_SEGMENTS}")]
    SegmentCount {
        /// Segments given and put in.
        found: usize,
    },
    /// More data than a segment may have.
    #[error("segment {index} has {found_bytes} bytes, expected fewer than {SEGMENT_BYTES_LIMIT}")]
    SegmentTooLong {
        /// Which segment of the image, from 0.
        index: usize,
        /// Its length.
        found_bytes: usize,
    },
    /// A flash-mapped address that no padding can reach.
    #[error("flash-mapped segment at {load_addr:#010x}: the address must be a multiple of 4")]
    AddressUnaligned {
        /// The address.
        load_addr: u32,
    },
}
