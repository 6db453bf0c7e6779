//! ESP32. Written from the sources named here; neither built nor run by this project's gate (Xtensa).

use flashfmt::Chip;

/// The chip of this build.
pub(crate) const CHIP: Chip = Chip::Esp32;

/// The pin on which UART 0 receives, as the ROM has it.
#[cfg(feature = "wifi")]
pub(crate) fn uart_rx_pin() -> esp_hal::peripherals::GPIO3<'static> {
    // SAFETY: asked for once, by the one user of the serial port.
    unsafe { esp_hal::peripherals::GPIO3::steal() }
}
