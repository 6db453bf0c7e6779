//! An ESP32-C3 application that spends its life in deep sleep.
//!
//! It prints one line, sleeps two seconds, and is started again by the RTC timer:
//!
//! ```text
//! sleeper 1.0.0 boot=1 wakes=0 rtc_data=fresh reset=ChipPowerOn wake=none
//! sleeper 1.0.0 boot=2 wakes=1 rtc_data=kept reset=CoreDeepSleep wake=timer
//! ```
//!
//! `rtc_data` is the test of whoever starts this image: its RTC data is loaded with the image, and must not be loaded
//! again after deep sleep (ESP-IDF 5.5, components/bootloader_support/src/esp_image_format.c, `should_load`).

#![no_std]
#![no_main]

use core::panic::PanicInfo;

use esp_hal::rtc_cntl::WakeupSource;
use esp_hal::rtc_cntl::sleep::{LowPower, RtcSleepConfig};
use esp_hal::system::{reset_reason, software_reset, wakeup_cause};
use esp_hal::time::{Duration, Instant};
use esp_hal::{main, ram};
use esp_println::println;
use portable_atomic::{AtomicU32, Ordering};

const VERSION: &str = "1.0.0";

// Time and date are constants: building again does not change the image.
esp_bootloader_esp_idf::esp_app_desc!(
    VERSION,
    "sleeper",
    "00:00:00",
    "2026-01-01",
    esp_bootloader_esp_idf::ESP_IDF_COMPATIBLE_VERSION,
    esp_bootloader_esp_idf::MMU_PAGE_SIZE,
    0,
    u16::MAX,
    esp_bootloader_esp_idf::SECURE_VERSION
);

/// How long one sleep lasts.
const SLEEP_MS: u64 = 2_000;

/// What [`RTC_DATA`] holds in the image, and what this application writes over it.
const FRESH: u32 = 0xF5E5_4000;
const KEPT: u32 = 0x51EE_9E12;
const _: () = assert!(FRESH != KEPT);

/// Starts since power came on. Not part of the image; esp-hal clears it after a power-on only.
#[ram(unstable(rtc_fast, persistent))]
static BOOT_COUNT: AtomicU32 = AtomicU32::new(0);

/// A segment of the image for RTC memory: loaded at every start but a wake from deep sleep.
#[ram(unstable(rtc_fast))]
static RTC_DATA: AtomicU32 = AtomicU32::new(FRESH);

/// Wakes from deep sleep since the image was loaded, in the same segment.
#[ram(unstable(rtc_fast))]
static WAKES: AtomicU32 = AtomicU32::new(0);

/// Restarts the chip. A silent loop would need a person to come and press the button.
#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    software_reset()
}

#[main]
fn main() -> ! {
    let peripherals = esp_hal::init(esp_hal::Config::default());

    let boot = increment(&BOOT_COUNT);
    let rtc_data = match RTC_DATA.load(Ordering::Relaxed) {
        FRESH => "fresh",
        KEPT => "kept",
        _ => "damaged",
    };
    RTC_DATA.store(KEPT, Ordering::Relaxed);
    let cause = wakeup_cause();
    let (wake, wakes) = if cause.is_empty() {
        ("none", WAKES.load(Ordering::Relaxed))
    } else if cause.contains(WakeupSource::Timer) {
        ("timer", increment(&WAKES))
    } else {
        ("other", increment(&WAKES))
    };
    match reset_reason() {
        Some(reason) => println!(
            "sleeper {VERSION} boot={boot} wakes={wakes} rtc_data={rtc_data} reset={reason:?} wake={wake}"
        ),
        None => println!(
            "sleeper {VERSION} boot={boot} wakes={wakes} rtc_data={rtc_data} reset=unknown wake={wake}"
        ),
    }

    let mut power = LowPower::new(peripherals.LPWR);
    power.set_wakeup_deadline(Instant::now() + Duration::from_millis(SLEEP_MS));
    power.sleep_deep(RtcSleepConfig::deep())
}

/// Adds one and returns the sum. Nothing else runs, so load and store need not be one operation (the C3 has no atomic
/// add).
fn increment(counter: &AtomicU32) -> u32 {
    let sum = counter.load(Ordering::Relaxed).wrapping_add(1);
    counter.store(sum, Ordering::Relaxed);
    sum
}
