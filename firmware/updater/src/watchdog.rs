//! The RTC watchdog over the updater: a stuck processor is reset, and the reset counts as a crash.
//!
//! It resets the core alone, from the first line on: a reset of the system, which the bootloader and esp-hal choose, clears
//! the RTC domain, and the retained register with the count of such resets.
//!
//! What waits too long without being stuck is the engine's business: each of its actions has a time limit.

use embassy_executor::Spawner;
use embassy_time::Timer;
#[cfg(feature = "esp32c6")]
use esp_hal::peripherals::LP_WDT;
#[cfg(not(feature = "esp32c6"))]
use esp_hal::peripherals::LPWR as LP_WDT;
use esp_hal::peripherals::RTC_TIMER;
use esp_hal::rtc_cntl::{Rtc, Rwdt, RwdtStage, RwdtStageAction};
use esp_hal::time::Duration;

/// Longer than the longest stretch without a wait: verifying a full slot takes about a second a megabyte, and erasing
/// the 16 sectors of a chunk up to 6 s (GigaDevice GD25Q32C data sheet: 400 ms a sector at worst).
const TIMEOUT_MS: u64 = 30_000;
const FEED_MS: u64 = 5_000;

const _: () = assert!(2 * FEED_MS < TIMEOUT_MS);

/// What the bootloader has its watchdog do (ESP-IDF 5.5, `bootloader_support/src/bootloader_init.c`: stage 0 alone).
pub(crate) struct OfBootloader(RwdtStageAction);

/// Lets the bootloader's watchdog, which runs on until [`arm`], reset the core alone.
pub(crate) fn keep_register() -> OfBootloader {
    let found = match LP_WDT::regs().wdtconfig0().read().wdt_stg0().bits() {
        1 => RwdtStageAction::Interrupt,
        2 => RwdtStageAction::ResetCpu,
        3 => RwdtStageAction::ResetCore,
        4 => RwdtStageAction::ResetSystem,
        _ => RwdtStageAction::Off,
    };
    set_action(RwdtStageAction::ResetCore);
    OfBootloader(found)
}

impl OfBootloader {
    /// Makes it what it was: the application finds it so when the bootloader starts it.
    pub(crate) fn restore(self) {
        set_action(self.0);
    }
}

fn set_action(action: RwdtStageAction) {
    // SAFETY: the driver holds nothing, and nobody else uses the watchdog yet.
    Rtc::new(unsafe { RTC_TIMER::steal() }).rwdt.set_stage_action(RwdtStage::Stage0, action);
}

/// Arms the watchdog. From here on every part of the updater is under it; before, it is the bootloader's, and for the
/// time of `esp_hal::init()` nobody's.
pub(crate) fn arm(rtc_timer: RTC_TIMER<'_>) -> Rwdt {
    let mut watchdog = Rtc::new(rtc_timer).rwdt;
    watchdog.set_timeout(RwdtStage::Stage0, Duration::from_millis(TIMEOUT_MS));
    watchdog.enable();
    // After `enable`, which has it reset the system.
    watchdog.set_stage_action(RwdtStage::Stage0, RwdtStageAction::ResetCore);
    watchdog.feed();
    watchdog
}

/// Keeps the watchdog fed as long as tasks run.
pub(crate) fn keep_fed(spawner: Spawner, watchdog: Rwdt) {
    // The pool of one task is not empty at its first use; were it, the watchdog would end this start.
    if let Ok(task) = feed(watchdog) {
        spawner.spawn(task);
    }
}

#[embassy_executor::task]
async fn feed(mut watchdog: Rwdt) {
    loop {
        watchdog.feed();
        Timer::after_millis(FEED_MS).await;
    }
}
