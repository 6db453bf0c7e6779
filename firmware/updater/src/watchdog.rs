//! The RTC watchdog over the updater: a stuck processor is reset, and the reset counts as a crash.
//!
//! What waits too long without being stuck is the engine's business: each of its actions has a time limit.

use embassy_executor::Spawner;
use embassy_time::Timer;
use esp_hal::peripherals::RTC_TIMER;
use esp_hal::rtc_cntl::{Rtc, Rwdt, RwdtStage, RwdtStageAction};
use esp_hal::time::Duration;

/// Longer than the longest stretch without a wait: verifying a full slot takes about a second a megabyte, and erasing
/// the 16 sectors of a chunk up to 6 s (GigaDevice GD25Q32C data sheet: 400 ms a sector at worst).
const TIMEOUT_MS: u64 = 30_000;
const FEED_MS: u64 = 5_000;

const _: () = assert!(2 * FEED_MS < TIMEOUT_MS);

/// Arms the watchdog. From here on every part of the updater is under it; before, it is the bootloader's, and for the
/// time of `esp_hal::init()` nobody's.
pub(crate) fn arm(rtc_timer: RTC_TIMER<'_>) -> Rwdt {
    let mut watchdog = Rtc::new(rtc_timer).rwdt;
    watchdog.set_timeout(RwdtStage::Stage0, Duration::from_millis(TIMEOUT_MS));
    watchdog.enable();
    // esp-hal's choice, `ResetSystem`, clears the RTC domain, and the retained register with the count of such resets.
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
