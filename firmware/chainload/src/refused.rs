//! Why an image is not started.

use embedded_storage::nor_flash::NorFlashErrorKind;
use flashfmt::image::Unbootable;
use flashfmt::{Chip, ImageError};

/// Why an image is not started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The flash cannot be read.
    #[error("cannot read the flash at {addr:#x}: {kind}")]
    Flash {
        /// Address in flash.
        addr: u32,
        /// What its driver says.
        kind: NorFlashErrorKind,
    },
    /// The slot holds no image, or a damaged one.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The image is whole, but cannot run here.
    #[error(transparent)]
    Misfit(#[from] Misfit),
}

/// Why a whole image cannot run from its slot on this chip. Segments are counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Misfit {
    /// The slot is not where the MMU can map it.
    #[error(
        "slot of {size_bytes:#x} bytes at {offset:#x}: expected a multiple of 0x1000 and an end within 16 MiB; \
         check the partition table"
    )]
    Slot {
        /// Address in flash.
        offset: u32,
        /// Its size.
        size_bytes: u32,
    },
    /// An image for another chip.
    #[error("image is for {found}, this is {expected}: build it for this chip")]
    Chip {
        /// The chip of the memory map.
        expected: Chip,
        /// The chip in the header.
        found: Chip,
    },
    /// A segment whose data ends after the slot does.
    #[error("segment {index} ends after its slot")]
    OutsideSlot {
        /// Which segment.
        index: usize,
    },
    /// A segment that is neither RAM nor mapped flash, or that starts in one and ends in another.
    #[error("segment {index} ({len_bytes:#x} bytes at {load_addr:#010x}) is not in one memory of the chip")]
    OutsideMemory {
        /// Which segment.
        index: usize,
        /// Where it wants to be.
        load_addr: u32,
        /// Its length.
        len_bytes: u32,
    },
    /// A segment for RAM that does not start at a word.
    #[error("segment {index} is loaded to {load_addr:#010x}, expected a multiple of 4")]
    Unaligned {
        /// Which segment.
        index: usize,
        /// Where it wants to be.
        load_addr: u32,
    },
    /// A segment where the chain-loader works.
    #[error(
        "segment {index} ({len_bytes:#x} bytes at {load_addr:#010x}) is loaded over the chain-loader, which needs \
         {reserved_addr:#010x} and up: link it lower"
    )]
    OverLoader {
        /// Which segment.
        index: usize,
        /// Where it wants to be.
        load_addr: u32,
        /// Its length.
        len_bytes: u32,
        /// First reserved address, on the data bus.
        reserved_addr: u32,
    },
    /// What the second-stage bootloader would refuse.
    #[error(transparent)]
    Unbootable(#[from] Unbootable),
    /// Two segments for the same RAM, possibly through different buses.
    #[error("segments {first} and {second} are loaded to the same memory")]
    Overlap {
        /// One of them.
        first: usize,
        /// The other.
        second: usize,
    },
    /// A mapped segment whose place in flash does not suit the MMU.
    #[error(
        "segment {index} is mapped at {load_addr:#010x} from flash {flash_addr:#x}; both must be equal modulo 0x10000"
    )]
    MappingUnaligned {
        /// Which segment.
        index: usize,
        /// Its virtual address.
        load_addr: u32,
        /// Its data in flash.
        flash_addr: u32,
    },
    /// Two mapped segments that need different flash pages in one MMU entry. The last entry is taken by the first
    /// page of the read-only data, as ESP-IDF's bootloader has it.
    #[error("segment {index} needs MMU entry {entry}, which maps another flash page already")]
    PageTaken {
        /// Which segment.
        index: usize,
        /// The entry.
        entry: u32,
    },
    /// An entry point outside the image's code.
    #[error("entry point {entry_addr:#010x} is not in executable memory that the image fills")]
    Entry {
        /// The entry point.
        entry_addr: u32,
    },
}
