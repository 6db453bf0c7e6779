//! `--kill N`: the power goes at N random moments of enrollments and installs, and the promise must hold.
//!
//! The promise: at the next start the updater runs; the device key that was there is still there; the target is
//! reached without anybody's help.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::flash::FlashFile;
use super::scenario::{INSTALL, Outcome, PANIC, START, Stage};

/// Name of the campaign among the scenarios.
pub(super) const NAME: &str = "kill";

/// Product whose devices are killed while they enroll and install their first release.
const FIRST: &str = "kill-first";

/// Product whose device is killed while it updates.
const UPDATE: &str = "kill-update";

/// What the updater prints first: its name and version.
const GREETING: &str = "pitstop 0.";

/// What is going on when the power goes.
enum Phase {
    /// A new device: key, certificate, first install.
    FirstStart,
    /// A device with 1.0.0 on its way to 1.1.0; the flash with which it begins.
    Update { before: FlashFile },
}

impl Phase {
    /// How the application begins its line when the phase is over.
    fn target(&self) -> &'static str {
        match self {
            Self::FirstStart => "hello 1.0.0 ",
            Self::Update { .. } => "hello 1.1.0 ",
        }
    }

    fn about(&self) -> &'static str {
        match self {
            Self::FirstStart => "first start",
            Self::Update { .. } => "update",
        }
    }

    /// A flash file of this name to begin the phase with. A first start gets a new device each time, because an
    /// enrollment token is good for one key.
    fn flash(&self, stage: &Stage<'_>, name: &str) -> anyhow::Result<FlashFile> {
        match self {
            Self::FirstStart => stage.world.flash_of(FIRST, name),
            Self::Update { before } => before.copy(name),
        }
    }

    /// Lets the phase come to its end; returns the time from power on to the application's first line.
    fn measure(&self, stage: &Stage<'_>, flash: &FlashFile) -> anyhow::Result<Duration> {
        let start = Instant::now();
        stage.power_on(flash)?.expect(self.target(), &[PANIC], INSTALL)?;
        Ok(start.elapsed())
    }
}

/// Runs the campaign: `count` kills, every other one in an update.
///
/// The same seed gives the same fractions of the phases' times; what the device does at that moment depends on the
/// speed of this computer as well.
pub(super) fn run(stage: &mut Stage<'_>, count: u32, seed: u64) -> anyhow::Result<Outcome> {
    println!("  seed {seed}");
    stage.log.line(&format!("--- seed {seed}"));
    let mut random = StdRng::seed_from_u64(seed);
    let phases = [first_start(stage)?, update(stage)?];
    for (index, (phase, lasts)) in (1..=count).zip(phases.iter().cycle()) {
        let moment = lasts.mul_f64(random.gen_range(0.0..1.0));
        let what = format!("kill {index} of {count}: {}, after {:.2} s", phase.about(), moment.as_secs_f64());
        stage.log.line(&format!("--- {what}"));
        let flash = phase.flash(stage, &format!("kill-{index}"))?;
        let (last, recovered) =
            kill(stage, phase, &flash, moment).with_context(|| format!("{what} (seed {seed})"))?;
        println!("  {what} ({last}): target reached in {:.2} s", recovered.as_secs_f64());
    }
    Ok(Outcome::Passed)
}

/// First starts, and how long one takes when nobody disturbs it.
fn first_start(stage: &Stage<'_>) -> anyhow::Result<(Phase, Duration)> {
    stage.world.product(FIRST, "4mb", "hello-1.0.0")?;
    let phase = Phase::FirstStart;
    let lasts = phase.measure(stage, &phase.flash(stage, "kill-first-measured")?)?;
    Ok((phase, lasts))
}

/// Updates, and how long one takes when nobody disturbs it.
fn update(stage: &Stage<'_>) -> anyhow::Result<(Phase, Duration)> {
    stage.world.product(UPDATE, "4mb", "hello-1.0.0")?;
    let before = stage.world.flash(UPDATE)?;
    Phase::FirstStart.measure(stage, &before)?;
    stage.world.publish(UPDATE, "hello-1.1.0")?;
    let phase = Phase::Update { before };
    let lasts = phase.measure(stage, &phase.flash(stage, "kill-update-measured")?)?;
    Ok((phase, lasts))
}

/// Cuts the power at one moment of a phase, and checks the promise; returns what the updater said last, and the time
/// from power on to the target.
fn kill(
    stage: &Stage<'_>,
    phase: &Phase,
    flash: &FlashFile,
    moment: Duration,
) -> anyhow::Result<(String, Duration)> {
    let machine = stage.power_on(flash)?;
    thread::sleep(moment);
    let printed = machine.power_off();
    let last = printed.into_iter().rfind(|line| line.starts_with("pitstop "));
    let key = flash.device_key()?;

    let start = Instant::now();
    let mut machine = stage.power_on(flash)?;
    machine.expect(GREETING, &[], START)?;
    machine.expect(phase.target(), &[PANIC], INSTALL)?;
    let recovered = start.elapsed();
    let key_after = flash.device_key()?;
    ensure!(key_after.is_some(), "the device runs its target and has no key");
    ensure!(key.is_none() || key == key_after, "the device has another key than before the power went");
    Ok((last.unwrap_or_else(|| "before the updater".to_owned()), recovered))
}
