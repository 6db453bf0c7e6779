//! What is counted while devices run, and how it reads.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::habits::Fate;
use super::pit_stop::{Done, PitStopError};

/// Latencies are kept from 1 µs to 10 min with three digits: 250 KB, however many there are.
const LONGEST_US: u64 = 600_000_000;
const DIGITS: u8 = 3;

/// As many different errors are kept apart.
const KEPT_ERRORS: usize = 20;

/// Counters of one run.
pub(crate) struct Tally {
    /// From the connect (or from the moment when the device should have connected) to the decision.
    pub(crate) latency_us: Histogram<u64>,
    /// The same, of resumed handshakes only.
    pub(crate) resumed_us: Histogram<u64>,
    /// Pit stops that went well.
    pub(crate) done: u64,
    /// Pit stops that did not.
    pub(crate) failed: u64,
    /// Bytes of artifacts.
    pub(crate) downloaded_bytes: u64,
    /// What became of releases.
    pub(crate) fates: Fates,
    /// How often each error came.
    pub(crate) errors: BTreeMap<String, u64>,
}

/// What became of releases.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(crate) struct Fates {
    pub(crate) healthy: u64,
    pub(crate) failed: u64,
    pub(crate) crashing: u64,
    pub(crate) silent: u64,
}

/// Latencies in milliseconds.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Latency {
    pub(crate) count: u64,
    pub(crate) min_ms: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p90_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) p999_ms: f64,
    pub(crate) max_ms: f64,
    /// How many took at most so long: each bound is twice the one before.
    pub(crate) histogram: Vec<Bar>,
}

/// A bar of a histogram.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Bar {
    pub(crate) up_to_ms: f64,
    pub(crate) count: u64,
}

impl Tally {
    /// Nothing yet.
    ///
    /// # Errors
    /// When the bounds are no bounds of a histogram, which they are.
    pub(crate) fn new() -> Result<Self, hdrhistogram::CreationError> {
        Ok(Self {
            latency_us: Histogram::new_with_bounds(1, LONGEST_US, DIGITS)?,
            resumed_us: Histogram::new_with_bounds(1, LONGEST_US, DIGITS)?,
            done: 0,
            failed: 0,
            downloaded_bytes: 0,
            fates: Fates::default(),
            errors: BTreeMap::new(),
        })
    }

    /// Counts one pit stop; `late` is how long it had to wait for its turn.
    pub(crate) fn add(&mut self, result: &Result<Done, PitStopError>, late: Duration) {
        match result {
            Ok(done) => {
                self.done += 1;
                let latency_us = u64::try_from((done.latency + late).as_micros()).unwrap_or(LONGEST_US);
                self.latency_us.saturating_record(latency_us);
                if done.is_resumed {
                    self.resumed_us.saturating_record(latency_us);
                }
                self.downloaded_bytes += done.downloaded_bytes;
                match done.fate {
                    Some(Fate::Healthy) => self.fates.healthy += 1,
                    Some(Fate::Fails) => self.fates.failed += 1,
                    Some(Fate::Crashes) => self.fates.crashing += 1,
                    Some(Fate::Silent) => self.fates.silent += 1,
                    None => {}
                }
            }
            Err(error) => {
                self.failed += 1;
                let text = error.to_string();
                if self.errors.len() < KEPT_ERRORS || self.errors.contains_key(&text) {
                    *self.errors.entry(text).or_default() += 1;
                }
            }
        }
    }
}

impl Latency {
    /// Of a histogram in microseconds.
    pub(crate) fn of(latency_us: &Histogram<u64>) -> Self {
        let ms = |us: u64| us as f64 / 1000.0;
        let at = |quantile| ms(latency_us.value_at_quantile(quantile));
        let bars = latency_us.iter_log(500, 2.0).map(|step| Bar {
            up_to_ms: ms(step.value_iterated_to() + 1),
            count: step.count_since_last_iteration(),
        });
        let bars: Vec<_> = if latency_us.is_empty() { Vec::new() } else { bars.collect() };
        let empty = bars.iter().take_while(|bar| bar.count == 0).count();
        Self {
            count: latency_us.len(),
            min_ms: ms(latency_us.min()),
            p50_ms: at(0.5),
            p90_ms: at(0.9),
            p99_ms: at(0.99),
            p999_ms: at(0.999),
            max_ms: ms(latency_us.max()),
            histogram: bars.into_iter().skip(empty).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn done(latency_ms: u64) -> Result<Done, PitStopError> {
        let latency = Duration::from_millis(latency_ms);
        Ok(Done { latency, is_resumed: false, downloaded_bytes: 10, fate: Some(Fate::Silent) })
    }

    #[test]
    fn waiting_for_a_turn_is_part_of_the_latency() {
        let mut tally = Tally::new().unwrap();
        for _ in 0..99 {
            tally.add(&done(3), Duration::ZERO);
        }
        tally.add(&done(3), Duration::from_secs(2));
        tally.add(&Err(PitStopError::Timeout), Duration::ZERO);
        let latency = Latency::of(&tally.latency_us);
        assert_eq!((tally.done, tally.failed, tally.downloaded_bytes), (100, 1, 1000));
        assert_eq!((tally.fates.silent, tally.errors.len()), (100, 1));
        assert!((latency.p50_ms - 3.0).abs() < 0.01 && latency.max_ms > 2000.0, "{latency:?}");
        let bars: Vec<_> = latency.histogram.iter().map(|bar| (bar.up_to_ms, bar.count)).collect();
        // 4, 8, 16 ... 2048 ms.
        assert_eq!((bars[0], bars.len()), ((4.0, 99), 10));
        assert_eq!(bars.last().unwrap().1, 1);
    }

    #[test]
    fn nothing_is_nothing() {
        let latency = Latency::of(&Tally::new().unwrap().latency_us);
        assert_eq!((latency.count, latency.histogram.len()), (0, 0));
    }
}
