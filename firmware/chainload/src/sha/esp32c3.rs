//! The SHA engine of the ESP32-C3. Source: ESP-IDF `soc/esp32c3/register/soc/`.

use crate::register::Register;

/// `DR_REG_SHA_BASE`.
pub(super) const BASE_ADDR: u32 = 0x6003_B000;

// SAFETY: registers by `system_reg.h`; none of them is for DMA.
const SYSTEM_PERIP_CLK_EN1: Register = unsafe { Register::at(0x600C_0014) };
// SAFETY: as above.
const SYSTEM_PERIP_RST_EN1: Register = unsafe { Register::at(0x600C_001C) };

/// `SYSTEM_CRYPTO_SHA_CLK_EN`, and `SYSTEM_CRYPTO_SHA_RST` in the other register.
const SHA: u32 = 1 << 2;
/// `SYSTEM_CRYPTO_DS_RST` and `SYSTEM_CRYPTO_HMAC_RST`: each of them holds the SHA engine in reset too.
const SHA_USERS: u32 = 1 << 4 | 1 << 5;

/// Turns the engine on, if it is off.
pub(super) fn enable() {
    let clocked = SYSTEM_PERIP_CLK_EN1.read() & SHA != 0;
    let in_reset = SYSTEM_PERIP_RST_EN1.read() & (SHA | SHA_USERS) != 0;
    if !clocked || in_reset {
        SYSTEM_PERIP_CLK_EN1.set(SHA);
        SYSTEM_PERIP_RST_EN1.set(SHA);
        SYSTEM_PERIP_RST_EN1.clear(SHA | SHA_USERS);
    }
}
