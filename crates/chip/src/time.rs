//! The chip's time.
//!
//! It is counted in ticks of 160 MHz, the fastest that the processor runs: an instruction takes one tick at 160 MHz, two at
//! 80, four at 40. All other clocks are fractions of it, so that a run is the same every time.

use std::time::Duration;

/// Ticks a second.
pub(crate) const TICKS_PER_SECOND: u64 = 160_000_000;
/// Ticks of one period of the system timer's clock, 16 MHz.
pub(crate) const TICKS_PER_SYSTIMER: u64 = 10;
/// Ticks of one period of the crystal, 40 MHz.
pub(crate) const TICKS_PER_XTAL: u64 = 4;
/// Ticks of one period of the peripheral bus's clock, 80 MHz.
pub(crate) const TICKS_PER_APB: u64 = 2;
/// The slow RC oscillator, about 136 kHz (ESP32-C3 TRM v1.1, table 6.2-3).
pub(crate) const SLOW_CLOCK_HZ: u64 = 136_000;

/// Ticks of a duration, of a part of one a whole one: whoever waits for so long has waited long enough.
pub(crate) fn ticks(duration: Duration) -> u64 {
    let ticks = (duration.as_nanos() * u128::from(TICKS_PER_SECOND)).div_ceil(1_000_000_000);
    u64::try_from(ticks).unwrap_or(u64::MAX)
}

/// The duration of so many ticks.
pub(crate) fn duration(ticks: u64) -> Duration {
    let nanos = u128::from(ticks) * 1_000_000_000 / u128::from(TICKS_PER_SECOND);
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// Periods of the slow clock in so many ticks.
pub(crate) fn slow_clock(ticks: u64) -> u64 {
    (u128::from(ticks) * u128::from(SLOW_CLOCK_HZ) / u128::from(TICKS_PER_SECOND)) as u64
}

/// Ticks of so many periods of the slow clock.
pub(crate) fn slow_clock_ticks(periods: u64) -> u64 {
    let ticks = u128::from(periods) * u128::from(TICKS_PER_SECOND) / u128::from(SLOW_CLOCK_HZ);
    u64::try_from(ticks).unwrap_or(u64::MAX)
}
