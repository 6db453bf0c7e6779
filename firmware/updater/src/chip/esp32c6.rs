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

/// Leaves the brownout detector alone: at which voltage it would fire is in an analog register, and this chip's ROM has
/// no function to set that. At an unknown one, the detector might never let the chip start.
pub(crate) fn reset_at_brownout() {}

/// See [`reset_at_brownout`].
pub(crate) fn ignore_brownout() {}
