//! An ESP32-C3 application that panics two seconds after its start, every time.
//!
//! A release with a bug. What a watching person sees is a restart loop:
//!
//! ```text
//! panicky 1.0.0 reset=CoreSw
//! panicky 1.0.0 panicked at apps/panicky/src/main.rs:56:5: this release has a bug; restarting
//! ```

#![no_std]
#![no_main]

use core::panic::PanicInfo;

use esp_hal::delay::Delay;
use esp_hal::main;
use esp_hal::system::{reset_reason, software_reset};
use esp_println::println;

const VERSION: &str = "1.0.0";

// Time and date are constants: building again does not change the image.
esp_bootloader_esp_idf::esp_app_desc!(
    VERSION,
    "panicky",
    "00:00:00",
    "2026-01-01",
    esp_bootloader_esp_idf::ESP_IDF_COMPATIBLE_VERSION,
    esp_bootloader_esp_idf::MMU_PAGE_SIZE,
    0,
    u16::MAX,
    esp_bootloader_esp_idf::SECURE_VERSION
);

/// How long the application works before its bug shows.
const WORKS_FOR_MS: u32 = 2_000;

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    match info.location() {
        Some(place) => println!("panicky {VERSION} panicked at {place}: {}; restarting", info.message()),
        None => println!("panicky {VERSION} panicked: {}; restarting", info.message()),
    }
    software_reset()
}

#[main]
fn main() -> ! {
    esp_hal::init(esp_hal::Config::default());

    match reset_reason() {
        Some(reason) => println!("panicky {VERSION} reset={reason:?}"),
        None => println!("panicky {VERSION} reset=unknown"),
    }
    Delay::new().delay_millis(WORKS_FOR_MS);
    panic!("this release has a bug")
}
