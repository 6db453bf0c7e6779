//! An application for ESP32-C3 (feature `esp32c3`, the default) and ESP32-C6 (`esp32c6`) that knows nothing of Pitstop.
//!
//! It prints one line a second: its version, why the chip was reset, and how often it was started since power came on.
//! That is all one needs to see on a serial port which release runs, and whether a restart kept the RTC memory.
//!
//! ```text
//! hello 1.0.0 reset=ChipPowerOn boot=1 uptime_s=0
//! ```
//!
//! The version is taken from the environment variable `HELLO_VERSION` at build time, so that one source gives the
//! releases 1.0.0 and 1.1.0: `HELLO_VERSION=1.1.0 cargo build --release`.

#![no_std]
#![no_main]

use core::panic::PanicInfo;

use esp_hal::delay::Delay;
use esp_hal::system::{reset_reason, software_reset};
use esp_hal::{main, ram};
use esp_println::println;
use portable_atomic::{AtomicU32, Ordering};

/// Version of this release, in the app descriptor and on the serial port.
const VERSION: &str = match option_env!("HELLO_VERSION") {
    Some(version) => version,
    None => "1.0.0",
};

/// Size of `version` in `esp_app_desc_t` (ESP-IDF 5.5, components/esp_app_format/include/esp_app_desc.h).
const VERSION_FIELD_BYTES: usize = 32;

// The field is a C string: one byte is left for its end.
const _: () = assert!(!VERSION.is_empty() && VERSION.len() < VERSION_FIELD_BYTES);

// Time and date are constants: building again does not change the image.
esp_bootloader_esp_idf::esp_app_desc!(
    VERSION,
    "hello",
    "00:00:00",
    "2026-01-01",
    esp_bootloader_esp_idf::ESP_IDF_COMPATIBLE_VERSION,
    esp_bootloader_esp_idf::MMU_PAGE_SIZE,
    0,
    u16::MAX,
    esp_bootloader_esp_idf::SECURE_VERSION
);

/// Starts since power came on. RTC fast memory keeps it over every reset but a power-on.
#[ram(unstable(rtc_fast, persistent))]
static BOOT_COUNT: AtomicU32 = AtomicU32::new(0);

/// Restarts the chip. A silent loop would need a person to come and press the button.
#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    software_reset()
}

#[main]
fn main() -> ! {
    esp_hal::init(esp_hal::Config::default());

    // Nothing else runs yet, so load and store need not be one operation (the C3 has no atomic add).
    let boot = BOOT_COUNT.load(Ordering::Relaxed).wrapping_add(1);
    BOOT_COUNT.store(boot, Ordering::Relaxed);

    let delay = Delay::new();
    let mut uptime_s: u32 = 0;
    loop {
        match reset_reason() {
            Some(reason) => println!("hello {VERSION} reset={reason:?} boot={boot} uptime_s={uptime_s}"),
            None => println!("hello {VERSION} reset=unknown boot={boot} uptime_s={uptime_s}"),
        }
        delay.delay_millis(1000);
        uptime_s = uptime_s.wrapping_add(1);
    }
}
