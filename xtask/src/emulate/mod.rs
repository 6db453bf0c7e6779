//! `cargo xtask emulate`: updater, server and applications together, on an emulated ESP32-C3.
//!
//! Everything is real but the chip: the updater's image, the applications' images, and a `pitstop serve` on loopback. The
//! chip is the crate `chip`, or with `--on qemu` Espressif's QEMU, a second opinion; without it that says what to install,
//! prints SKIPPED, and succeeds. Console logs stay in `target/emulate/`.

mod compare;
mod entry_state;
mod exchange;
mod faults;
mod flash;
mod kill;
mod scenario;
mod stage;
mod tls;
mod world;

use std::fs;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};
use emulator::{Emulator, HOW_TO_INSTALL, Log, Qemu, Symbols};

use crate::{default_firmware_dir, firmware, toolchain, workspace};
use scenario::{SCENARIOS, Scenario};
use stage::{Outcome, Stage};
use world::World;

/// Images that the scenarios use.
const IMAGES: [&str; 10] = [
    "updater-esp32c3-qemu",
    "hello-1.0.0",
    "hello-1.1.0",
    "panicky",
    "hang",
    "sleeper",
    "nvs-eraser",
    "rubbish",
    "entry-state",
    "ticker",
];

#[derive(clap::Args, Default)]
pub(crate) struct Arguments {
    /// Run only this scenario; may be given more than once
    #[arg(long, value_name = "SCENARIO", value_parser = names())]
    only: Vec<String>,
    /// What the chip is
    #[arg(long, value_name = "WHAT", value_enum, default_value_t)]
    on: On,
    /// List the scenarios and run none
    #[arg(long)]
    list: bool,
    /// Cut the power at N random moments of enrollments and installs, instead of the scenarios
    #[arg(long, value_name = "N", conflicts_with = "only")]
    kill: Option<u32>,
    /// Run a first start, a start with nothing new and an update on the crate chip and on QEMU, and compare every event
    #[arg(long, conflicts_with_all = ["only", "kill", "on"])]
    compare: bool,
    /// Seed of those moments [default: chosen and printed]
    #[arg(long, value_name = "SEED", requires = "kill")]
    seed: Option<u64>,
}

/// What the chip is.
#[derive(Clone, Copy, Default, clap::ValueEnum)]
enum On {
    /// The crate chip
    #[default]
    Chip,
    /// Espressif's QEMU, from PATH or PITSTOP_QEMU
    Qemu,
}

/// How the command ended when nothing failed.
pub(crate) enum Ending {
    /// All scenarios passed, but those that the emulator cannot do.
    Passed,
    /// There is no emulator; what to install.
    Skipped(String),
}

/// Runs scenarios, the kill campaign, or lists them.
///
/// Errors: [`toolchain::Missing`] when nothing here can build for the chip; a scenario that failed, after all of them
/// ran.
pub(crate) fn run(root: &Path, arguments: &Arguments) -> anyhow::Result<Ending> {
    if arguments.list {
        for scenario in SCENARIOS {
            println!("{:<16} {}", scenario.name, scenario.about);
        }
        return Ok(Ending::Passed);
    }
    let on = if arguments.compare { On::Qemu } else { arguments.on };
    let emulator = match on {
        On::Chip => Emulator::Chip(Arc::default()),
        On::Qemu => match Qemu::find() {
            Ok(qemu) => Emulator::Qemu(qemu),
            // Who asks for a comparison is not told that there is none by a success.
            Err(reason) if arguments.compare => bail!("{reason}\n{HOW_TO_INSTALL}"),
            Err(reason) => return Ok(Ending::Skipped(format!("{reason}\n{HOW_TO_INSTALL}"))),
        },
    };
    println!("emulator: {emulator}");
    let logs = root.join("target/emulate");
    fs::create_dir_all(&logs).with_context(|| format!("cannot create {}", logs.display()))?;
    let (pitstop, images) = build(root)?;
    if let (true, Emulator::Qemu(qemu)) = (arguments.compare, &emulator) {
        let world = World::start(&pitstop, &images, &logs.join("server.log"))?;
        compare::run(&world, qemu, symbols(&images)?, &logs)?;
        println!("no difference; logs are in {}", logs.display());
        return Ok(Ending::Passed);
    }
    let emulator = match emulator {
        Emulator::Chip(_) => Emulator::Chip(Arc::new(symbols(&images)?)),
        qemu @ Emulator::Qemu(_) => qemu,
    };
    let theatre = Theatre { pitstop, images, logs, emulator };
    let report = match arguments.kill {
        Some(count) => {
            let seed = arguments.seed.unwrap_or_else(rand::random);
            let report = Report::default();
            let mut world = theatre.world(0)?;
            theatre.play(&mut world, kill::NAME, &report, &|stage| kill::run(stage, count, seed));
            report
        }
        None => theatre
            .play_all(&SCENARIOS.iter().filter(|scenario| wanted(arguments, scenario)).collect::<Vec<_>>())?,
    };
    println!("\nlogs are in {}", theatre.logs.display());
    report.finish()
}

/// What all scenarios are played with.
struct Theatre {
    pitstop: PathBuf,
    images: PathBuf,
    logs: PathBuf,
    emulator: Emulator,
}

