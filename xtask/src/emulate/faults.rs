//! The updater itself breaks, at every start anew: a bootable application is started within four of them all the same
//! (`docs/recovery.md`).

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use emulator::Machine;

use super::stage::{HANDS_OVER, Outcome, PANIC, ROM, START, Stage};

/// Starts with the same fault after which the application must run.
const STARTS: u32 = 4;

/// What the application prints first.
const HELLO: &str = "hello 1.0.0 ";

/// The updater's watchdog (`firmware/updater/src/watchdog.rs`), on a busy machine.
const WATCHDOG: Duration = Duration::from_secs(60);

/// What the updater says when a pit stop begins to look at the slots and at the vault.
const SURVEYS: &str = "looks at the slots";

/// The processor stands still in the network phase, at every start: the watchdog resets it, and the deaths are counted.
pub(super) fn radio_hangs(stage: &mut Stage<'_>) -> anyhow::Result<Outcome> {
    let (_flash, mut machine) = stage.device("4mb", "hello-1.0.0", HELLO)?;
    machine.reset()?;
    for start in 1..=STARTS {
        match next(&mut machine, &["pitstop joins the network", HELLO], START)? {
            0 => machine.hang()?,
            _ => {
                ensure!(start > 1, "the application was started without a pit stop");
                return Ok(Outcome::Passed);
            }
        }
        if machine.expect(ROM, &[], WATCHDOG).is_err() {
            ensure!(start == 1, "the watchdog resets no more at start {start}");
            return stage.lacks("a reset by the RTC watchdog");
        }
    }
    machine
        .expect(HELLO, &[], START)
        .context("it hangs at every start, and the application is not started")?;
    Ok(Outcome::Passed)
}

/// The updater crashes as soon as it looks at the slots, at every start.
pub(super) fn survey_crashes(stage: &mut Stage<'_>) -> anyhow::Result<Outcome> {
    let (_flash, mut machine) = stage.device("4mb", "hello-1.0.0", HELLO)?;
    machine.reset()?;
    for start in 1..=STARTS {
        if next(&mut machine, &[SURVEYS, HELLO], START)? == 1 {
            ensure!(start > 1, "the application was started without a pit stop");
            return Ok(Outcome::Passed);
        }
        machine.crash()?;
        machine.expect(PANIC, &[HELLO], START)?;
    }
    bail!("it crashes at every start, and the application is not started")
}

/// Registers keep what an application left in them, over a reset of the processor alone.
pub(super) fn registers_kept(stage: &mut Stage<'_>) -> anyhow::Result<Outcome> {
    let (_flash, mut machine) = stage.device("4mb", "rubbish", "rubbish 1.0.0 ")?;
    for _ in 0..3 {
        machine.expect(ROM, &[PANIC], START)?;
        machine.expect(HANDS_OVER, &[PANIC], START)?;
        machine.expect("rubbish 1.0.0 ", &[PANIC], START)?;
    }
    Ok(Outcome::Passed)
}

/// Waits for the first line that contains one of `wanted`; says which.
fn next(machine: &mut Machine, wanted: &[&str], timeout: Duration) -> anyhow::Result<usize> {
    let deadline = Instant::now() + timeout;
    loop {
        let line = machine.line(deadline, &wanted.join(" or "))?;
        if let Some(index) = wanted.iter().position(|text| line.contains(text)) {
            return Ok(index);
        }
    }
}
