//! The emulated chip: its flash file, and what a start of it comes to.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use emulator::{Emulator, Log, LogError, Machine, MachineError};
use flashfmt::Partition;
use serde_json::json;
use wire::Reason;

use super::CHIP;
use super::console::Line;
use crate::demo::backend::Backend;
use crate::demo::images::Application;
use crate::demo::stage::Stage;
use crate::failure::Failure;
use crate::flash::plan::{FlashPlan, Ingredients, Part};
use crate::flash::{file, vault};
use crate::inspect::ImageFile;
use crate::layouts::Places;
use crate::ui::{ByteProgress, bytes};

/// From power on to the application's first line. The updater gives up after 120 s without an application
/// (`crates/updater`, `BUDGET_WITHOUT_APP_MS`), and a busy computer emulates at half the speed.
const START: Duration = Duration::from_secs(2 * 120);

/// Where to look when the console's last line does not say enough.
const KEEP_THE_CONSOLE: &str = "with --keep DIR the whole console stays in DIR/console.log";

/// An emulated chip with its flash.
pub(super) struct Board<'a> {
    emulator: &'a Emulator,
    flash: PathBuf,
    log: Log,
    slots: Vec<Partition>,
    /// What the updater alone writes to: vault, journal, slots.
    watched: Vec<Partition>,
    stage: Stage,
}

/// A start of the chip, until the application's first line.
pub(super) struct PitStop {
    /// Number of the slot that was handed over to.
    slot: usize,
    /// Why the pit stop ended as it did; `None`: nothing new.
    pub(super) reason: Option<Reason>,
    /// The application's first line.
    said: String,
}

/// Where a start is.
enum Phase {
    /// Before the hand-over.
    PitStop,
    /// The updater has said that it hands over, and resets the chip.
    HandOver { slot: usize, reason: Option<Reason> },
    /// The updater's image was loaded again, to start the application at once. Nothing but the application speaks now.
    Started { slot: usize, reason: Option<Reason> },
}

impl<'a> Board<'a> {
    /// Makes the flash file as `pitstop flash --image` does, and a log of the console, both in `folder`.
    pub(super) fn build(
        folder: &Path,
        backend: &Backend,
        emulator: &'a Emulator,
        updater: &ImageFile,
        stage: Stage,
    ) -> Result<Self, Failure> {
        let layout = &backend.layout;
        let places = Places::find(&layout.layout)?;
        let ingredients = Ingredients {
            chip: CHIP,
            layout,
            places: &places,
            bootloader: None,
            updater: Some(updater),
            app: None,
            without_descriptor: false,
        };
        let vault = vault::image(places.vault.size, &backend.provisioning(&[])).map_err(vault::failure)?;
        let name = places.vault.label.as_str().to_owned();
        let plan = FlashPlan::assemble(ingredients)?.with(Part {
            name,
            offset: places.vault.offset,
            bytes: vault,
        })?;
        let flash = folder.join("flash.bin");
        file::write(&flash, &plan)?;
        stage.event(
            "device-built",
            &format!(
                "a flash file of {} MB for an {CHIP}: bootloader, partition table, updater ({}), vault",
                plan.flash_bytes() >> 20,
                bytes(updater.bytes.len() as u64)
            ),
            json!({
                "chip": CHIP.name(), "flash_bytes": plan.flash_bytes(),
                "updater_bytes": updater.bytes.len(), "emulator": emulator.to_string(),
            }),
        )?;
        let slots: Vec<_> = layout.layout.slots().collect();
        let watched = [places.vault, places.journal].into_iter().chain(slots.iter().copied()).collect();
        Ok(Self { emulator, flash, log: Log::create(&folder.join("console.log"))?, slots, watched, stage })
    }

    /// Power on; tells what the device does; power off at the first line of the application, which must be
    /// `application`, byte for byte, and begin with `greeting`.
    pub(super) fn run(&self, application: &Application, greeting: &str) -> Result<PitStop, Failure> {
        // The emulator blocks; the server runs on the runtime's other threads.
        tokio::task::block_in_place(|| {
            let pit_stop = self.start(application)?;
            self.check(&pit_stop, application, greeting)?;
            Ok(pit_stop)
        })
    }

