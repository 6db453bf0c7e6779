//! What each chip's chain-loader offers.

use digest::Digest;
use digest::consts::U32;
use embedded_storage::nor_flash::ReadNorFlash;

use crate::found::{Found, Registers};
use crate::memory::MemoryMap;
use crate::plan::{Check, LoadPlan, Slot, plan};
use crate::refused::Refused;

/// The chain-loader of a chip.
pub trait ChainLoader {
    /// The chip's memory.
    const MEMORY: &'static MemoryMap;

    /// The registers of the chip's interrupt controller: esp-hal sets them before the updater's `main`.
    const CONTROLLER: [Registers; 2];

    /// The chip's SHA engine.
    type Sha256: Digest<OutputSize = U32> + Clone;

    /// Whether this start is a wake from deep sleep.
    fn woke_from_deep_sleep() -> bool;

    /// Gives the RTC watchdog its whole time again. It stays armed, or not, as it was.
    fn feed_watchdog();

    /// Checks the image in a slot with the SHA engine, and plans its start. Flash is only read.
    ///
    /// # Errors
    /// [`Refused`]: the image must not be started.
    fn plan<F: ReadNorFlash>(slot: Slot, check: Check, flash: &mut F) -> Result<LoadPlan, Refused> {
        plan::<Self::Sha256, F>(Self::MEMORY, slot, check, flash)
    }

    /// Starts the application, which finds what the updater has found at its own entry.
    ///
    /// # Safety
    /// - `plan` was made for [`Self::MEMORY`].
    /// - No peripheral writes to memory (DMA): it would go on in the application's memory. So it is before
    ///   `esp_hal::init()`.
    /// - The caller's stack and `plan` are outside the reserved memory of the map. So it is with esp-hal's linker
    ///   scripts, unless `plan` is in a heap of reclaimed memory (`dram2_seg`).
    unsafe fn start(plan: &LoadPlan, found: &Found) -> !;
}
