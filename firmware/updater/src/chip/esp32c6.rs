//! ESP32-C6. Built, not run.

use flashfmt::Chip;

/// What starts applications on it.
pub(crate) use chainload::Esp32C6 as Loader;

/// The chip of this build.
pub(crate) const CHIP: Chip = Chip::Esp32C6;

/// The pin on which UART 0 receives, as the ROM has it.
#[cfg(feature = "wifi")]
pub(crate) fn uart_rx_pin() -> esp_hal::peripherals::GPIO17<'static> {
    // SAFETY: asked for once, by the one user of the serial port.
    unsafe { esp_hal::peripherals::GPIO17::steal() }
}
