//! `pitstop demo`: the main job, end to end, on this machine.
//!
//! The server is the real one, TLS and TCP are real, and the device runs the real updater; its flash is a file and
//! its application is started by name only. With `--chip` the device is an emulated ESP32-C3, which starts the
//! updater's image and the applications' images as silicon does.
//!
//! | module | what |
//! | --- | --- |
//! | `story`, `world`, `refusals` | the story on the virtual device |
//! | `chip` | the story on the emulated chip |
//! | `fleet` | a fleet in the middle of a rollout, for the dashboard |
//! | `backend` | what both are made for: server, publisher, product |
//! | `images` | the applications, and this repository's firmware |
//! | `stage` | the timeline for people, the events for scripts |

mod backend;
#[cfg_attr(not(feature = "emulator"), path = "chip_absent.rs")]
mod chip;
mod fleet;
mod images;
mod refusals;
mod stage;
mod story;
mod world;

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde_json::json;

use crate::commands::options;
use crate::failure::Failure;
use crate::ui::Ui;
use images::{Build, Images, Origin};
use stage::Stage;

const EXAMPLES: &str = "\
Examples:
  pitstop demo
  pitstop demo --json | tail -n 1
  pitstop demo --keep demo-data                   look at the flash file and the server's data afterwards
  pitstop demo --app v1.bin --app v2.bin          with your own ESP images, unmodified
  pitstop demo --build-apps                       with applications that are built for the chip first
  pitstop demo --chip                             on an emulated ESP32-C3
  pitstop demo --dashboard                        200 devices and a rollout, to look at in a browser

Without --app and --build-apps the applications are composed here, unless
firmware/apps/hello was built before. --build-apps and --chip need the
firmware's toolchain, which rustup downloads. The chip has what the
repository's own images need; docs/fidelity.md says what that is. With
PITSTOP_QEMU, the path of Espressif's qemu-system-riscv32, that
emulates it.";

/// Options of `demo`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Demo {
    /// Leave everything in this new directory: server data, publisher key, flash file, console log
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,

    /// An ESP application image; give two, the first is installed and then updated to the second
    #[arg(long = "app", value_name = "FILE")]
    apps: Vec<PathBuf>,

    /// Build the applications, firmware/apps/hello of this repository, for the chip first; this takes minutes
    #[arg(long, conflicts_with = "apps")]
    build_apps: bool,

    /// On an emulated ESP32-C3 that runs the real images, instead of the virtual device
    #[arg(long)]
    chip: bool,

    /// The updater's image for the emulated chip; without it, it is built in this repository
    #[arg(long, value_name = "FILE", requires = "chip")]
    updater: Option<PathBuf>,

    /// Serve the dashboard over a fleet of 200 light devices in the middle of a rollout, until Ctrl-C
    #[arg(long, conflicts_with_all = ["apps", "build_apps", "chip"])]
    dashboard: bool,

    /// End the demo of the dashboard after so many seconds
    #[arg(long = "for", value_name = "SECONDS", value_parser = options::count, requires = "dashboard", conflicts_with_all = ["apps", "build_apps", "chip"])]
    time_s: Option<u64>,
}

impl Demo {
    /// Runs the story; it fails when anything ends otherwise than it should.
    pub(crate) fn run(self, ui: &Ui) -> Result<(), Failure> {
        if !matches!(self.apps.len(), 0 | 2) {
            let message = format!("expected --app twice or not at all, found it {} times", self.apps.len());
            return Err(Failure::usage(message).hint("pitstop demo --app v1.bin --app v2.bin"));
        }
        tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .map_err(|error| Failure::new(format!("the demo's threads cannot be started: {error}")))?
            .block_on(self.play(Stage::new(*ui)))
    }

