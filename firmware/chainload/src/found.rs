//! What the updater finds at its entry, and an application is to find at its own.

use crate::script::Control;

/// Registers of the largest interrupt controller (ESP32-C6).
pub const MOST_CONTROLLER_WORDS: usize = 77 + 37;

/// What ROM and bootloader have left in registers that the updater's runtime sets before its `main`. Recorded by the
/// updater's first instructions, one word after the other.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Found {
    /// Registers of the processor.
    pub control: Control,
    /// The interrupt controller ([`ChainLoader::CONTROLLER`](crate::ChainLoader::CONTROLLER)), from the first register
    /// on.
    pub controller: [u32; MOST_CONTROLLER_WORDS],
}

/// Consecutive registers of 32 bits.
#[derive(Clone, Copy, Debug)]
pub struct Registers {
    /// Address of the first.
    pub first_addr: u32,
    /// How many.
    pub count: u32,
}
