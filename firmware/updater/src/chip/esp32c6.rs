//! ESP32-C6. Built, not run.

use esp_hal::peripherals::LP_AON;
use flashfmt::Chip;

/// What starts applications on it.
pub(crate) use chainload::Esp32C6 as Loader;

/// The chip of this build.
pub(crate) const CHIP: Chip = Chip::Esp32C6;

/// Reads LP_AON_STORE0, which ESP-IDF leaves free (ESP-IDF 5.5 `soc/esp32c6/include/soc/rtc.h`).
pub(crate) fn retained_bits() -> u32 {
    LP_AON::regs().store0().read().bits()
}

/// Writes LP_AON_STORE0.
pub(crate) fn retain_bits(bits: u32) {
    // SAFETY: every bit pattern is a valid content of the register, and nothing else uses it.
    LP_AON::regs().store0().write(|w| unsafe { w.bits(bits) });
}

/// Where ESP-IDF's applications leave why they restarted.
pub(super) fn read_reset_hint() -> u32 {
    LP_AON::regs().store6().read().bits()
}

/// Leaves word for the next start.
pub(super) fn write_reset_hint(bits: u32) {
    // SAFETY: every bit pattern is a valid content of the register.
    LP_AON::regs().store6().write(|w| unsafe { w.bits(bits) });
}

/// The pin on which UART 0 receives, as the ROM has it.
#[cfg(feature = "wifi")]
pub(crate) fn uart_rx_pin() -> esp_hal::peripherals::GPIO17<'static> {
    // SAFETY: asked for once, by the one user of the serial port.
    unsafe { esp_hal::peripherals::GPIO17::steal() }
}
