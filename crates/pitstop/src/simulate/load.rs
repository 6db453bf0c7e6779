//! Which device makes its pit stop when.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use rand::Rng as _;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use super::device::LightDevice;
use super::pit_stop::{Done, Errand, PitStopError, Target, pit_stop};
use super::tally::Tally;

/// A device of a herd that was refused tries again after this long, and up to as long again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// How often the one who watches is told.
const WATCH_INTERVAL: Duration = Duration::from_millis(200);

/// A run.
#[derive(Debug, Clone)]
pub(crate) struct Load {
    pub(crate) target: Target,
    pub(crate) errand: Errand,
    pub(crate) pace: Pace,
    /// The run starts no pit stop after this.
    pub(crate) time: Duration,
    /// The run starts no more pit stops than this.
    pub(crate) count: u64,
    /// Pit stops at the same time.
    pub(crate) connections: usize,
}

/// When the next pit stop begins.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Pace {
    /// As soon as a connection is free; devices come round again.
    Max,
    /// So many a second, whether the server keeps up or not; devices come round again.
    Rate(f64),
    /// All devices at once, each until it got its decision.
    Herd,
}

/// What is left after a run.
pub(crate) struct Ended {
    /// The devices, in no order.
    pub(crate) devices: Vec<LightDevice>,
    /// From the first connect to the last answer.
    pub(crate) elapsed: Duration,
    /// Devices of a herd that did not get their decision.
    pub(crate) lost: u64,
}

/// A device that has made a pit stop, or tried to.
struct Back {
    device: LightDevice,
    result: Result<Done, PitStopError>,
    /// From the moment when it should have connected to the moment when it did.
    late: Duration,
}

impl Load {
    /// Runs until time, count, devices or patience (`stop`) are at an end, and lets open pit stops end. `watch` sees
    /// the tally now and then.
    pub(crate) async fn run(
        self,
        devices: Vec<LightDevice>,
        tally: &mut Tally,
        stop: impl Future<Output = ()>,
        mut watch: impl FnMut(&Tally, Duration),
    ) -> Ended {
        let load = Arc::new(self);
        let begin = Instant::now();
        let mut stop = pin!(stop);
        let mut watched = begin;
        let mut ready = VecDeque::from(devices);
        let mut resting = Vec::new();
        let mut running = JoinSet::new();
        let (mut started, mut open) = (0, true);
        loop {
            open = open && started < load.count && begin.elapsed() < load.time;
            while open && running.len() < load.connections && load.due(begin, started) <= Instant::now() {
                let Some(device) = ready.pop_front() else { break };
                let due = load.due(begin, started).max(begin);
                running.spawn(load.clone().send(device, due, Duration::ZERO));
                started += 1;
                open = started < load.count;
            }
            let may_start = open && running.len() < load.connections && !ready.is_empty();
            if running.is_empty() && !may_start {
                break;
            }
            tokio::select! {
                Some(back) = running.join_next() => {
                    // A pit stop does not panic; one that did would be missing at the end.
                    let Ok(back) = back else { continue };
                    tally.add(&back.result, back.late);
                    match (load.pace, &back.result) {
                        (Pace::Herd, Err(error)) if open || begin.elapsed() < load.time => {
                            let wait = error.retry_after().unwrap_or(RETRY_AFTER);
                            let wait = wait + RETRY_AFTER.mul_f64(rand::thread_rng().r#gen::<f64>());
                            running.spawn(load.clone().send(back.device, begin, wait));
                        }
                        (Pace::Herd, Ok(_)) => resting.push(back.device),
                        (Pace::Herd | Pace::Max | Pace::Rate(_), _) if back.device.memory.is_silent => {
                            resting.push(back.device);
                        }
                        (Pace::Herd | Pace::Max | Pace::Rate(_), _) => ready.push_back(back.device),
                    }
                }
                () = sleep_until(load.due(begin, started)), if may_start => {}
                () = stop.as_mut(), if open => open = false,
            }
            if watched.elapsed() >= WATCH_INTERVAL {
                watched = Instant::now();
                watch(tally, begin.elapsed());
            }
        }
        let lost = match load.pace {
            Pace::Herd => ready.len() as u64,
            Pace::Max | Pace::Rate(_) => 0,
        };
        resting.extend(ready);
        Ended { devices: resting, elapsed: begin.elapsed(), lost }
    }

    /// When pit stop number `index` should begin.
    fn due(&self, begin: Instant, index: u64) -> Instant {
        match self.pace {
            Pace::Max | Pace::Herd => begin,
            Pace::Rate(rate) => begin + Duration::from_secs_f64(index as f64 / rate),
        }
    }

    async fn send(self: Arc<Self>, mut device: LightDevice, due: Instant, wait: Duration) -> Back {
        sleep(wait).await;
        let late = match self.pace {
            Pace::Max => Duration::ZERO,
            Pace::Rate(_) | Pace::Herd => due.elapsed(),
        };
        let result = pit_stop(&mut device, &self.target, &self.errand).await;
        Back { device, result, late }
    }
}
