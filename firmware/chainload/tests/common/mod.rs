//! Flash in memory, and images to put there.

#![allow(dead_code, reason = "each test program uses its part")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use chainload::{Check, LoadPlan, MemoryMap, Refused, Slot, plan};
use embedded_storage::nor_flash::{ErrorType, NorFlashErrorKind, ReadNorFlash, check_read};
use flashfmt::Chip;
use flashfmt::image::compose::Composer;
use sha2::Sha256;

pub(crate) const SLOT: Slot = Slot { offset: 0x11_0000, size_bytes: 0xF_0000 };

/// Where an ESP32-C3's program has its parts.
pub(crate) const DROM: u32 = 0x3C02_0020;
pub(crate) const IROM: u32 = 0x4200_0020;
pub(crate) const IRAM: u32 = 0x4038_0000;
pub(crate) const DRAM: u32 = 0x3FC9_0000;
pub(crate) const RTC: u32 = 0x5000_0000;

/// Flash that is read in words.
pub(crate) struct Flash {
    pub(crate) bytes: Vec<u8>,
    /// Reading this address fails.
    pub(crate) broken_addr: Option<u32>,
}

impl Flash {
    /// Erased flash with `image` in a slot.
    pub(crate) fn with(slot: Slot, image: &[u8]) -> Self {
        let mut bytes = vec![0xFF; 0x40_0000];
        bytes[slot.offset as usize..][..image.len()].copy_from_slice(image);
        Self { bytes, broken_addr: None }
    }
}

impl ErrorType for Flash {
    type Error = NorFlashErrorKind;
}

impl ReadNorFlash for Flash {
    const READ_SIZE: usize = 4;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), Self::Error> {
        check_read(self, offset, bytes.len())?;
        let wanted = offset as usize..offset as usize + bytes.len();
        if self.broken_addr.is_some_and(|addr| wanted.contains(&(addr as usize))) {
            return Err(NorFlashErrorKind::Other);
        }
        bytes.copy_from_slice(&self.bytes[wanted]);
        Ok(())
    }

    fn capacity(&self) -> usize {
        self.bytes.len()
    }
}

/// `len` bytes that differ from their neighbours.
pub(crate) fn pattern(len: usize, seed: u8) -> Vec<u8> {
    (0..len).map(|index| (index as u8).wrapping_mul(7) ^ (index >> 8) as u8 ^ seed).collect()
}

/// A program with every kind of segment; its code is more than one page.
pub(crate) fn program() -> Composer {
    Composer::new(Chip::Esp32C3, IRAM + 4)
        .segment(DROM, &pattern(0x300, 1))
        .segment(IRAM, &pattern(0x1000, 2))
        .segment(DRAM, &pattern(0x804, 3))
        .segment(RTC, &pattern(0x20, 4))
        .segment(IROM, &pattern(0x1_8000, 5))
}

/// A program with one more segment, after code that suffices to start.
pub(crate) fn program_with(load_addr: u32, len: usize) -> Composer {
    Composer::new(Chip::Esp32C3, IRAM).segment(IRAM, &pattern(0x100, 1)).segment(load_addr, &pattern(len, 2))
}

pub(crate) fn plan_of(image: &Composer, check: Check) -> Result<LoadPlan, Refused> {
    plan_bytes(&image.build().unwrap(), check)
}

pub(crate) fn plan_bytes(image: &[u8], check: Check) -> Result<LoadPlan, Refused> {
    plan::<Sha256, _>(&MemoryMap::ESP32C3, SLOT, check, &mut Flash::with(SLOT, image))
}
