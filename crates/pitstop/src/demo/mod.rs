//! `pitstop demo`: the main job, end to end, on this machine.
//!
//! The server is the real one, TLS and TCP are real, and the device runs the real updater; its flash is a file and
//! its application is started by name only.

mod images;
mod refusals;
mod stage;
mod world;

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;
use sim::RunningApp;
use wire::Reason;

use crate::failure::Failure;
use crate::ui::{Ui, bytes};
use images::{Application, Images, Origin};
use stage::Stage;
use world::World;

const EXAMPLES: &str = "\
Examples:
  pitstop demo
  pitstop demo --json | tail -n 1
  pitstop demo --keep demo-data                   look at the flash file and the server's data afterwards
  pitstop demo --app v1.bin --app v2.bin          with your own ESP images, unmodified";

/// Options of `demo`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Demo {
    /// Leave everything in this new directory: server data, publisher key, flash file
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,

    /// An ESP application image; give two, the first is installed and then updated to the second
    #[arg(long = "app", value_name = "FILE")]
    apps: Vec<PathBuf>,
}

/// A part of the story and how long it took.
struct Step {
    name: &'static str,
    duration_ms: u64,
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
        let images = Images::find(&self.apps, |toolchain| {
            let _ = stage.note(&format!(
                "building the two applications with {toolchain}; the first time takes minutes"
            ));
        })?;
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
                temporary.path()
            }
        };
        let result = story(folder, &images, stage).await;
        if let Err(failure) = &result {
            stage.failed(failure)?;
        }
        if let Some(folder) = &self.keep {
            stage
                .note(&format!("everything is in {}: server/, publisher.key, flash.bin", folder.display()))?;
        }
        result
    }
}

async fn story(folder: &Path, images: &Images, stage: Stage) -> Result<(), Failure> {
    let mut steps = Vec::new();
    let mut begin_ms = stage.elapsed_ms();
    let mut end_step = |name| {
        let now_ms = stage.elapsed_ms();
        steps.push(Step { name, duration_ms: now_ms - begin_ms });
        begin_ms = now_ms;
    };

    stage.act("A server, a publisher, a product, a device")?;
    introduce(stage, images)?;
    let mut world = World::build(folder, [&images.first, &images.second], stage).await?;
    end_step("setup");

    stage.act(&format!("First start: enrollment and {}", images.first.version))?;
    update(&mut world, stage, &images.first).await?;
    end_step("first-start");

    stage.act(&format!("Power off and on: update to {}", images.second.version))?;
    update(&mut world, stage, &images.second).await?;
    end_step("update");

    stage.act("Power off and on: nothing to do")?;
    nothing_new(&mut world, stage, &images.second).await?;
    end_step("nothing-new");
    let (flash, requests, downloaded_bytes) = {
        let seen = world.witness.seen();
        (world.device.flash.stats().clone(), seen.requests, seen.downloaded_bytes)
    };

    stage.act("What is refused, and why")?;
    world.witness.seen().narrate = false;
    refusals::run(&mut world, stage, images, folder).await?;
    end_step("refusals");

    let app = world.run().await?;
    persist(&mut world)?;
    world.server.shutdown().await;
    let steps: Vec<_> =
        steps.iter().map(|step| json!({ "name": step.name, "duration_ms": step.duration_ms })).collect();
    let text = format!(
        "Done: {} runs. {} downloaded, {} erased and {} written in flash, {requests} requests, {} refusals.",
        images.second.version,
        bytes(downloaded_bytes),
        bytes(flash.erased_bytes),
        bytes(flash.written_bytes),
        refusals::COUNT,
    );
    let fields = json!({
        "ok": true,
        "version": images.second.version,
        "digest": hex::encode(app.image.digest),
        "downloaded_bytes": downloaded_bytes,
        "flash_erased_bytes": flash.erased_bytes,
        "flash_written_bytes": flash.written_bytes,
        "requests": requests,
        "refusals": refusals::COUNT,
        "steps": steps,
    });
    check_runs(&app, &images.second)?;
    stage.done(&text, fields)
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

/// Publishes an application, power-cycles the device, and expects it to run.
async fn update(world: &mut World, stage: Stage, application: &Application) -> Result<(), Failure> {
    let release = world.publish(application)?;
    stage.event(
        "published",
        &format!("{} publishes release {} (number {})", world.key.name, release.version, release.sequence),
        json!({ "version": release.version, "sequence": release.sequence, "digest": release.digest }),
    )?;
    world.witness.seen().narrate = true;
    let app = world.run().await?;
    world.witness.seen().narrate = false;
    check_runs(&app, application)?;
    if app.reason != Some(Reason::Installed) {
        return Err(Failure::new("expected the device to install the release, and it did not"));
    }
    show_running(stage, &app, &application.version)
}

/// Power-cycles the device and expects it to do nothing but ask.
async fn nothing_new(world: &mut World, stage: Stage, application: &Application) -> Result<(), Failure> {
    let before = world.device.flash.stats().clone();
    let connections = world.device.network.counters().connections();
    let requests = world.witness.seen().requests;
    world.witness.seen().narrate = true;
    let app = world.run().await?;
    check_runs(&app, application)?;
    let after = world.device.flash.stats();
    let changed = after.writes + after.erases - before.writes - before.erases;
    let connections = world.device.network.counters().connections() - connections;
    let requests = world.witness.seen().requests - requests;
    if (changed, connections, requests) != (0, 1, 1) {
        return Err(Failure::new(format!(
            "expected no flash operation, one connection and one request, found {changed}, {connections} and {requests}"
        )));
    }
    stage.event(
        "nothing-new",
        "nothing new: one connection, one request, no flash operation",
        json!({ "flash_operations": changed, "connections": connections, "requests": requests }),
    )?;
    show_running(stage, &app, &application.version)
}

fn show_running(stage: Stage, app: &RunningApp, version: &str) -> Result<(), Failure> {
    let said = app.app_desc().map_or_else(
        || "no app descriptor".to_owned(),
        |app_desc| {
            format!(
                "its app descriptor says {} {}",
                app_desc.project_name.as_str(),
                app_desc.version.as_str()
            )
        },
    );
    stage.event(
        "running",
        &format!("handed over: {version} runs from {} ({said})", app.slot),
        json!({
            "version": version, "slot": app.slot, "app_version": app.version(),
            "digest": hex::encode(app.image.digest),
        }),
    )
}

/// What runs is what was published, byte for byte.
fn check_runs(app: &RunningApp, application: &Application) -> Result<(), Failure> {
    if app.image.digest == application.image.summary.digest && app.by_updater {
        return Ok(());
    }
    Err(Failure::new(format!(
        "expected {} to run after a hand-over by the updater, found another image; this is a bug of Pitstop",
        application.version
    )))
}

fn persist(world: &mut World) -> Result<(), Failure> {
    let persisted = world.device.flash.persist();
    persisted.map_err(|error| Failure::new(format!("the flash file cannot be written: {error}")))
}
