//! Reading and changing flash, with faults that say where.

use embedded_storage::nor_flash::{NorFlash, NorFlashError, NorFlashErrorKind, ReadNorFlash};
use flashfmt::image::{ImageError, Unbootable};
use flashfmt::partition::PartitionError;
use wire::Reason;

use crate::region::{Region, SECTOR_BYTES};

/// A fault of the flash, or of what is in it.
#[derive(Debug, thiserror::Error)]
pub enum FlashFault {
    /// The driver could not read.
    #[error("cannot read {length_bytes} bytes at {address:#x}: {kind}")]
    Read {
        /// First address.
        address: u32,
        /// How many bytes.
        length_bytes: usize,
        /// The driver's word.
        kind: NorFlashErrorKind,
    },
    /// The driver could not erase.
    #[error("cannot erase {address:#x} to {end:#x}: {kind}")]
    Erase {
        /// First address.
        address: u32,
        /// First address after it.
        end: u32,
        /// The driver's word.
        kind: NorFlashErrorKind,
    },
    /// The driver could not write.
    #[error("cannot write {length_bytes} bytes at {address:#x}: {kind}")]
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

/// Erases one sector after the other: the chip's interrupts are off for as long as one operation takes, and a block of
/// 64 KiB, to which drivers sum up sectors, takes up to 2 s.
pub(crate) fn erase<F: NorFlash>(flash: &mut F, part: Region) -> Result<(), FlashFault> {
    let part_end = part.offset.saturating_add(part.size_bytes);
    for address in (part.offset..part_end).step_by(SECTOR_BYTES as usize) {
        let end = part_end.min(address.saturating_add(SECTOR_BYTES));
        flash.erase(address, end).map_err(|error| FlashFault::Erase { address, end, kind: error.kind() })?;
    }
    Ok(())
}

pub(crate) fn write<F: NorFlash>(flash: &mut F, address: u32, bytes: &[u8]) -> Result<(), FlashFault> {
    flash.write(address, bytes).map_err(|error| FlashFault::Write {
        address,
        length_bytes: bytes.len(),
        kind: error.kind(),
    })
}

#[cfg(test)]
mod tests {
    use alloc::vec;
    use alloc::vec::Vec;

    use embedded_storage::nor_flash::ErrorType;

    use super::*;

    /// Notes what is erased at once.
    struct Erased(Vec<(u32, u32)>);

    impl ErrorType for Erased {
        type Error = NorFlashErrorKind;
    }

    impl ReadNorFlash for Erased {
        const READ_SIZE: usize = 1;

        fn read(&mut self, _: u32, _: &mut [u8]) -> Result<(), NorFlashErrorKind> {
            Ok(())
        }

        fn capacity(&self) -> usize {
            0x40_0000
        }
    }

    impl NorFlash for Erased {
        const WRITE_SIZE: usize = 4;
        const ERASE_SIZE: usize = SECTOR_BYTES as usize;

        fn erase(&mut self, from: u32, to: u32) -> Result<(), NorFlashErrorKind> {
            self.0.push((from, to));
            Ok(())
        }

        fn write(&mut self, _: u32, _: &[u8]) -> Result<(), NorFlashErrorKind> {
            Ok(())
        }
    }

    /// Esp-storage makes one operation of an aligned block of 64 KiB, with interrupts off for up to 2 s.
    #[test]
    fn a_block_is_erased_by_sector() {
        let mut flash = Erased(vec![]);
        erase(&mut flash, Region { offset: 0x1_0000, size_bytes: 0x1_0000 }).unwrap();
        let sectors: Vec<_> = (0..16)
            .map(|number| 0x1_0000 + number * SECTOR_BYTES)
            .map(|at| (at, at + SECTOR_BYTES))
            .collect();
        assert_eq!(flash.0, sectors);
    }
}
