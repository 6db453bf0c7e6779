//! ESP32-S3. Written from the sources named here; neither built nor run by this project's gate (Xtensa).

use esp_hal::peripherals::LPWR;
use flashfmt::Chip;

/// The chip of this build.
pub(crate) const CHIP: Chip = Chip::Esp32S3;

/// Reads RTC_CNTL_STORE0, which ESP-IDF leaves free (ESP-IDF 5.5 `esp_rom/esp32s3/include/esp32s3/rom/rtc.h`: STORE1 to STORE7 are
/// taken).
pub(crate) fn retained_bits() -> u32 {
    LPWR::regs().store0().read().bits()
}

/// Writes RTC_CNTL_STORE0.
pub(crate) fn retain_bits(bits: u32) {
    // SAFETY: every bit pattern is a valid content of the register, and nothing else uses it.
    LPWR::regs().store0().write(|w| unsafe { w.bits(bits) });
}

/// Where ESP-IDF's applications leave why they restarted.
pub(super) fn read_reset_hint() -> u32 {
    LPWR::regs().store6().read().bits()
}

/// Leaves word for the next start.
pub(super) fn write_reset_hint(bits: u32) {
    // SAFETY: every bit pattern is a valid content of the register.
    LPWR::regs().store6().write(|w| unsafe { w.bits(bits) });
}

/// The pin on which UART 0 receives, as the ROM has it.
#[cfg(feature = "wifi")]
pub(crate) fn uart_rx_pin() -> esp_hal::peripherals::GPIO44<'static> {
    // SAFETY: asked for once, by the one user of the serial port.
    unsafe { esp_hal::peripherals::GPIO44::steal() }
}
