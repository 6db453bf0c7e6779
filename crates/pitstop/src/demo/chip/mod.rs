//! The story on an emulated ESP32-C3: updater and applications are the real images.
//!
//! | module | what |
//! | --- | --- |
//! | `board` | the chip: its flash file, and what a start of it comes to |
//! | `console` | what the lines of its console say |

mod board;
mod console;

use std::path::Path;

use emulator::{Emulator, HOST_SEEN_FROM_INSIDE, HOW_TO_INSTALL};
use flashfmt::Chip;
use serde_json::json;
use wire::Reason;

use super::backend::{Backend, DEVICE, ask};
use super::images::{self, Application, Build, Images, Origin};
use super::introduce;
use super::stage::{Stage, Steps};
use crate::failure::Failure;
use crate::inspect::ImageFile;
use crate::ui::Spinner;
use board::Board;

/// What is emulated.
const CHIP: Chip = Chip::Esp32C3;

/// The updater with the network that emulators offer, as `cargo xtask firmware` names it.
const UPDATER: &str = "updater-esp32c3-qemu";

/// What to do without images.
const INSTALL_OR_GIVE: &str = "in a clone of the repository, install the firmware's toolchain (CONTRIBUTING.md: rustup downloads it, or Debian's \
     packages); or give all three images: pitstop demo --chip --app v1.bin --app v2.bin \
     --updater updater-esp32c3-qemu.bin";

/// What only this story needs.
pub(super) struct Cast {
    emulator: Emulator,
    updater: ImageFile,
}

/// The crate `chip`, or the QEMU that was asked for.
pub(super) fn find_emulator() -> Result<Emulator, Failure> {
    Emulator::chosen().map_err(|error| Failure::new(error.to_string()).hint(HOW_TO_INSTALL))
}

impl Cast {
    /// Takes the updater's image that was given, or the repository's; `building` is as in [`images::built`].
    pub(super) fn gather(
        emulator: Emulator,
        images: &Images,
        updater: Option<&Path>,
        building: impl Fn(&str, &str) -> Spinner,
    ) -> Result<Self, Failure> {
        if let Origin::Composed(reason) = &images.origin {
            return Err(Failure::new(format!("there is no application that a chip could run: {reason}"))
                .hint(INSTALL_OR_GIVE));
        }
        let updater = match updater {
            Some(path) => ImageFile::read(path)?,
            None => images::built(UPDATER, Build::Yes, building).map_err(|reason| {
                Failure::new(format!("there is no updater for the emulated chip: {reason}"))
                    .hint(INSTALL_OR_GIVE)
            })?,
        };
        Ok(Self { emulator, updater })
    }
}

/// Tells it; fails when anything ends otherwise than it should.
pub(super) async fn tell(folder: &Path, images: &Images, cast: &Cast, stage: Stage) -> Result<(), Failure> {
    let (first, second) = (&images.first, &images.second);
    let mut steps = Steps::begin(stage);

    stage.act("A server, a publisher, a product, an emulated chip")?;
    introduce(stage, images)?;
    let backend = Backend::open(folder, [first, second], CHIP, Some(HOST_SEEN_FROM_INSIDE), stage).await?;
    let board = Board::build(folder, &backend, &cast.emulator, &cast.updater, stage)?;
    let greeting = |application: &Application| greeting(images, application);
    steps.end("setup");

    stage.act(&format!("First start: enrollment and {}", first.version))?;
    update(&board, &backend, first, &greeting(first), stage)?;
    steps.end("first-start");

    stage.act(&format!("Power off and on: update to {}", second.version))?;
    update(&board, &backend, second, &greeting(second), stage)?;
    steps.end("update");

    stage.act("Power off and on: nothing to do")?;
    nothing_new(&board, second, &greeting(second), stage)?;
    steps.end("nothing-new");

    stage.act("Power off and on: the device is revoked")?;
    ask(|| backend.client.revoke_device(DEVICE, Some("shown in the demo")))?;
    backend.show_publish(first, stage)?;
    let reason = Reason::DeviceRefused;
    fail_softly(&board, second, &greeting(second), reason)?;
    let text = format!("{reason}; {} keeps running, the new release stays away", second.version);
    let fields = json!({ "attack": "revoked", "by": "server", "reason": reason.name() });
    stage.refusal("a revoked device", &text, fields)?;
    steps.end("revoked");

    stage.act("Power off and on: the server is down")?;
    backend.server.shutdown().await;
    stage.event("server-stopped", "the server stops", json!({}))?;
    fail_softly(&board, second, &greeting(second), Reason::ServerUnreachable)?;
    steps.end("server-down");

    let text = format!(
        "Done: {} runs on the emulated {CHIP}, through an update, a revocation and an outage.",
        second.version
    );
    let fields = json!({
        "ok": true,
        "version": second.version,
        "digest": hex::encode(second.image.summary.digest),
        "refusals": 1,
        "steps": steps.report(),
    });
    stage.done(&text, fields)
}

/// How an application's first line begins; of the user's own nothing is known.
fn greeting(images: &Images, application: &Application) -> String {
    match images.origin {
        Origin::Firmware => format!("hello {} ", application.version),
        Origin::Given | Origin::Composed(_) => String::new(),
    }
}

/// Publishes an application, power-cycles the device, and expects it to be installed and to run.
fn update(
    board: &Board<'_>,
    backend: &Backend,
    application: &Application,
    greeting: &str,
    stage: Stage,
) -> Result<(), Failure> {
    backend.show_publish(application, stage)?;
    let pit_stop = board.run(application, greeting)?;
    expect(pit_stop.reason, Some(Reason::Installed))?;
    board.show_running(&pit_stop, application)
}

/// Power-cycles the device and expects it to do nothing but ask.
fn nothing_new(
    board: &Board<'_>,
    application: &Application,
    greeting: &str,
    stage: Stage,
) -> Result<(), Failure> {
    let before = board.watched()?;
    let pit_stop = board.run(application, greeting)?;
    expect(pit_stop.reason, None)?;
    let after = board.watched()?;
    let changed_bytes = before.iter().zip(&after).filter(|(before, after)| before != after).count();
    if changed_bytes != 0 {
        return Err(Failure::new(format!(
            "expected vault, journal and slots to stay as they are, found {changed_bytes} bytes changed"
        )));
    }
    stage.event(
        "nothing-new",
        "nothing new: vault, journal and slots are as they were, byte for byte",
        json!({ "changed_bytes": changed_bytes }),
    )?;
    board.show_running(&pit_stop, application)
}

/// Power-cycles the device and expects its application to run although the pit stop failed, for this reason.
fn fail_softly(
    board: &Board<'_>,
    application: &Application,
    greeting: &str,
    reason: Reason,
) -> Result<(), Failure> {
    let pit_stop = board.run(application, greeting)?;
    expect(pit_stop.reason, Some(reason))?;
    board.show_running(&pit_stop, application)
}

fn expect(found: Option<Reason>, expected: Option<Reason>) -> Result<(), Failure> {
    if found == expected {
        return Ok(());
    }
    let name = |reason: Option<Reason>| reason.map_or("nothing new", Reason::name);
    Err(Failure::new(format!(
        "expected the pit stop to end with `{}`, found `{}`; this is a bug of Pitstop",
        name(expected),
        name(found)
    )))
}
