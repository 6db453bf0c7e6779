//! ESP32. Written from the sources named here; neither built nor run by this project's gate (Xtensa).

use esp_hal::peripherals::LPWR;
use flashfmt::Chip;

/// The chip of this build.
pub(crate) const CHIP: Chip = Chip::Esp32;

/// The pin on which UART 0 receives, as the ROM has it.
#[cfg(feature = "wifi")]
pub(crate) fn uart_rx_pin() -> esp_hal::peripherals::GPIO3<'static> {
    // SAFETY: asked for once, by the one user of the serial port.
    unsafe { esp_hal::peripherals::GPIO3::steal() }
}

/// Lets the chip be reset when its supply falls below about 2.4 V: what it writes to its flash below that is rubbish.
///
/// The fields as `brownout_hal_config` has them (ESP-IDF 5.5, `hal/esp32/brownout_hal.c`).
pub(crate) fn reset_at_brownout() {
    LPWR::regs().brown_out().modify(|_, w| {
        w.close_flash_ena().set_bit();
        w.pd_rf_ena().set_bit();
        w.rst_ena().set_bit();
        w.ena().set_bit()
    });
}

/// Takes that back: the next application decides for itself.
pub(crate) fn ignore_brownout() {
    LPWR::regs().brown_out().reset();
}
