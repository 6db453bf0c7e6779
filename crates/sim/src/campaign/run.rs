//! Running many cases.

use std::collections::BTreeMap;
use std::num::NonZero;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use super::invariants::Broken;
use super::{Batch, Outcome};

/// How the cases of a batch ended.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Cases that were run.
    pub cases: usize,
    /// Cases by the number of starts to the target.
    pub starts: BTreeMap<usize, usize>,
    /// Cases after which no more than an application is promised.
    pub application: usize,
    /// Cases in which the promise does not hold.
    pub broken: Vec<(String, Broken)>,
}

/// Runs a batch on all processors. `progress` is called after each case; when it says no, no further case is begun.
///
/// # Errors
/// The first thing that went wrong and has nothing to do with the device.
pub fn run(batch: &Batch, progress: impl Fn() -> bool + Sync) -> anyhow::Result<Tally> {
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get);
    let next = AtomicUsize::new(0);
    let done: Mutex<Vec<(usize, anyhow::Result<Outcome>)>> = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(job) = batch.jobs.get(index) else { break };
                    let outcome = job.run().map(|(outcome, _)| outcome);
                    done.lock().unwrap_or_else(PoisonError::into_inner).push((index, outcome));
                    if !progress() {
                        break;
                    }
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_by_key(|(index, _)| *index);
    let mut tally = Tally { cases: done.len(), ..Tally::default() };
    for (index, outcome) in done {
        match outcome? {
            Outcome::Target { starts } => *tally.starts.entry(starts).or_default() += 1,
            Outcome::Application => tally.application += 1,
            Outcome::Broken(broken) => {
                let name = batch.jobs.get(index).map(|job| job.name()).unwrap_or_default();
                tally.broken.push((name, broken));
            }
        }
    }
    Ok(tally)
}