    async fn play(self, stage: Stage) -> Result<(), Failure> {
        let gathered = if self.dashboard { None } else { Some(self.gather(stage)?) };
        let stage = stage.begun_now();
        let temporary;
        let folder = match &self.keep {
            Some(folder) => {
                std::fs::create_dir(folder).map_err(|error| {
                    Failure::new(format!("{} cannot be made: {error}", folder.display()))
                        .hint("--keep takes a directory that does not exist yet")
                })?;
                folder.as_path()
            }
            None => {
                temporary = tempfile::tempdir()
                    .map_err(|error| Failure::new(format!("no temporary directory can be made: {error}")))?;
                if gathered.is_some() {
                    tokio::spawn(remove_when_stopped(temporary.path().to_owned()));
                }
                temporary.path()
            }
        };
        let result = match &gathered {
            Some((images, Some(cast))) => chip::tell(folder, images, cast, stage).await,
            Some((images, None)) => story::tell(folder, images, stage).await,
            None => fleet::show(folder, self.time_s.map(Duration::from_secs), stage).await,
        };
        if let Err(failure) = &result {
            stage.failed(failure)?;
        }
        if let Some(folder) = &self.keep {
            let console = if self.chip { ", console.log" } else { "" };
            let folder = folder.display();
            stage.note(&format!("everything is in {folder}: server/, publisher.key, flash.bin{console}"))?;
        }
        result
    }

    /// What the story of one device needs. What is missing is told before minutes of building.
    fn gather(&self, stage: Stage) -> Result<(Images, Option<chip::Cast>), Failure> {
        let emulator = self.chip.then(chip::find_emulator).transpose()?;
        let building = |name: &str, toolchain: &str| {
            let text = format!("builds {name} with {toolchain}; the first time takes minutes");
            // A line that cannot be printed is not: the next one will say so.
            let _ = stage.event("building", &text, json!({ "image": name, "toolchain": toolchain }));
            stage.working(&format!("building {name}"))
        };
        // A chip runs nothing that was composed.
        let build = if self.chip || self.build_apps { Build::Yes } else { Build::No };
        let images = Images::find(&self.apps, build, building)?;
        let cast = match emulator {
            Some(emulator) => Some(chip::Cast::gather(emulator, &images, self.updater.as_deref(), building)?),
            None => None,
        };
        Ok((images, cast))
    }
}

/// Leaves nothing behind when the demo is stopped from outside. The story cannot do so: it waits for the emulated chip.
async fn remove_when_stopped(folder: PathBuf) {
    let exit_code = stopped().await;
    // The server may just be making a file in it.
    for _ in 0..3 {
        if std::fs::remove_dir_all(&folder).is_ok() {
            break;
        }
    }
    std::process::exit(exit_code)
}

/// The exit code, when a signal ends the process.
#[cfg(unix)]
async fn stopped() -> i32 {
    use tokio::signal::unix::{SignalKind, signal};

    let Ok(mut terminate) = signal(SignalKind::terminate()) else { return std::future::pending().await };
    tokio::select! {
        Ok(()) = tokio::signal::ctrl_c() => 130,
        Some(()) = terminate.recv() => 143,
        else => std::future::pending().await,
    }
}

#[cfg(not(unix))]
async fn stopped() -> i32 {
    match tokio::signal::ctrl_c().await {
        Ok(()) => 130,
        Err(_) => std::future::pending().await,
    }
}

/// Says which applications the demo runs with.
fn introduce(stage: Stage, images: &Images) -> Result<(), Failure> {
    let what = match &images.origin {
        Origin::Given => "applications: your own".to_owned(),
        Origin::Firmware => "applications: hello 1.0.0 and 1.1.0, built from firmware/apps/hello".to_owned(),
        Origin::Composed(reason) => format!("applications: composed here ({reason})"),
    };
    let origin = match &images.origin {
        Origin::Given => "given",
        Origin::Firmware => "firmware",
        Origin::Composed(_) => "composed",
    };
    let sizes = [&images.first, &images.second].map(|application| application.image.bytes.len());
    stage.event("applications", &what, json!({ "origin": origin, "size_bytes": sizes }))
}