    fn start(&self, application: &Application) -> Result<PitStop, Failure> {
        let wanted = "the application's first line";
        let deadline = Instant::now() + START;
        let mut machine = Machine::power_on(self.emulator, &self.flash, &self.log)?;
        let mut narrator =
            Narrator { stage: self.stage, size_bytes: application.image.bytes.len() as u64, bar: None };
        let mut phase = Phase::PitStop;
        loop {
            let text = machine.line(deadline, wanted)?;
            let line = Line::read(&text);
            narrator.tell(&line)?;
            phase = match (phase, line) {
                (_, Line::Waits { text } | Line::Breaks { text }) => {
                    return Err(Failure::new(format!("expected an application to run, the updater {text}")));
                }
                (_, Line::Stops { text }) => {
                    return Err(Failure::new(format!("the emulated chip stops: {text}")).hint(
                        "it has what Pitstop's own images need of an ESP32-C3, and docs/fidelity.md says what that is; \
                         most applications need more, for which PITSTOP_QEMU names Espressif's QEMU",
                    ));
                }
                (Phase::PitStop, Line::HandsOver { slot, reason }) => Phase::HandOver { slot, reason },
                (Phase::HandOver { slot, reason }, Line::Loaded) => Phase::Started { slot, reason },
                (Phase::Started { slot, reason }, Line::Other(said)) if !said.is_empty() => {
                    let said = said.chars().filter(|character| !character.is_control()).collect();
                    return Ok(PitStop { slot, reason, said });
                }
                (phase @ Phase::Started { .. }, Line::Other(_)) => phase,
                (Phase::Started { .. }, line) => {
                    let found = match line {
                        Line::Reset => "a reset: the application was silent until a watchdog bit".to_owned(),
                        _ => format!("{text:?}"),
                    };
                    return Err(Failure::new(format!(
                        "expected {wanted} after the hand-over, found {found}"
                    ))
                    .hint(KEEP_THE_CONSOLE));
                }
                (phase @ (Phase::PitStop | Phase::HandOver { .. }), _) => phase,
            };
        }
    }

    /// What runs is what was published.
    fn check(&self, pit_stop: &PitStop, application: &Application, greeting: &str) -> Result<(), Failure> {
        let version = &application.version;
        let slot = self.slot(pit_stop)?;
        let flash = self.read()?;
        if !flash.get(slot.offset as usize..).is_some_and(|slot| slot.starts_with(&application.image.bytes)) {
            return Err(Failure::new(format!(
                "expected {version} in {}, byte for byte, found something else; this is a bug of Pitstop",
                slot.label.as_str()
            )));
        }
        if !pit_stop.said.starts_with(greeting) {
            let said = &pit_stop.said;
            return Err(Failure::new(format!(
                "expected {version} to run and say {greeting:?}, it said {said:?}"
            )));
        }
        Ok(())
    }

    /// Tells which application runs, and what it says.
    pub(super) fn show_running(&self, pit_stop: &PitStop, application: &Application) -> Result<(), Failure> {
        let (version, slot, said) = (&application.version, self.slot(pit_stop)?, &pit_stop.said);
        let slot = slot.label.as_str();
        self.stage.event(
            "running",
            &format!("handed over: {version} runs from {slot}, and says: {said}"),
            json!({
                "version": version, "slot": slot, "said": said,
                "digest": hex::encode(application.image.summary.digest),
            }),
        )
    }

    /// All that the updater alone writes to.
    pub(super) fn watched(&self) -> Result<Vec<u8>, Failure> {
        let flash = self.read()?;
        let part = |partition: &Partition| flash.get(partition.offset as usize..partition.end() as usize);
        Ok(self.watched.iter().filter_map(part).flatten().copied().collect())
    }

    fn slot(&self, pit_stop: &PitStop) -> Result<Partition, Failure> {
        let slot = pit_stop.slot;
        let found = self.slots.get(slot).copied();
        found.ok_or_else(|| Failure::new(format!("the updater handed over to slot {slot}, which is none")))
    }

    fn read(&self) -> Result<Vec<u8>, Failure> {
        let path = &self.flash;
        fs::read(path).map_err(|error| {
            Failure::new(format!("the flash file {} cannot be read: {error}", path.display()))
        })
    }
}

/// Tells the device's lines as they arrive.
struct Narrator {
    stage: Stage,
    /// Length of the image that may be installed.
    size_bytes: u64,
    bar: Option<ByteProgress>,
}

impl Narrator {
    fn tell(&mut self, line: &Line<'_>) -> Result<(), Failure> {
        match line {
            Line::Step(step) => self.stage.step(*step),
            Line::Installs { version, percent } => {
                let bar = match self.bar.take() {
                    Some(bar) => bar,
                    None => self.stage.downloading(version, self.size_bytes)?,
                };
                bar.set(self.size_bytes * percent / 100);
                self.bar = Some(bar);
                Ok(())
            }
            // What a start looks at first is not what it downloads.
            Line::Verifies => match self.bar.take() {
                Some(_) => self.stage.verified(self.size_bytes),
                None => Ok(()),
            },
            Line::Fault { text } => self.stage.event("fault", text, json!({ "by": "device", "text": text })),
            Line::Reset
            | Line::Loaded
            | Line::HandsOver { .. }
            | Line::Waits { .. }
            | Line::Breaks { .. }
            | Line::Stops { .. }
            | Line::Updater
            | Line::Other(_) => Ok(()),
        }
    }
}

impl From<MachineError> for Failure {
    fn from(error: MachineError) -> Self {
        Self::new(error.to_string()).hint(KEEP_THE_CONSOLE)
    }
}

impl From<LogError> for Failure {
    fn from(error: LogError) -> Self {
        Self::new(error.to_string())
    }
}
