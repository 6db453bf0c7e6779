//! The SHA engine of the ESP32-C6: built, not run. Source: ESP-IDF `soc/esp32c6/register/soc/`.

use crate::register::Register;

/// `DR_REG_SHA_BASE`.
pub(super) const BASE_ADDR: u32 = 0x6008_9000;

// SAFETY: registers by `pcr_reg.h`; none of them is for DMA.
const PCR_SHA_CONF: Register = unsafe { Register::at(0x6009_60CC) };
// SAFETY: as above.
const PCR_DS_CONF: Register = unsafe { Register::at(0x6009_60E0) };
// SAFETY: as above.
const PCR_HMAC_CONF: Register = unsafe { Register::at(0x6009_60E4) };

/// `PCR_SHA_CLK_EN`.
const CLOCK: u32 = 1;
/// `PCR_SHA_RST_EN`, `PCR_DS_RST_EN`, `PCR_HMAC_RST_EN`, each in its register.
const RESET: u32 = 1 << 1;

/// Turns the engine on, if it is off.
pub(super) fn enable() {
    let configured = PCR_SHA_CONF.read() & (CLOCK | RESET) == CLOCK;
    let users_in_reset = (PCR_DS_CONF.read() | PCR_HMAC_CONF.read()) & RESET != 0;
    if !configured || users_in_reset {
        PCR_SHA_CONF.set(CLOCK);
        PCR_SHA_CONF.set(RESET);
        PCR_SHA_CONF.clear(RESET);
        // Each of these holds the SHA engine in reset too.
        PCR_DS_CONF.clear(RESET);
        PCR_HMAC_CONF.clear(RESET);
    }
}
