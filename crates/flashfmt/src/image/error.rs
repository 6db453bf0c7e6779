//! Why an image is refused.

use core::fmt;

use super::{HASH_BYTES, IMAGE_MAGIC, MAX_SEGMENTS, SEGMENT_BYTES_LIMIT};
use crate::chip::KnownChips;

/// Why an image is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    /// Erased flash.
    #[error("no image: the flash is erased")]
    NoImage,
    /// Not an ESP image.
    #[error("not an ESP image: first byte is {found:#04x}, expected {IMAGE_MAGIC:#04x}")]
    BadMagic {
        /// The first byte.
        found: u8,
    },
    /// An impossible number of segments.
    #[error("image has {found} segments, expected 1 to {MAX_SEGMENTS}")]
    SegmentCount {
        /// The header's number.
        found: u8,
    },
    /// A chip this crate does not know.
    #[error("image is for the unknown chip id {found_id:#06x}; known are {KnownChips}")]
    UnknownChip {
        /// The header's chip id.
        found_id: u16,
    },
    /// A hash flag that is neither 0 nor 1.
    #[error("image header's hash flag is {found}, expected 0 or 1")]
    HashFlag {
        /// The flag byte.
        found: u8,
    },
    /// No appended SHA-256, so damage could go unseen.
    #[error("image has no appended SHA-256; build it without --dont-append-digest")]
    HashNotAppended,
    /// A segment whose length breaks the format.
    #[error("segment {index} has {found_bytes} bytes, expected a multiple of 4 below {SEGMENT_BYTES_LIMIT}")]
    SegmentLength {
        /// Which segment, from 0.
        index: u8,
        /// The segment header's length.
        found_bytes: u32,
    },
    /// A flash-mapped segment that the MMU cannot map.
    #[error(
        "segment {index} is mapped at {load_addr:#010x} but its data is at offset {data_offset:#x}; \
         both must be equal modulo the MMU page of {page_bytes:#x} bytes"
    )]
    SegmentMisplaced {
        /// Which segment, from 0.
        index: u8,
        /// Its virtual address.
        load_addr: u32,
        /// Offset of its data in the image.
        data_offset: u32,
        /// The smallest page of the chip.
        page_bytes: u32,
    },
    /// Longer than the slot.
    #[error("image needs at least {needed_bytes} bytes, the slot has {limit_bytes}")]
    TooLarge {
        /// Bytes needed, as far as is known at this point of the image.
        needed_bytes: u32,
        /// Bytes allowed.
        limit_bytes: u32,
    },
    /// The bytes ended before the image did.
    #[error("image is cut off: {found_bytes} bytes, expected at least {expected_bytes}")]
    Truncated {
        /// Bytes needed, as far as is known at this point of the image.
        expected_bytes: u32,
        /// Bytes given.
        found_bytes: u32,
    },
    /// Segment data does not match the checksum.
    #[error("image checksum is {found:#04x}, its segments give {expected:#04x}: the image is damaged")]
    Checksum {
        /// Computed from the segments.
        expected: u8,
        /// Stored in the image.
        found: u8,
    },
    /// The bytes do not match the appended SHA-256.
    #[error(
        "image's appended SHA-256 is {found}, its bytes give {expected}: the image is damaged",
        found = Hex(*found),
        expected = Hex(*expected)
    )]
    Hash {
        /// Computed from the bytes.
        expected: [u8; HASH_BYTES],
        /// Stored in the image.
        found: [u8; HASH_BYTES],
    },
}

/// A digest as tools print it.
struct Hex([u8; HASH_BYTES]);

impl fmt::Display for Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::format;

    use super::*;

    #[test]
    fn digests_are_printed_as_tools_print_them() {
        let error = ImageError::Hash { expected: [0x0e; HASH_BYTES], found: [0xf3; HASH_BYTES] };
        let (found, expected) = ("f3".repeat(HASH_BYTES), "0e".repeat(HASH_BYTES));
        let text =
            format!("image's appended SHA-256 is {found}, its bytes give {expected}: the image is damaged");
        assert_eq!(format!("{error}"), text);
    }
}
