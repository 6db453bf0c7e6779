//! ESP application images.
//!
//! Format: `esp_image_header_t` and `esp_image_segment_header_t` of ESP-IDF
//! `bootloader_support/include/esp_app_format.h`; rules: `bootloader_support/src/esp_image_format.c` (v5.x).
//!
//! ```text
//! header (24) | { segment header (8) | data } x 1..=16 | zeros | checksum (1) | SHA-256 (32, if appended)
//!                                                        ^ so that the checksum ends a 16-byte block
//! ```
//!
//! The checksum is 0xEF XOR every byte of segment data. The SHA-256 covers all bytes before it.

pub mod boot;
#[cfg(feature = "alloc")]
pub mod compose;
mod confirm;
mod error;
mod header;
mod outline;
mod verify;

pub use boot::{Kind, NotAnApplication, Target, UPDATER_PROJECT_NAME, Unbootable};
pub use confirm::{ARDUINO_FILES, ConfirmsItself};
pub use error::ImageError;
pub use header::{HEADER_BYTES, ImageHeader, SEGMENT_HEADER_BYTES, WP_PIN_DISABLED};
pub use outline::{Glance, Missing, Outline};
pub use verify::{Progress, StreamVerifier, verify};

use crate::app_desc::AppDescriptor;

/// `ESP_IMAGE_HEADER_MAGIC`.
pub const IMAGE_MAGIC: u8 = 0xE9;

/// `ESP_IMAGE_MAX_SEGMENTS`.
pub const MAX_SEGMENTS: usize = 16;

/// A segment's data is shorter than this (`verify_segment_header`: `SIXTEEN_MB`).
pub const SEGMENT_BYTES_LIMIT: u32 = 0x100_0000;

/// `ESP_ROM_CHECKSUM_INITIAL`.
const CHECKSUM_SEED: u8 = 0xEF;

/// The checksum ends a block of this size.
const BLOCK_BYTES: u32 = 16;

/// Size of the appended hash and of the image digest.
pub const HASH_BYTES: usize = 32;

// Image offsets are u32: the longest possible image must be countable.
const _: () = assert!(
    HEADER_BYTES as u64
        + MAX_SEGMENTS as u64 * (SEGMENT_HEADER_BYTES as u64 + SEGMENT_BYTES_LIMIT as u64)
        + BLOCK_BYTES as u64
        + HASH_BYTES as u64
        <= u32::MAX as u64
);

/// Where one segment's data lies and where it goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Segment {
    /// Address it is loaded to or mapped at; 0 for padding that the bootloader skips.
    pub load_addr: u32,
    /// Offset of its data in the image.
    pub data_offset: u32,
    /// Length of its data in bytes.
    pub len: u32,
}

/// The segments of an image, in file order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Segments {
    items: [Segment; MAX_SEGMENTS],
    count: usize,
}

impl Segments {
    /// The segments, in file order.
    pub fn as_slice(&self) -> &[Segment] {
        &self.items[..self.count]
    }

    fn push(&mut self, segment: Segment) {
        if let Some(free) = self.items.get_mut(self.count) {
            *free = segment;
            self.count += 1;
        }
    }
}

/// What a verified image is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageSummary {
    /// The header.
    pub header: ImageHeader,
    /// Length of the image with padding, checksum and appended hash.
    pub image_bytes: u32,
    /// SHA-256 of all `image_bytes`: how Pitstop identifies a build.
    pub digest: [u8; HASH_BYTES],
    /// The segments.
    pub segments: Segments,
    /// The app descriptor, when the first segment begins with one.
    pub app_desc: Option<AppDescriptor>,
}

/// Length of zeros and checksum after `unpadded_bytes` of header and segments: 1 to 16.
///
/// `process_checksum`: one byte is added for the checksum, then the sum is rounded up to 16.
const fn trailer_bytes(unpadded_bytes: u32) -> u32 {
    BLOCK_BYTES - unpadded_bytes % BLOCK_BYTES
}

const _: () = assert!(trailer_bytes(16) == 16 && trailer_bytes(15) == 1 && trailer_bytes(24) == 8);