impl Theatre {
    fn world(&self, number: usize) -> anyhow::Result<World> {
        World::start(&self.pitstop, &self.images, &self.logs.join(format!("server-{number}.log")))
    }

    /// Plays scenarios, as many at a time as there are processors, each of which has a world of its own: an emulated chip keeps
    /// one busy.
    ///
    /// Errors: a world that cannot be made.
    fn play_all(&self, scenarios: &[&Scenario]) -> anyhow::Result<Report> {
        let next = AtomicUsize::new(0);
        let report = Report::default();
        let worker = |number: usize| {
            let mut world = self.world(number)?;
            while let Some(scenario) = scenarios.get(next.fetch_add(1, Ordering::Relaxed)) {
                self.play(&mut world, scenario.name, &report, &scenario.run);
            }
            anyhow::Ok(())
        };
        thread::scope(|scope| {
            let count = thread::available_parallelism().map_or(1, NonZero::get).min(scenarios.len());
            let workers = (0..count).map(|number| scope.spawn(move || worker(number))).collect::<Vec<_>>();
            workers
                .into_iter()
                .try_for_each(|worker| worker.join().map_err(|_| anyhow!("a scenario panicked"))?)
        })?;
        Ok(report)
    }

    fn play(
        &self,
        world: &mut World,
        name: &'static str,
        report: &Report,
        run: &dyn Fn(&mut Stage<'_>) -> anyhow::Result<Outcome>,
    ) {
        println!("==> {name}");
        let start = Instant::now();
        let result = world.ensure_server().and_then(|()| {
            let log = Log::create(&self.logs.join(format!("{name}.log")))?;
            run(&mut Stage { name, emulator: &self.emulator, world, log })
        });
        report.add(name, start.elapsed(), result);
    }
}

/// Builds the command line and the images; returns the program and the images' folder.
fn build(root: &Path) -> anyhow::Result<(PathBuf, PathBuf)> {
    let pitstop = workspace::pitstop(root)?;
    let toolchain = toolchain::find_or_install(root)?;
    let images = default_firmware_dir(root);
    firmware::build_some(root, &toolchain, &images, |image| IMAGES.contains(&image.name))?;
    Ok((pitstop, images))
}

/// What all images consist of.
fn symbols(images: &Path) -> anyhow::Result<Symbols> {
    let mut symbols = Symbols::default();
    for name in IMAGES {
        let path = images.join(format!("{name}.elf"));
        let elf = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        symbols.add(&elf).with_context(|| path.display().to_string())?;
    }
    Ok(symbols)
}

fn wanted(arguments: &Arguments, scenario: &Scenario) -> bool {
    arguments.only.is_empty() || arguments.only.iter().any(|name| name == scenario.name)
}

fn names() -> Vec<&'static str> {
    SCENARIOS.iter().map(|scenario| scenario.name).collect()
}

/// What became of the scenarios, in the order in which they ended.
#[derive(Default)]
struct Report(Mutex<Vec<Row>>);

struct Row {
    name: &'static str,
    time: Duration,
    text: String,
    has_failed: bool,
}

impl Report {
    fn add(&self, name: &'static str, time: Duration, result: anyhow::Result<Outcome>) {
        let (text, has_failed) = match result {
            Ok(Outcome::Passed) => ("ok".to_owned(), false),
            Ok(Outcome::Skipped(reason)) => {
                println!("SKIPPED {name}: {reason}");
                (format!("SKIPPED: {reason}"), false)
            }
            Err(error) => {
                println!("FAILED {name}: {error:#}");
                ("FAILED".to_owned(), true)
            }
        };
        let mut rows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        rows.push(Row { name, time, text, has_failed });
    }

    /// Prints the table.
    ///
    /// Errors: the scenarios that failed.
    fn finish(self) -> anyhow::Result<Ending> {
        let rows = self.0.into_inner().unwrap_or_else(PoisonError::into_inner);
        println!("\n{:<16} {:>8}  result", "scenario", "time");
        for Row { name, time, text, .. } in &rows {
            println!("{name:<16} {:>6.1} s  {text}", time.as_secs_f64());
        }
        let failed = rows.iter().filter(|row| row.has_failed).map(|row| row.name).collect::<Vec<_>>();
        if !failed.is_empty() {
            bail!("failed in the emulator: {}", failed.join(", "));
        }
        Ok(Ending::Passed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_failure_fails_all_and_a_skip_does_not() {
        let report = Report::default();
        report.add("first", Duration::ZERO, Ok(Outcome::Passed));
        report.add("second", Duration::ZERO, Ok(Outcome::Skipped("no such feature".into())));
        assert_eq!(report.0.lock().unwrap()[1].text, "SKIPPED: no such feature");
        assert!(report.finish().is_ok());

        let report = Report::default();
        report.add("first", Duration::ZERO, Err(anyhow::anyhow!("no hello")));
        report.add("second", Duration::ZERO, Ok(Outcome::Passed));
        assert_eq!(report.0.lock().unwrap().len(), 2);
        assert!(report.finish().err().is_some_and(|error| error.to_string().ends_with("first")));
    }
}
