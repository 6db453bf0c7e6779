//! ESP32-C3. Sources: ESP-IDF `soc/esp32c3/register/soc/` and `esp_rom/esp32c3/ld/esp32c3.rom.ld`.

use crate::found::{Found, Registers};
use crate::memory::MemoryMap;
use crate::plan::LoadPlan;
use crate::register::Register;
use crate::script::{Cache, Script};
use crate::{ChainLoader, sha, stub};

/// The chain-loader of the ESP32-C3.
#[derive(Debug)]
pub enum Esp32C3 {}

/// `EXTMEM_ICACHE_CTRL1_REG` with `EXTMEM_ICACHE_SHUT_IBUS` and `EXTMEM_ICACHE_SHUT_DBUS`.
const CACHE: Cache = Cache {
    disable_addr: 0x4000_051C,
    enable_addr: 0x4000_0520,
    invalidate_all_addr: 0x4000_04D8,
    bus_register_addr: 0x600C_4004,
    bus_shut_bits: 0b11,
};

// SAFETY: registers by `rtc_cntl_reg.h`; none of them is for DMA.
const RTC_CNTL_RESET_STATE: Register = unsafe { Register::at(0x6000_8038) };
// SAFETY: as above.
const RTC_CNTL_WDTFEED: Register = unsafe { Register::at(0x6000_80A4) };
// SAFETY: as above.
const RTC_CNTL_WDTWPROTECT: Register = unsafe { Register::at(0x6000_80A8) };

/// `RTC_CNTL_RESET_CAUSE_PROCPU`.
const RESET_CAUSE: u32 = 0x3F;
/// `RESET_REASON_CORE_DEEP_SLEEP` of `soc/reset_reasons.h`.
const DEEP_SLEEP: u32 = 5;
/// `RTC_CNTL_WDT_WKEY_VALUE` of `hal/esp32c3/include/hal/rwdt_ll.h`.
const WATCHDOG_KEY: u32 = 0x50D8_3AA1;
/// `RTC_CNTL_WDT_FEED`.
const WATCHDOG_FEED: u32 = 1 << 31;

impl ChainLoader for Esp32C3 {
    const MEMORY: &'static MemoryMap = &MemoryMap::ESP32C3;

    // The interrupt matrix but for its clock: a line for each source; which lines are on, their kind, what is pending,
    // their priorities, and the threshold (`interrupt_core0_reg.h`).
    const CONTROLLER: [Registers; 2] =
        [Registers { first_addr: 0x600C_2000, count: 62 }, Registers { first_addr: 0x600C_2104, count: 37 }];

    type Sha256 = sha::Sha256;

    fn woke_from_deep_sleep() -> bool {
        RTC_CNTL_RESET_STATE.read() & RESET_CAUSE == DEEP_SLEEP
    }

    fn feed_watchdog() {
        RTC_CNTL_WDTWPROTECT.write(WATCHDOG_KEY);
        RTC_CNTL_WDTFEED.set(WATCHDOG_FEED);
        RTC_CNTL_WDTWPROTECT.write(0);
    }

    unsafe fn start(plan: &LoadPlan, found: &Found) -> ! {
        Self::feed_watchdog();
        // Encrypted flash needs no bit in the entries here.
        let script = Script::new(plan, Self::MEMORY, &CACHE, 0, found.control);
        // SAFETY: the script was made for this chip; the rest is the caller's promise.
        unsafe { stub::run(Self::MEMORY, &script, &Self::CONTROLLER, &found.controller) }
    }
}
