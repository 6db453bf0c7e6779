//! Chain-load: before anything is initialised, is this a start that belongs to the application at once?
//!
//! With the hand-over ticket, and at a wake from deep sleep, the application gets the hardware as the bootloader left
//! it: no clock changed, no watchdog touched, no guard on the stack. It cannot tell that the bootloader did not start it.

use chainload::{ChainLoader, Check, LoadPlan, Slot};
use embedded_storage::nor_flash::ReadNorFlash;
use esp_hal::peripherals::Peripherals;
use esp_storage::FlashStorage;
use flashfmt::image::ImageSummary;
use updater_io::early::{self, Depth};
use updater_io::region::Region;

use crate::chip::{self, Loader};
use crate::entry;

/// The chip's SHA engine.
pub(crate) type Sha256 = <Loader as ChainLoader>::Sha256;

/// Whether an image can be started does not depend on its slot: each begins at a page of the MMU.
const ANY_SLOT: Slot = Slot { offset: 0, size_bytes: 16 << 20 };

/// Hands over and does not come back, or returns: then a pit stop is due.
pub(crate) fn hand_over_if_due() {
    if chip::watchdog_fired() {
        // Neither a ticket nor a sleep ends so. Should looking at the slots have taken too long, it would again.
        return;
    }
    // SAFETY: nothing else has peripherals yet, and when this function returns nobody has these any more.
    let peripherals = unsafe { Peripherals::steal() };
    let mut flash = FlashStorage::new(peripherals.FLASH);
    let decided = early::hand_over(&mut flash, chip::retained_bits(), chip::reset_cause(), plan);
    drop(flash);
    let Some(hand_over) = decided else { return };
    chip::retain_bits(hand_over.retained_bits);
    // SAFETY: the plan was made for this chip and is on the stack; no peripheral has been started.
    unsafe { Loader::start(&hand_over.checked, entry::found()) }
}

/// Whether the chain-loader has room to start this image.
pub(crate) fn can_start(image: &ImageSummary) -> bool {
    LoadPlan::new(Loader::MEMORY, ANY_SLOT, &image.header, &image.segments).is_ok()
}

fn plan<F: ReadNorFlash>(flash: &mut F, region: Region, depth: Depth) -> Option<LoadPlan> {
    // Hashing takes about a second a megabyte, and the bootloader has left 9 s.
    Loader::feed_watchdog();
    let slot = Slot { offset: region.offset, size_bytes: region.size_bytes };
    let check = match depth {
        Depth::Full => Check::Full,
        Depth::Structure => Check::Structure,
    };
    Loader::plan(slot, check, flash).ok()
}
