//! Campaigns: a device goes through its life again and again, each time with another fault, and the promise of
//! docs/fault-model.md ([`invariants`]) must hold.
//!
//! A campaign is deterministic: a case is a line of text, and that line runs it again
//! (`cargo xtask campaign --replay CASE`). Devices run the same engine and shell as a chip, with real TLS, against a
//! [`fake_server`] in the process; tokio's clock is paused, so that waiting costs nothing.

pub mod app;
pub mod fake_server;
pub mod invariants;
pub mod lifecycle;
pub mod liveness;
pub mod network;
mod plan;
pub mod power;
pub mod rot;
mod run;
pub mod stolen_server;
pub mod world;

use std::fmt;
use std::future::Future;
use std::sync::PoisonError;

use anyhow::Context as _;

use crate::End;
use crate::flash::Trace;
use invariants::{Broken, Recovered};

pub use plan::{Batch, Part, Size, plan, replay};
pub use run::{Tally, run};

/// How a case ended.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// The promise held; the device was at its target after this many starts.
    Target {
        /// Starts after the fault.
        starts: usize,
    },
    /// The fault was one after which no more than an application is promised, and one ran; or one after which nothing
    /// is promised, and the start ended.
    Application,
    /// The promise does not hold.
    Broken(Broken),
}

/// Devices on which cases are run.
pub trait Stage: Send + Sync {
    /// One fault; its text names it.
    type Case: fmt::Display + Send + Sync;

    /// Runs one case and tells all that happened.
    ///
    /// # Errors
    /// What has nothing to do with the device.
    fn run(&self, case: &Self::Case) -> anyhow::Result<(Outcome, Vec<String>)>;
}

/// Runs a future on a runtime of its own, with tokio's clock paused.
///
/// # Errors
/// No runtime could be made; else what the future says.
pub fn in_paused_time<T>(future: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_time().start_paused(true).build().context("no runtime could be made")?;
    runtime.block_on(future)
}

fn outcome(recovered: Result<Recovered, Broken>) -> Outcome {
    match recovered {
        Ok(Recovered { starts }) => Outcome::Target { starts },
        Err(broken) => Outcome::Broken(broken),
    }
}

fn note(trace: &Trace, end: &End) {
    let line = match end {
        End::Running(app) => format!("runs {} in {} ({:?})", app.version(), app.slot, app.reason),
        End::Waiting { .. } | End::Dead(_) | End::PowerLost => format!("{end:?}"),
    };
    write_line(trace, format!("end: {line}"));
}

fn write_line(trace: &Trace, line: String) {
    trace.lock().unwrap_or_else(PoisonError::into_inner).push(line);
}

fn lines(trace: &Trace) -> Vec<String> {
    std::mem::take(&mut *trace.lock().unwrap_or_else(PoisonError::into_inner))
}
