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
use super::stage::{GREETING, INSTALL, Outcome, PANIC, START, Stage};

/// Name of the campaign among the scenarios.
pub(super) const NAME: &str = "kill";

/// Product whose devices are killed while they enroll and install their first release.
const FIRST: &str = "kill-first";

/// What is going on when the power goes.
#[derive(Clone, Copy)]
enum Phase {
    /// A new device: key, certificate, first install.
    FirstStart,
    /// A device with 1.0.0 on its way to 1.1.0.
    Update,
}

impl Phase {
    /// How the application begins its line when the phase is over.
    fn target(self) -> &'static str {
        match self {
            Self::FirstStart => "hello 1.0.0 ",
            Self::Update => "hello 1.1.0 ",
        }
    }

    fn about(self) -> &'static str {
        match self {
            Self::FirstStart => "first start",
            Self::Update => "update",
        }
    }

    /// A device of this name, about to begin the phase. A new one each time: an enrollment token is good for one key, and
    /// a flash that goes back to what it was before an update is to the server a device that has rejected the release.
    fn device(self, stage: &Stage<'_>, name: &str) -> anyhow::Result<FlashFile> {
        match self {
            Self::FirstStart => stage.world.flash_of(FIRST, name),
            Self::Update => {
                // Its own product as well: others must not find 1.1.0 at their first start.
                stage.world.product(name, "4mb", "hello-1.0.0")?;
                let flash = stage.world.flash(name)?;
                Self::FirstStart.complete(stage, &flash)?;
                stage.world.publish(name, "hello-1.1.0")?;
                Ok(flash)
            }
        }
    }

    /// Lets the phase come to its end; returns the time from power on to the application's first line.
    fn complete(self, stage: &Stage<'_>, flash: &FlashFile) -> anyhow::Result<Duration> {
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
    stage.world.product(FIRST, "4mb", "hello-1.0.0")?;
    let mut random = StdRng::seed_from_u64(seed);
    let mut phases = Vec::new();
    for (phase, name) in [(Phase::FirstStart, "measured-first"), (Phase::Update, "measured-update")] {
        let lasts = phase.complete(stage, &phase.device(stage, name)?)?;
        phases.push((phase, lasts));
    }
    for (index, (phase, lasts)) in (1..=count).zip(phases.iter().cycle()) {
        let moment = lasts.mul_f64(random.gen_range(0.0..1.0));
        let what = format!("kill {index} of {count}: {}, after {:.2} s", phase.about(), moment.as_secs_f64());
        let flash = phase.device(stage, &format!("kill-{index}"))?;
        stage.log.line(&format!("--- {what}"));
        let (last, recovered) =
            kill(stage, *phase, &flash, moment).with_context(|| format!("{what} (seed {seed})"))?;
        println!("  {what} ({last}): target reached in {:.2} s", recovered.as_secs_f64());
    }
    Ok(Outcome::Passed)
}

/// Cuts the power at one moment of a phase, and checks the promise; returns what the updater said last, and the time
/// from power on to the target.
fn kill(
    stage: &Stage<'_>,
    phase: Phase,
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
