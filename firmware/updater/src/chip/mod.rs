//! What differs between chips: the retained register, the reset causes, the reset, the brownout detector.

#[cfg(any(feature = "esp32c3", feature = "esp32s3"))]
mod brownout;

#[cfg(feature = "esp32c3")]
mod esp32c3;
#[cfg(feature = "esp32c3")]
use esp32c3 as this;

#[cfg(feature = "esp32c6")]
mod esp32c6;
#[cfg(feature = "esp32c6")]
use esp32c6 as this;

#[cfg(feature = "esp32s3")]
mod esp32s3;
#[cfg(feature = "esp32s3")]
use esp32s3 as this;

#[cfg(feature = "esp32")]
mod esp32;
#[cfg(feature = "esp32")]
use esp32 as this;

#[cfg(feature = "chain-load")]
pub(crate) use this::Loader;
use this::ignore_brownout;
#[cfg(feature = "wifi")]
pub(crate) use this::uart_rx_pin;
pub(crate) use this::{CHIP, reset_at_brownout};

// Its registers STORE0 to STORE7 outlive every reset but those of the RTC domain: power-on, brownout, the last stage of
// the bootloader's RTC watchdog, the super watchdog (ESP32-C3 TRM, 6.1.3, "System Reset").
use esp_hal::efuse;
#[cfg(feature = "esp32c6")]
use esp_hal::peripherals::LP_AON as Store;
#[cfg(not(feature = "esp32c6"))]
use esp_hal::peripherals::LPWR as Store;
use esp_hal::peripherals::RTC_TIMER;
use esp_hal::rom::ets_delay_us;
use esp_hal::rtc_cntl::Rtc;
use esp_hal::system::{reset_reason, software_reset};
use flashfmt::image::Target;
use flashfmt::image::boot::Revision;
use updater::reset::{self, Hint};
use wire::ResetCause;

/// Reads STORE0, which ESP-IDF leaves free on every chip; the others are taken (ESP-IDF 5.5,
/// `components/esp_rom/*/include/*/rom/rtc.h`).
pub(crate) fn retained_bits() -> u32 {
    Store::regs().store0().read().bits()
}

/// Writes STORE0.
pub(crate) fn retain_bits(bits: u32) {
    // SAFETY: every bit pattern is a valid content of the register, and nothing else uses it.
    Store::regs().store0().write(|w| unsafe { w.bits(bits) });
}

/// Why the chip reset, by the table of resets.
pub(crate) fn reset_cause() -> ResetCause {
    let code = reset_reason().map_or(0, |reason| reason as u32);
    // Where ESP-IDF's applications leave why they restarted.
    reset::cause(code, Hint::from_store6(Store::regs().store6().read().bits()))
}

/// Makes the next start see this one end in a panic.
pub(crate) fn remember_panic() {
    write_reset_hint(Hint::Panic.to_store6());
}

/// Forgets a panic of the updater itself, so that the application does not take it for its own.
pub(crate) fn forget_panic() {
    write_reset_hint(0);
}

/// The chip that an image is to start on.
pub(crate) fn target() -> Target {
    #[cfg(not(feature = "esp32"))]
    let ignores_max = efuse::read_bit(efuse::DISABLE_WAFER_VERSION_MAJOR);
    // ESP-IDF does not look at one there (ESP-IDF 5.5, `hal/esp32/include/hal/efuse_ll.h`).
    #[cfg(feature = "esp32")]
    let ignores_max = false;
    let revision = Revision { full: efuse::chip_revision().combined(), ignores_max };
    // The revision of its eFuse blocks is not judged.
    Target { chip: CHIP, revision: Some(revision), efuse_blocks: None }
}

/// Gives whoever is under the RTC watchdog its whole time once more.
pub(crate) fn feed_watchdog() {
    // SAFETY: the driver holds nothing, and feeding is one write to a register.
    Rtc::new(unsafe { RTC_TIMER::steal() }).rwdt.feed();
}

/// Waits with nothing but what the bootloader has set up, under its watchdog.
pub(crate) fn wait(after_ms: u64) {
    for _ in 0..after_ms.div_ceil(100) {
        feed_watchdog();
        ets_delay_us(100_000);
    }
}

fn write_reset_hint(bits: u32) {
    // SAFETY: every bit pattern is a valid content of the register.
    Store::regs().store6().write(|w| unsafe { w.bits(bits) });
}

/// Resets the whole chip but the RTC domain: what runs next finds every peripheral as after power-on, and the
/// retained register as it was left.
pub(crate) fn reset() -> ! {
    ignore_brownout();
    software_reset()
}
