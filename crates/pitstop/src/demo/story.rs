//! The story on the virtual device.

use std::path::Path;

use serde_json::json;
use sim::RunningApp;
use wire::Reason;

use super::images::{Application, Images};
use super::stage::{Stage, Steps};
use super::world::World;
use super::{introduce, refusals};
use crate::failure::Failure;
use crate::ui::bytes;

/// Tells it; fails when anything ends otherwise than it should.
pub(super) async fn tell(folder: &Path, images: &Images, stage: Stage) -> Result<(), Failure> {
    let mut steps = Steps::begin(stage);

    stage.act("A server, a publisher, a product, a device")?;
    introduce(stage, images)?;
    let mut world = World::build(folder, [&images.first, &images.second], stage).await?;
    steps.end("setup");

    stage.act(&format!("First start: enrollment and {}", images.first.version))?;
    update(&mut world, stage, &images.first).await?;
    steps.end("first-start");

    stage.act(&format!("Power off and on: update to {}", images.second.version))?;
    update(&mut world, stage, &images.second).await?;
    steps.end("update");

    stage.act("Power off and on: nothing to do")?;
    nothing_new(&mut world, stage, &images.second).await?;
    steps.end("nothing-new");
    let (flash, requests, downloaded_bytes) = {
        let seen = world.witness.seen();
        (world.device.flash.stats().clone(), seen.requests, seen.downloaded_bytes)
    };

    stage.act("What is refused, and why")?;
    world.witness.seen().narrate = false;
    refusals::run(&mut world, stage, images, folder).await?;
    steps.end("refusals");

    let app = world.run().await?;
    persist(&mut world)?;
    world.backend.server.shutdown().await;
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
        "steps": steps.report(),
    });
    check_runs(&app, &images.second)?;
    stage.done(&text, fields)
}

/// Publishes an application, power-cycles the device, and expects it to run.
async fn update(world: &mut World, stage: Stage, application: &Application) -> Result<(), Failure> {
    world.backend.show_publish(application, stage)?;
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
