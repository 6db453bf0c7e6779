//! The flash under the vault, kinder than esp-nvs is to it: opening a vault reads, and nothing more.
//!
//! esp-nvs repairs what a power cut left behind as soon as it opens a partition, and takes an item whose checksum is wrong
//! for a leftover too. A read that is wrong once would so erase the device's key for good. Here what it wants to write
//! while it opens is kept in memory, where it reads it back, and goes to flash with the first write that is meant. What is
//! kept back is known by a number, which is the same at the next start unless something reads another way then.

use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::Cell;

use embedded_storage::nor_flash::{ErrorType, NorFlash, ReadNorFlash};
use esp_nvs::platform::{Crc, software_crc32};

use crate::region::SECTOR_BYTES;

/// What the guard shares with whoever opened the vault.
#[derive(Default)]
pub(super) struct Gate {
    /// Whether writes go to flash.
    pub(super) open: Cell<bool>,
    /// Stands for everything that was kept back; 0 for nothing.
    pub(super) kept_back: Cell<u32>,
}

/// How often a read is repeated until two in a row say the same.
const READS: usize = 4;

/// The flash together with the checksum of the format.
pub(super) struct Guard<'f, F> {
    flash: &'f mut F,
    gate: Rc<Gate>,
    /// What was to be done when the partition was opened, oldest first.
    pending: Vec<Operation>,
}

enum Operation {
    Write { offset: u32, bytes: Vec<u8> },
    Erase { from: u32, to: u32 },
}

impl<'f, F> Guard<'f, F> {
    /// Pages that are to be erased before anything is written read as erased.
    pub(super) fn new(flash: &'f mut F, gate: Rc<Gate>, pages: &[u32]) -> Self {
        let mut guard = Self { flash, gate, pending: Vec::new() };
        let erasures = pages.iter().map(|page| Operation::Erase { from: *page, to: page + SECTOR_BYTES });
        erasures.for_each(|erasure| guard.keep_back(erasure));
        guard
    }

    fn keep_back(&mut self, operation: Operation) {
        let (offset, bytes) = match &operation {
            Operation::Write { offset, bytes } => (*offset, bytes.as_slice()),
            Operation::Erase { from, .. } => (*from, &[][..]),
        };
        let earlier = self.gate.kept_back.get();
        self.gate.kept_back.set(software_crc32(earlier ^ !offset, bytes).max(1));
        self.pending.push(operation);
    }
}

impl<F: NorFlash> Guard<'_, F> {
    /// Does what was put off, in its order: a power cut in between leaves what it always left.
    fn do_pending(&mut self) -> Result<(), F::Error> {
        for operation in self.pending.drain(..) {
            match operation {
                Operation::Write { offset, bytes } => self.flash.write(offset, &bytes)?,
                Operation::Erase { from, to } => self.flash.erase(from, to)?,
            }
        }
        Ok(())
    }
}

impl<F> Crc for Guard<'_, F> {
    fn crc32(init: u32, data: &[u8]) -> u32 {
        software_crc32(init, data)
    }
}

impl<F: ErrorType> ErrorType for Guard<'_, F> {
    type Error = F::Error;
}

impl<F: ReadNorFlash> ReadNorFlash for Guard<'_, F> {
    const READ_SIZE: usize = F::READ_SIZE;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), Self::Error> {
        read_steadily(self.flash, offset, bytes)?;
        for operation in &self.pending {
            operation.show(offset, bytes);
        }
        Ok(())
    }

    fn capacity(&self) -> usize {
        self.flash.capacity()
    }
}

impl<F: NorFlash> NorFlash for Guard<'_, F> {
    const WRITE_SIZE: usize = F::WRITE_SIZE;
    const ERASE_SIZE: usize = F::ERASE_SIZE;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), Self::Error> {
        if self.gate.open.get() {
            self.do_pending()?;
            return self.flash.erase(from, to);
        }
        self.keep_back(Operation::Erase { from, to });
        Ok(())
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), Self::Error> {
        if self.gate.open.get() {
            self.do_pending()?;
            return self.flash.write(offset, bytes);
        }
        self.keep_back(Operation::Write { offset, bytes: bytes.to_vec() });
        Ok(())
    }
}

impl Operation {
    /// What a read from `offset` finds after it.
    fn show(&self, offset: u32, read: &mut [u8]) {
        match self {
            // NOR flash clears bits and sets none.
            Self::Write { offset: start, bytes } => {
                let addresses = (*start..).zip(bytes);
                addresses.for_each(|(address, byte)| at(offset, read, address, |found| found & byte));
            }
            Self::Erase { from, to } => {
                (*from..*to).for_each(|address| at(offset, read, address, |_| 0xff));
            }
        }
    }
}

fn at(offset: u32, read: &mut [u8], address: u32, change: impl FnOnce(u8) -> u8) {
    let index = address.checked_sub(offset).and_then(|index| usize::try_from(index).ok());
    if let Some(byte) = index.and_then(|index| read.get_mut(index)) {
        *byte = change(*byte);
    }
}

/// Reads until two reads in a row agree: a supply that dips, or a bus at its limit, reads a bit wrong now and then. After
/// some tries the last one stands, and the checksums of the format judge it.
pub(super) fn read_steadily<F: ReadNorFlash>(
    flash: &mut F,
    offset: u32,
    bytes: &mut [u8],
) -> Result<(), F::Error> {
    flash.read(offset, bytes)?;
    let mut before = bytes.to_vec();
    for _ in 1..READS {
        flash.read(offset, bytes)?;
        if before == bytes {
            break;
        }
        before.copy_from_slice(bytes);
    }
    // One of them may be a key.
    zeroize::Zeroize::zeroize(&mut before);
    Ok(())
}
