//! Image header and segment header.

use crate::bytes::{array_at, put, u16_at, u32_at};
use crate::chip::Chip;

use super::{IMAGE_MAGIC, ImageError, MAX_SEGMENTS};

/// Size of `esp_image_header_t`.
pub const HEADER_BYTES: usize = 24;

/// Size of `esp_image_segment_header_t`.
pub const SEGMENT_HEADER_BYTES: usize = 8;

/// `wp_pin` of images for which the bootloader sets the WP pin itself.
pub const WP_PIN_DISABLED: u8 = 0xEE;

/// First byte of erased flash.
const ERASED: u8 = 0xFF;

/// `esp_image_header_t`, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageHeader {
    /// Number of segments, 1 to 16.
    pub segment_count: u8,
    /// Flash read mode, `esp_image_spi_mode_t`: 0 QIO, 1 QOUT, 2 DIO, 3 DOUT, 4 fast, 5 slow.
    pub spi_mode: u8,
    /// Flash clock, `esp_image_spi_freq_t`, 4 bits.
    pub spi_speed: u8,
    /// Flash size, `esp_image_flash_size_t`, 4 bits: 0 is 1 MB, each step doubles it.
    pub spi_size: u8,
    /// Address of the entry point.
    pub entry_addr: u32,
    /// WP pin when the SPI pins are set by eFuse; 0xEE when the bootloader sets it.
    pub wp_pin: u8,
    /// Drive settings of the SPI flash pins.
    pub spi_pin_drv: [u8; 3],
    /// Chip it is for.
    pub chip: Chip,
    /// Lowest chip revision, in the format before full revisions.
    pub min_chip_rev: u8,
    /// Lowest chip revision: major * 100 + minor.
    pub min_chip_rev_full: u16,
    /// Highest chip revision: major * 100 + minor.
    pub max_chip_rev_full: u16,
    /// Reserved.
    pub reserved: [u8; 4],
    /// Whether a SHA-256 of the image follows the checksum.
    pub hash_appended: bool,
}

impl ImageHeader {
    /// A header for `chip`: DIO, 4 MB, any revision, hash appended.
    pub fn new(chip: Chip, entry_addr: u32, segment_count: u8) -> Self {
        Self {
            segment_count,
            spi_mode: 2,
            spi_speed: 0,
            spi_size: 2,
            entry_addr,
            wp_pin: WP_PIN_DISABLED,
            spi_pin_drv: [0; 3],
            chip,
            min_chip_rev: 0,
            min_chip_rev_full: 0,
            max_chip_rev_full: u16::MAX,
            reserved: [0; 4],
            hash_appended: true,
        }
    }

    /// Reads the header at the start of `bytes`; what follows is ignored.
    ///
    /// Refused: another magic (erased flash gives [`ImageError::NoImage`]), no or more than 16 segments, an unknown
    /// chip, and a hash flag other than 0 and 1 (Off-spec: ESP-IDF takes any other value for 1).
    pub fn parse(bytes: &[u8]) -> Result<Self, ImageError> {
        match bytes.first_chunk::<HEADER_BYTES>() {
            Some(record) => Self::from_record(record),
            None => Err(ImageError::Truncated {
                expected_bytes: HEADER_BYTES as u32,
                found_bytes: u32::try_from(bytes.len()).unwrap_or(u32::MAX),
            }),
        }
    }

    fn from_record(record: &[u8; HEADER_BYTES]) -> Result<Self, ImageError> {
        match record[0] {
            IMAGE_MAGIC => {}
            ERASED => return Err(ImageError::NoImage),
            found => return Err(ImageError::BadMagic { found }),
        }
        let segment_count = record[1];
        if segment_count == 0 || usize::from(segment_count) > MAX_SEGMENTS {
            return Err(ImageError::SegmentCount { found: segment_count });
        }
        let chip_id = u16_at(record, 12);
        let chip = Chip::from_id(chip_id).ok_or(ImageError::UnknownChip { found_id: chip_id })?;
        let hash_appended = match record[23] {
            0 => false,
            1 => true,
            found => return Err(ImageError::HashFlag { found }),
        };
        Ok(Self {
            segment_count,
            spi_mode: record[2],
            // A C bit-field: the first member takes the low bits.
            spi_speed: record[3] & 0x0F,
            spi_size: record[3] >> 4,
            entry_addr: u32_at(record, 4),
            wp_pin: record[8],
            spi_pin_drv: array_at(record, 9),
            chip,
            min_chip_rev: record[14],
            min_chip_rev_full: u16_at(record, 15),
            max_chip_rev_full: u16_at(record, 17),
            reserved: array_at(record, 19),
            hash_appended,
        })
    }

    /// The 24 bytes as they stand in an image.
    pub fn emit(&self) -> [u8; HEADER_BYTES] {
        let mut record = [0; HEADER_BYTES];
        record[0] = IMAGE_MAGIC;
        record[1] = self.segment_count;
        record[2] = self.spi_mode;
        record[3] = (self.spi_size << 4) | (self.spi_speed & 0x0F);
        put(&mut record, 4, self.entry_addr.to_le_bytes());
        record[8] = self.wp_pin;
        put(&mut record, 9, self.spi_pin_drv);
        put(&mut record, 12, self.chip.id().to_le_bytes());
        record[14] = self.min_chip_rev;
        put(&mut record, 15, self.min_chip_rev_full.to_le_bytes());
        put(&mut record, 17, self.max_chip_rev_full.to_le_bytes());
        put(&mut record, 19, self.reserved);
        record[23] = u8::from(self.hash_appended);
        record
    }

    /// Flash size the image was made for, in bytes; `None` for a code ESP-IDF does not define.
    pub const fn flash_bytes(&self) -> Option<u32> {
        if self.spi_size <= 7 { Some(0x10_0000 << self.spi_size) } else { None }
    }
}

/// `esp_image_segment_header_t`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub(super) load_addr: u32,
    pub(super) data_bytes: u32,
}

impl SegmentHeader {
    pub(super) fn parse(record: &[u8; SEGMENT_HEADER_BYTES]) -> Self {
        Self { load_addr: u32_at(record, 0), data_bytes: u32_at(record, 4) }
    }

    #[cfg(feature = "alloc")]
    pub(super) fn emit(&self) -> [u8; SEGMENT_HEADER_BYTES] {
        let mut record = [0; SEGMENT_HEADER_BYTES];
        put(&mut record, 0, self.load_addr.to_le_bytes());
        put(&mut record, 4, self.data_bytes.to_le_bytes());
        record
    }
}
