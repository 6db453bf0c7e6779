//! ESP32-S3. Written from the sources named here; neither built nor run by this project's gate (Xtensa).

use flashfmt::Chip;

/// The chip of this build.
pub(crate) const CHIP: Chip = Chip::Esp32S3;

/// The pin on which UART 0 receives, as the ROM has it.
#[cfg(feature = "wifi")]
pub(crate) fn uart_rx_pin() -> esp_hal::peripherals::GPIO44<'static> {
    // SAFETY: asked for once, by the one user of the serial port.
    unsafe { esp_hal::peripherals::GPIO44::steal() }
}

/// Lets the chip be reset when its supply falls below about 2.4 V: what it writes to its flash below that is rubbish.
pub(crate) fn reset_at_brownout() {
    super::brownout::rtc_cntl(REGI2C_HOST_OF_BROWNOUT);
}

/// Takes that back: the next application decides for itself.
pub(crate) fn ignore_brownout() {
    super::brownout::rtc_cntl_as_after_power_on();
}

/// `I2C_BOD_HOSTID` (ESP-IDF 5.5, `soc/esp32s3/include/soc/regi2c_brownout.h`).
const REGI2C_HOST_OF_BROWNOUT: u8 = 1;
