//! Starts an application image in a slot as ESP-IDF's second-stage bootloader would.
//!
//! The updater calls it at the start of its `main`, before `esp_hal::init()`: the bootloader has left the chip as an
//! application expects it, while init sets a watchpoint on stores to the stack's end, other clocks, and disables
//! watchdogs.
//!
//! ```text
//! let plan = Esp32C3::plan(slot, Check::Full, &mut flash)?;   // reads and judges, changes nothing
//! unsafe { Esp32C3::start(&plan, &found) }                    // does not return
//! ```
//!
//! # The sequence
//!
//! 1. [`plan()`]: header, chip, segments against the [`MemoryMap`], checksum and SHA-256. A damaged image, or one
//!    that cannot run here, is [`Refused`], and the updater goes on as if nothing had happened.
//! 2. [`ChainLoader::start`]: the RTC watchdog, which the bootloader has armed with 9 s, is fed and stays armed, as
//!    it does for an application that the bootloader starts.
//! 3. Interrupts off. The stub goes to RAM that no application uses (ESP32-C3: written at 0x3FCD_8000, run at
//!    0x403D_8000), the [`Script`] behind it. From here on the updater's code, data and stack are not used any more.
//! 4. Cache off; the MMU maps the data of the segments for RAM; cached lines dropped; cache on; each segment copied.
//! 5. Cache off; every MMU entry invalid; the application's read-only data and code mapped, and the first page of
//!    the read-only data in the last entry too; cached lines dropped; both buses of the cache opened; cache on.
//! 6. Jump to the entry point, with the stack where the ROM's is (ESP32-C3: 0x3FCD_E700), and with the trap vector,
//!    the interrupts and the interrupt matrix that the bootloader has left ([`Found`]).
//!
//! At a wake from deep sleep ([`Check::Structure`]) the image is not hashed, and RTC memory is left as it is.
//!
//! Not checked: the chip's revision against the header's, and anti-rollback and secure boot, which belong to the
//! bootloader that starts the updater.
//!
//! # What is where
//!
//! [`memory`], [`mod@plan`] and [`script`] are pure; they are all there is without a chip's feature, and are tested
//! on the host. What touches hardware is in the chips' modules, the stub and the SHA engine; ESP32-C6 is built, not
//! run.

#![no_std]

#[cfg(all(feature = "esp32c3", feature = "esp32c6"))]
compile_error!("one chip at a time: choose the feature esp32c3 or esp32c6");

mod chain_loader;
pub mod found;
pub mod memory;
pub mod plan;
pub mod refused;
pub mod script;

#[cfg(feature = "esp32c3")]
#[path = "esp32c3.rs"]
mod chip;
#[cfg(feature = "esp32c6")]
#[path = "esp32c6.rs"]
mod chip;
#[cfg(any(feature = "esp32c3", feature = "esp32c6"))]
mod interrupts;
#[cfg(any(feature = "esp32c3", feature = "esp32c6"))]
mod register;
#[cfg(any(feature = "esp32c3", feature = "esp32c6"))]
pub mod sha;
#[cfg(any(feature = "esp32c3", feature = "esp32c6"))]
mod stub;

pub use chain_loader::ChainLoader;
#[cfg(feature = "esp32c3")]
pub use chip::Esp32C3;
#[cfg(feature = "esp32c6")]
pub use chip::Esp32C6;
pub use found::{Found, Registers};
pub use memory::MemoryMap;
pub use plan::{Check, LoadPlan, Slot, plan};
pub use refused::{Misfit, Refused};
pub use script::{Control, Script};
