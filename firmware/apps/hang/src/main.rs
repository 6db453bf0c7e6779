//! An ESP32-C3 application that stops answering, so that its watchdog resets the chip.
//!
//! It arms the watchdog of timer group 0, prints, and then spins with interrupts off:
//!
//! ```text
//! hang 1.0.0 reset=ChipPowerOn watchdog_ms=2000
//! hang 1.0.0 reset=CoreMwdt0 watchdog_ms=2000
//! ```

#![no_std]
#![no_main]

use core::hint::spin_loop;
use core::panic::PanicInfo;

use esp_hal::main;
use esp_hal::system::{reset_reason, software_reset};
use esp_hal::time::Duration;
use esp_hal::timer::timg::{MwdtStage, TimerGroup};
use esp_println::println;

const VERSION: &str = "1.0.0";

// Time and date are constants: building again does not change the image.
esp_bootloader_esp_idf::esp_app_desc!(
    VERSION,
    "hang",
    "00:00:00",
    "2026-01-01",
    esp_bootloader_esp_idf::ESP_IDF_COMPATIBLE_VERSION,
    esp_bootloader_esp_idf::MMU_PAGE_SIZE,
    0,
    u16::MAX,
    esp_bootloader_esp_idf::SECURE_VERSION
);

/// How long the watchdog waits for the feeding that never comes.
const WATCHDOG_MS: u64 = 2_000;

/// Restarts the chip. A silent loop would need a person to come and press the button.
#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    software_reset()
}

#[main]
fn main() -> ! {
    let peripherals = esp_hal::init(esp_hal::Config::default());

    let mut watchdog = TimerGroup::new(peripherals.TIMG0).wdt;
    watchdog.set_timeout(MwdtStage::Stage0, Duration::from_millis(WATCHDOG_MS));
    watchdog.enable();
    // Once, so that it counts from now.
    watchdog.feed();

    match reset_reason() {
        Some(reason) => println!("hang {VERSION} reset={reason:?} watchdog_ms={WATCHDOG_MS}"),
        None => println!("hang {VERSION} reset=unknown watchdog_ms={WATCHDOG_MS}"),
    }
    critical_section::with(|_| {
        loop {
            spin_loop();
        }
    })
}
