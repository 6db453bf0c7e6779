//! Registers of a chip.

use core::ptr;

/// A register.
#[derive(Clone, Copy)]
pub(crate) struct Register {
    addr: usize,
}

impl Register {
    /// The register at `addr`.
    ///
    /// # Safety
    /// There is a 32-bit register; reading and writing it has no effect on memory.
    pub(crate) const unsafe fn at(addr: u32) -> Self {
        Self { addr: addr as usize }
    }

    pub(crate) fn read(self) -> u32 {
        // SAFETY: see `at`.
        unsafe { ptr::with_exposed_provenance::<u32>(self.addr).read_volatile() }
    }

    pub(crate) fn write(self, value: u32) {
        // SAFETY: see `at`.
        unsafe { ptr::with_exposed_provenance_mut::<u32>(self.addr).write_volatile(value) }
    }

    pub(crate) fn set(self, bits: u32) {
        self.write(self.read() | bits);
    }

    pub(crate) fn clear(self, bits: u32) {
        self.write(self.read() & !bits);
    }
}
