//! `pitstop provision`: another vault for a device that has its updater.

use clap::Args;
use serde::Serialize;

use crate::commands::flash::identity_facts;
use crate::commands::identity::{Identity, IdentityOptions};
use crate::commands::target::{Target, TargetOptions};
use crate::failure::Failure;
use crate::flash::file::{FlashFile, VaultPlaces};
use crate::flash::plan::{Part, erased};
use crate::flash::serial::SerialChip;
use crate::ui::{Cell, Page, Ui, bytes};

const EXAMPLES: &str = "\
Examples:
  pitstop provision --port /dev/ttyUSB0 --device lamp-0001 --wifi workshop
  pitstop provision --image lamp.bin --device lamp-0001 --wifi work --wifi home

The vault is written anew and the journal erased: the device loses its key and
its certificate, forgets which release was its last, and enrolls again at its
next start. Nothing else in the flash changes.";

/// Options of `provision`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Provision {
    #[command(flatten)]
    target: TargetOptions,

    #[command(flatten)]
    identity: IdentityOptions,
}

/// What was written; without anything secret.
#[derive(Serialize)]
struct Report {
    device: String,
    product: String,
    server_url: String,
    wifi: Vec<String>,
    #[serde(flatten)]
    target: Target,
    vault_offset: u32,
    vault_bytes: u32,
}

/// A flash whose vault was found.
enum Found {
    Chip(Box<SerialChip>),
    File(FlashFile),
}

impl Provision {
    /// Runs the command. The vault is found before the server is asked to change anything.
    pub(crate) fn run(self, ui: &Ui) -> Result<(), Failure> {
        let Self { target, identity } = self;
        let (target, serial) = target.choose()?;
        let draft = identity.draft()?;
        draft.check_reach(&target, ui)?;
        let (found, places) = match &target {
            Target::Port(port) => {
                let mut chip = SerialChip::connect(port, &serial, ui)?;
                let places = VaultPlaces::find(&chip.read_table()?, &format!("the chip on {port}"))?;
                (Found::Chip(Box::new(chip)), places)
            }
            Target::Image(path) => {
                let file = FlashFile::read(path)?;
                let places = file.places();
                (Found::File(file), places)
            }
        };
        let VaultPlaces { vault, journal } = places;
        draft.try_vault(vault.size)?;
        let identity = draft.issue()?;
        let bytes = identity.vault(vault.size)?;
        match found {
            Found::Chip(mut chip) => {
                let name = vault.label.as_str().to_owned();
                let vault = Part { name, offset: vault.offset, bytes };
                let parts: Vec<Part> = journal.iter().map(erased).chain([vault]).collect();
                chip.write(&parts, ui)?;
                chip.finish()?;
            }
            Found::File(file) => file.write_vault(&bytes)?,
        }
        let report = Report {
            device: identity.device_id.clone(),
            product: identity.product().to_owned(),
            server_url: identity.server_url(),
            wifi: identity.networks(),
            target,
            vault_offset: vault.offset,
            vault_bytes: vault.size,
        };
        ui.result(&report, || report.page(&identity))
    }
}

impl Report {
    fn page(&self, identity: &Identity) -> Page {
        let place = match &self.target {
            Target::Port(port) => format!("of the chip on {port}"),
            Target::Image(path) => format!("in {}", path.display()),
        };
        let mut facts = identity_facts(identity);
        let vault = format!("{} at {:#08x}", bytes(self.vault_bytes.into()), self.vault_offset);
        facts.push(("vault", Cell::from(vault)));
        Page::titled(format!("Wrote the vault {place}"))
            .facts(facts)
            .note("The device enrolls again at its next start, with its one-time token.")
            .next("Afterwards:", [format!("pitstop device show {}", self.device)])
    }
}
