//! Before anything is initialised: is this a start that belongs to the application at once?
//!
//! With the hand-over ticket, after crashes of the updater, and at a wake from deep sleep, the application gets the hardware
//! as the bootloader left it: no clock changed, its watchdog as it was, no guard on the stack. It cannot tell that the
//! bootloader did not start it.

#[cfg(feature = "chain-load")]
mod chain_load;
#[cfg(feature = "chain-load")]
use chain_load as way;
#[cfg(not(feature = "chain-load"))]
mod rollback_only;
#[cfg(not(feature = "chain-load"))]
use rollback_only as way;

use embedded_storage::nor_flash::{ErrorType, ReadNorFlash};
use esp_hal::peripherals::Peripherals;
use esp_storage::FlashStorage;
use flashfmt::image::Target;
use updater::{Start, Verdict};
use updater_io::early::{self, Begun, Depth, EarlyBoard};
use updater_io::region::Region;
use wire::ResetCause;

pub(crate) use way::{Sha256, can_start};

use crate::{chip, console, watchdog};

/// Hands over and does not come back, or returns what a pit stop begins with.
pub(crate) fn begin() -> Start {
    let watchdog = watchdog::keep_register();
    // SAFETY: nothing else has peripherals yet, and when this function returns nobody has these any more.
    let peripherals = unsafe { Peripherals::steal() };
    let mut flash = FlashStorage::new(peripherals.FLASH);
    let (bits, cause) = (chip::retained_bits(), chip::reset_cause());
    if Start::new(bits, cause).told_cause() == ResetCause::UpdaterCrash {
        // The panic was the updater's own: the application must not take it for its own.
        chip::forget_panic();
    }
    let begun = early::begin(&mut EarlyChip, &mut flash, bits, cause);
    drop(flash);
    match begun {
        Begun::PitStop(start) => start,
        Begun::ResetToSlot => chip::reset(),
        Begun::Wait { after_ms, reason, retained_bits } => {
            console::print_verdict(&Verdict::Restart { after_ms, reason });
            chip::retain_bits(retained_bits);
            chip::wait(after_ms);
            chip::reset()
        }
        Begun::HandOver(hand_over) => {
            watchdog.restore();
            chip::retain_bits(hand_over.retained_bits);
            way::start(&hand_over.checked)
        }
    }
}

/// The chip before anything is initialised.
struct EarlyChip;

impl<F: ReadNorFlash> EarlyBoard<F> for EarlyChip {
    type Checked = way::Plan;
    type Sha256 = Sha256;

    fn target(&self) -> Target {
        chip::target()
    }

    fn retain_bits(&mut self, bits: u32) {
        chip::retain_bits(bits);
    }

    fn feed_watchdog(&mut self) {
        chip::feed_watchdog();
    }

    fn check(&mut self, flash: &mut F, slot: Region, depth: Depth) -> Option<way::Plan> {
        way::check(&mut Fed(flash), slot, depth)
    }
}

/// Flash that feeds the bootloader's watchdog when a slot is read: hashing takes about a second a megabyte, and the bootloader
/// has left 9 s.
struct Fed<'f, F>(&'f mut F);

impl<F: ErrorType> ErrorType for Fed<'_, F> {
    type Error = F::Error;
}

impl<F: ReadNorFlash> ReadNorFlash for Fed<'_, F> {
    const READ_SIZE: usize = F::READ_SIZE;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), Self::Error> {
        chip::feed_watchdog();
        self.0.read(offset, bytes)
    }

    fn capacity(&self) -> usize {
        self.0.capacity()
    }
}
