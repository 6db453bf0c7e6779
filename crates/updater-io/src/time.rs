//! The clock against which certificates are judged.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU32, Ordering};
use core::time::Duration;

use rustls::pki_types::UnixTime;
use rustls::time_provider::TimeProvider;

/// A clock without a battery: the time floor plus the uptime since the floor was learned.
///
/// The floor is the latest moment that the device knows to be past: the build time, or the last authenticated
/// server time. The clock therefore runs behind the true time and never ahead of it, unless the server lied; and
/// it never goes back. Clones share one clock: the shell keeps one, the TLS configuration another.
///
/// Times are seconds since 1970-01-01 UTC in 32 bits (a riscv32 core has no 64-bit atomics), which end in
/// February 2106. Only one task, the shell, may call [`raise_floor`](Self::raise_floor) and
/// [`set_uptime_ms`](Self::set_uptime_ms); any number may read.
#[derive(Clone, Debug)]
pub struct FloorClock(Arc<Cell>);

#[derive(Debug)]
struct Cell {
    /// The floor minus the uptime at the moment when it was learned.
    start_s: AtomicU32,
    uptime_s: AtomicU32,
}

impl FloorClock {
    /// A clock at `floor_s` seconds since 1970-01-01 UTC and uptime zero.
    #[must_use]
    pub fn new(floor_s: u32) -> Self {
        Self(Arc::new(Cell { start_s: AtomicU32::new(floor_s), uptime_s: AtomicU32::new(0) }))
    }

    /// Tells the clock how long the updater has been running. An earlier uptime than the last one is ignored.
    pub fn set_uptime_ms(&self, uptime_ms: u64) {
        let uptime_s = u32::try_from(uptime_ms / 1000).unwrap_or(u32::MAX);
        // There is one writer, so a load and a store do, and chips without compare-and-swap need no more.
        if uptime_s > self.0.uptime_s.load(Ordering::Acquire) {
            self.0.uptime_s.store(uptime_s, Ordering::Release);
        }
    }

    /// Tells the clock that `floor_s` is past. A floor before [`now_s`](Self::now_s) changes nothing.
    pub fn raise_floor(&self, floor_s: u32) {
        if floor_s > self.now_s() {
            let start_s = floor_s.saturating_sub(self.0.uptime_s.load(Ordering::Acquire));
            self.0.start_s.store(start_s, Ordering::Release);
        }
    }

    /// Seconds since 1970-01-01 UTC; stays at the largest value after February 2106.
    #[must_use]
    pub fn now_s(&self) -> u32 {
        self.0.start_s.load(Ordering::Acquire).saturating_add(self.0.uptime_s.load(Ordering::Acquire))
    }
}

impl TimeProvider for FloorClock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(self.now_s().into())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_the_floor_plus_the_uptime_since_and_never_goes_back() {
        let clock = FloorClock::new(1000);
        let shared = clock.clone();
        clock.set_uptime_ms(9_999);
        assert_eq!(shared.now_s(), 1009);
        clock.raise_floor(2000);
        assert_eq!(shared.now_s(), 2000);
        clock.set_uptime_ms(12_000);
        assert_eq!(shared.now_s(), 2003);
        clock.raise_floor(1500);
        clock.set_uptime_ms(3_000);
        assert_eq!(shared.now_s(), 2003);
        assert_eq!(shared.current_time(), Some(UnixTime::since_unix_epoch(Duration::from_secs(2003))));
    }

    #[test]
    fn the_end_of_time_does_not_wrap() {
        let clock = FloorClock::new(u32::MAX - 1);
        clock.set_uptime_ms(u64::MAX);
        assert_eq!(clock.now_s(), u32::MAX);
    }
}
