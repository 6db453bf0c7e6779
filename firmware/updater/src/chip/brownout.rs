//! The brownout detector of chips that have it in RTC_CNTL: ESP32-C3, ESP32-S3.

use esp_hal::peripherals::LPWR;

/// `I2C_BOD`, `I2C_BOD_THRESHOLD` and its bits (ESP-IDF 5.5, `soc/<chip>/include/soc/regi2c_brownout.h`).
const BLOCK: u8 = 0x61;
const THRESHOLD: u8 = 5;
const THRESHOLD_BITS: (u8, u8) = (2, 0);

/// The lowest voltage, ESP-IDF's default (`ESP_BROWNOUT_DET_LVL_SEL_7`): a battery is not given up before it must be.
const LOWEST: u8 = 7;

unsafe extern "C" {
    /// Of the ROM: writes bits of an analog register (ESP-IDF 5.5, `esp_rom/include/esp_rom_regi2c.h`).
    fn esp_rom_regi2c_write_mask(block: u8, host: u8, register: u8, msb: u8, lsb: u8, value: u8);
}

/// Turns the reset by the detector on, as `brownout_hal_config` does without interrupt (ESP-IDF 5.5,
/// `hal/brownout_hal.c`, `hal/<chip>/include/hal/brownout_ll.h`). No interrupt: it would have to wait for an erase.
pub(super) fn rtc_cntl(regi2c_host: u8) {
    let (msb, lsb) = THRESHOLD_BITS;
    // SAFETY: the register is the detector's, and no interrupt is on whose handler would use the same bus.
    unsafe { esp_rom_regi2c_write_mask(BLOCK, regi2c_host, THRESHOLD, msb, lsb, LOWEST) };
    LPWR::regs().brown_out().modify(|_, w| {
        w.brown_out_close_flash_ena().set_bit();
        w.brown_out_pd_rf_ena().set_bit();
        // The digital system and not the whole chip: that would look like power-on.
        w.brown_out_rst_sel().clear_bit();
        w.brown_out_rst_ena().set_bit();
        w.brown_out_ena().set_bit()
    });
}

/// Makes the detector what it is after power-on: it is in the RTC domain, and the next reset will not.
pub(super) fn rtc_cntl_as_after_power_on() {
    LPWR::regs().brown_out().reset();
}
