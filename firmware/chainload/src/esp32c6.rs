//! ESP32-C6: built, not run. Sources: ESP-IDF `soc/esp32c6/register/soc/` and `esp_rom/esp32c6/ld/esp32c6.rom.ld`.
//!
//! This chip's MMU can have smaller pages. An image that was linked for them is refused when its segments do not suit
//! pages of 64 KiB, which is what the bootloaders up to ESP-IDF 5 have as well.

use crate::found::{Found, Registers};
use crate::memory::MemoryMap;
use crate::plan::LoadPlan;
use crate::register::Register;
use crate::script::{Cache, Script};
use crate::{ChainLoader, sha, stub};

/// The chain-loader of the ESP32-C6.
#[derive(Debug)]
pub enum Esp32C6 {}

/// `EXTMEM_L1_CACHE_CTRL_REG` with `EXTMEM_L1_CACHE_SHUT_IBUS` and `EXTMEM_L1_CACHE_SHUT_DBUS`.
const CACHE: Cache = Cache {
    disable_addr: 0x4000_0690,
    enable_addr: 0x4000_0694,
    invalidate_all_addr: 0x4000_064C,
    bus_register_addr: 0x600C_8004,
    bus_shut_bits: 0b11,
};

// SAFETY: registers by `lp_clkrst_reg.h`, `lp_wdt_reg.h` and `efuse_reg.h`; none of them is for DMA.
const LP_CLKRST_RESET_CAUSE: Register = unsafe { Register::at(0x600B_0410) };
// SAFETY: as above.
const LP_WDT_FEED: Register = unsafe { Register::at(0x600B_1C14) };
// SAFETY: as above.
const LP_WDT_WPROTECT: Register = unsafe { Register::at(0x600B_1C18) };
// SAFETY: as above.
const EFUSE_RD_REPEAT_DATA1: Register = unsafe { Register::at(0x600B_0834) };

/// `LP_CLKRST_RESET_CAUSE`.
const RESET_CAUSE: u32 = 0x1F;
/// `RESET_REASON_CORE_DEEP_SLEEP` of `soc/reset_reasons.h`.
const DEEP_SLEEP: u32 = 5;
/// `LP_WDT_WKEY_VALUE` of `hal/esp32c6/include/hal/lpwdt_ll.h`.
const WATCHDOG_KEY: u32 = 0x50D8_3AA1;
/// `LP_WDT_RTC_WDT_FEED`.
const WATCHDOG_FEED: u32 = 1 << 31;
/// `EFUSE_SPI_BOOT_CRYPT_CNT`: an odd number of ones when the flash is encrypted.
const FLASH_CRYPT_COUNT: u32 = 0b111 << 18;
/// `SOC_MMU_SENSITIVE`: the page is decrypted.
const MMU_SENSITIVE: u32 = 1 << 10;

impl ChainLoader for Esp32C6 {
    const MEMORY: &'static MemoryMap = &MemoryMap::ESP32C6;

    // The interrupt matrix, a line for each source (`interrupt_matrix_reg.h`), and the core's controller: which lines
    // are on, their kind, what is pending, their priorities, and the threshold (`plic_reg.h`, machine mode).
    const CONTROLLER: [Registers; 2] =
        [Registers { first_addr: 0x6001_0000, count: 77 }, Registers { first_addr: 0x2000_1000, count: 37 }];

    type Sha256 = sha::Sha256;

    fn woke_from_deep_sleep() -> bool {
        LP_CLKRST_RESET_CAUSE.read() & RESET_CAUSE == DEEP_SLEEP
    }

    fn feed_watchdog() {
        LP_WDT_WPROTECT.write(WATCHDOG_KEY);
        LP_WDT_FEED.write(WATCHDOG_FEED);
        LP_WDT_WPROTECT.write(0);
    }

    unsafe fn start(plan: &LoadPlan, found: &Found) -> ! {
        Self::feed_watchdog();
        let encrypted = (EFUSE_RD_REPEAT_DATA1.read() & FLASH_CRYPT_COUNT).count_ones() % 2 == 1;
        let entry_bits = if encrypted { MMU_SENSITIVE } else { 0 };
        let script = Script::new(plan, Self::MEMORY, &CACHE, entry_bits, found.control);
        // SAFETY: the script was made for this chip; the rest is the caller's promise.
        unsafe { stub::run(Self::MEMORY, &script, &Self::CONTROLLER, &found.controller) }
    }
}
