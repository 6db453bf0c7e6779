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
#[cfg(feature = "esp32c6")]
use esp_hal::peripherals::LP_AON as Store;
#[cfg(not(feature = "esp32c6"))]
use esp_hal::peripherals::LPWR as Store;
use esp_hal::system::{reset_reason, software_reset};
use wire::ResetCause;

/// `esp_reset_reason_t` of ESP-IDF 5.5 (`components/esp_system/include/esp_system.h`), of the reasons that leave a hint.
const ESP_RST_PANIC: u32 = 4;
const ESP_RST_INT_WDT: u32 = 5;
const ESP_RST_TASK_WDT: u32 = 6;
/// How `esp_reset_reason_set_hint` keeps a reason: in both halves of a register, the upper one with its top bit set
/// (ESP-IDF 5.5, `components/esp_system/port/soc/esp32c3/reset_reason.c`).
const HINT_SHIFT: u32 = 16;
const HINT_BIT: u32 = 0x8000_0000;
const HINT_MASK: u32 = 0x7fff;

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

/// Whether the last reset came from the hardware of a watchdog.
#[cfg(feature = "chain-load")]
pub(crate) fn watchdog_fired() -> bool {
    reset_reason().is_some_and(|reason| is_watchdog(reason as u32))
}

/// Main watchdogs 0 and 1, RTC watchdog, super watchdog; of a processor, the core, the system.
fn is_watchdog(code: u32) -> bool {
    matches!(code, 0x07 | 0x08 | 0x09 | 0x0b | 0x0d | 0x10 | 0x11 | 0x12)
}

/// Why the chip reset. The hardware cannot tell a panic from a wished restart; ESP-IDF's hint does.
///
/// The codes are the same on all chips that have them (ESP-IDF 5.5, `components/soc/*/include/soc/reset_reasons.h`).
pub(crate) fn reset_cause() -> ResetCause {
    match reset_reason().map(|reason| reason as u32) {
        Some(0x01) => ResetCause::PowerOn,
        Some(0x03 | 0x0c) => match reset_hint() {
            Some(ESP_RST_PANIC) => ResetCause::Panic,
            Some(ESP_RST_INT_WDT | ESP_RST_TASK_WDT) => ResetCause::Watchdog,
            Some(_) | None => ResetCause::Software,
        },
        Some(0x05) => ResetCause::DeepSleep,
        Some(0x0f) => ResetCause::Brownout,
        Some(code) if is_watchdog(code) => ResetCause::Watchdog,
        // USB serial and JTAG.
        Some(0x15 | 0x16 | 0x18) => ResetCause::External,
        Some(_) | None => ResetCause::Unknown,
    }
}

/// Makes the next start see this one end in a panic.
pub(crate) fn remember_panic() {
    write_reset_hint(ESP_RST_PANIC | (ESP_RST_PANIC << HINT_SHIFT) | HINT_BIT);
}

/// Forgets a panic of the updater itself, so that the application does not take it for its own.
pub(crate) fn forget_panic() {
    write_reset_hint(0);
}

fn reset_hint() -> Option<u32> {
    // Where ESP-IDF's applications leave why they restarted.
    let bits = Store::regs().store6().read().bits();
    let (low, high) = (bits & HINT_MASK, (bits >> HINT_SHIFT) & HINT_MASK);
    (bits & HINT_BIT != 0 && low == high).then_some(low)
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
