//! Reading and changing flash, with faults that say where.

use embedded_storage::nor_flash::{NorFlash, NorFlashError, NorFlashErrorKind, ReadNorFlash};
use flashfmt::image::{ImageError, Unbootable};
use flashfmt::partition::PartitionError;
use wire::Reason;

use crate::region::Region;

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
    /// A bootloader would refuse the image on this chip.
    #[error("the image cannot be started on this chip")]
    Unbootable(#[source] Unbootable),
    /// The board cannot start the image.
    #[error("expected an image that this board can start, found one that needs memory the hand-over uses")]
    NotStartable,
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
}

impl From<ImageError> for FlashFault {
    fn from(error: ImageError) -> Self {
        Self::Image(error)
    }
}

impl FlashFault {
    pub(crate) fn reason(&self) -> Reason {
        match self {
            Self::Read { .. } => Reason::FlashRead,
            Self::Erase { .. } | Self::Write { .. } => Reason::FlashWrite,
            Self::PartitionTable(_) => Reason::PartitionTable,
            Self::Image(_) | Self::Unbootable(Unbootable::Chip { .. }) => Reason::ImageInvalid,
            Self::Unbootable(_) | Self::NotStartable => Reason::NotStartable,
            Self::OutsideSlot { .. } => Reason::Internal,
        }
    }
}

pub(crate) fn read<F: ReadNorFlash>(flash: &mut F, address: u32, bytes: &mut [u8]) -> Result<(), FlashFault> {
    let length_bytes = bytes.len();
    flash.read(address, bytes).map_err(|error| FlashFault::Read { address, length_bytes, kind: error.kind() })
}

pub(crate) fn erase<F: NorFlash>(flash: &mut F, part: Region) -> Result<(), FlashFault> {
    let (address, end) = (part.offset, part.offset.saturating_add(part.size_bytes));
    flash.erase(address, end).map_err(|error| FlashFault::Erase { address, end, kind: error.kind() })
}

pub(crate) fn write<F: NorFlash>(flash: &mut F, address: u32, bytes: &[u8]) -> Result<(), FlashFault> {
    flash.write(address, bytes).map_err(|error| FlashFault::Write {
        address,
        length_bytes: bytes.len(),
        kind: error.kind(),
    })
}
