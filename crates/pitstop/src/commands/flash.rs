//! `pitstop flash`: a device from nothing, on a chip or in a flash file.

use std::path::{Path, PathBuf};

use clap::Args;
use flashfmt::Chip;
use serde::Serialize;

use crate::commands::consent::Consent;
use crate::commands::identity::{Draft, Identity, IdentityOptions};
use crate::commands::options;
use crate::commands::target::{Target, TargetOptions};
use crate::failure::Failure;
use crate::flash::data::DataFile;
use crate::flash::file::NewFile;
use crate::flash::plan::{FlashPlan, Ingredients, Part, PartReport, erased};
use crate::flash::present::{self, Moved};
use crate::flash::rollback::Rollback;
use crate::flash::serial::SerialChip;
use crate::flash::updater::{self, Buildable};
use crate::inspect::ImageFile;
use crate::layouts::{NamedLayout, Places, Strategy};
use crate::ui::{Cell, Page, Tone, Ui, bytes, size};

const EXAMPLES: &str = "\
Examples:
  pitstop flash --port /dev/ttyUSB0 --product lamp --wifi workshop
  pitstop flash --port /dev/ttyUSB0 --device lamp-0001 --updater updater.bin
  pitstop flash --port /dev/ttyUSB0 --product lamp --layout parts.csv \\
      --partition spiffs=fs.bin
  pitstop flash --image lamp.bin --product lamp --layout parts.csv --app app.bin

A factory without a connection to the server:
  pitstop flash --port /dev/ttyUSB0 --updater updater.bin --layout 4mb \\
      --product lamp --device lamp-0001 --enrollment-token TOKEN \\
      --server-url https://updates.example.org:8443 \\
      --anchor ca.pem --publisher key.pub \\
      --wifi workshop --wifi-passphrase-file passphrase

On a chip, the application's own data (nvs) and slots that nothing is written
to stay as they are. In a flash file, they are erased. Where the chip has data
that the new layout would not find again, it is named and you are asked;
`pitstop layout adopt` makes a layout that keeps it. All that can be refused is
refused before anything is built, made at the server, or written; the device is
made when everything but its vault is written.";

/// What is built for when nobody says.
const DEFAULT_CHIP: Chip = Chip::Esp32C3;

/// The layout when nobody says.
const DEFAULT_LAYOUT: &str = "4mb";

/// Options of `flash`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Flash {
    #[command(flatten)]
    target: TargetOptions,

    /// The updater's image; without it, it is built in this repository
    #[arg(long, value_name = "FILE", help_heading = "Contents")]
    updater: Option<PathBuf>,

    /// The flash layout: a built-in name or a partition CSV [default: the product's, or 4mb]
    #[arg(long, value_name = "LAYOUT", help_heading = "Contents")]
    layout: Option<String>,

    /// Your own second-stage bootloader [default: the one that espflash brings, which has no rollback]
    #[arg(long, value_name = "FILE", help_heading = "Contents")]
    bootloader: Option<PathBuf>,

    /// A first application for the slot, so that the device has one before it reaches the server
    #[arg(long, value_name = "FILE", help_heading = "Contents")]
    app: Option<PathBuf>,

    /// Take an application that has no app descriptor: nothing in it says that it is one
    #[arg(long, requires = "app", help_heading = "Contents")]
    without_descriptor: bool,

    /// A file for a data partition of the layout, such as spiffs=fs.bin; may be given more than once
    #[arg(long, value_name = "LABEL=FILE", value_parser = DataFile::parse, help_heading = "Contents")]
    partition: Vec<DataFile>,

    #[command(flatten)]
    consent: Consent,

    /// The chip, such as esp32c3 [default: the product's, or the updater's]
    #[arg(long, value_name = "CHIP", value_parser = options::chip, help_heading = "Contents")]
    chip: Option<Chip>,

    #[command(flatten)]
    identity: IdentityOptions,
}

/// The emulators' Ethernet is on no board.
const FOR_EMULATORS: &str = "this updater was built for emulators: it has Ethernet in place of Wi-Fi, so a board reaches no server \
    with it; give updater-CHIP.bin of `cargo xtask firmware`";

/// Nothing of a release bootloader says whether it has rollback, unless its build is still there.
const UNKNOWN_ROLLBACK: &str = "it cannot be known whether this bootloader was built with rollback \
    (CONFIG_BOOTLOADER_APP_ROLLBACK_ENABLE=y), and this layout needs it: without it, the first hand-over is for good \
    and the device gets no update any more. Give build/bootloader/bootloader.bin where ESP-IDF built it, with \
    config/sdkconfig.h beside it, or try one device first and reset it twice with its button: it has to check in after \
    each";

/// What is ready to be written to.
enum Destination {
    Chip(Box<SerialChip>),
    File(PathBuf),
}

/// What was written, for people and scripts; without anything secret.
#[derive(Serialize)]
struct Report {
    device: String,
    product: String,
    server_url: String,
    wifi: Vec<String>,
    chip: &'static str,
    layout: String,
    strategy: &'static str,
    flash_bytes: u32,
    #[serde(flatten)]
    target: Target,
    parts: Vec<PartReport>,
    /// Data partitions that the chip had elsewhere.
    lost_data: Vec<String>,
    #[serde(skip)]
    starts: bool,
}

impl Flash {
    /// Runs the command. What can be wrong is found before the updater is built, which takes long. The server is asked to make the
    /// device when all but its vault is written: a flash that fails before costs no token.
    pub(crate) fn run(self, ui: &Ui) -> Result<(), Failure> {
        let Self {
            target,
            updater,
            layout,
            bootloader,
            app,
            without_descriptor,
            partition,
            consent,
            chip,
            identity,
        } = self;
        let (target, serial) = target.choose()?;
        let read = |path: Option<PathBuf>| path.map(|path| ImageFile::read(&path)).transpose();
        let (updater, app) = (read(updater)?, read(app)?);
        let bootloader = bootloader.map(|path| own_bootloader(&path)).transpose()?;
        let draft = identity.draft()?;
        draft.check_reach(&target, ui)?;
        let layout = match (layout, &draft.layout) {
            (Some(asked), _) => NamedLayout::read(&asked)?,
            (None, Some(of_product)) => of_product.clone(),
            (None, None) => NamedLayout::read(DEFAULT_LAYOUT)?,
        };
        let chip = chosen_chip(chip, &draft, updater.as_ref())?;
        let updater = updater.map_or_else(|| updater::carried(chip), |updater| Ok(Some(updater)))?;
        let buildable = match &updater {
            Some(_) => None,
            None => Some(Buildable::find(chip)?),
        };
        let places = Places::find(&layout.layout)?;
        let rollback = bootloader.as_ref().map(|(_, rollback)| *rollback);
        let mut plan = FlashPlan::assemble(Ingredients {
            chip,
            layout: &layout,
            places: &places,
            bootloader,
            updater: updater.as_ref(),
            app: app.as_ref(),
            without_descriptor,
        })?;
        for file in &partition {
            plan = plan.with(file.part(&layout.layout)?)?;
        }
        if Strategy::of(&layout.layout) == Strategy::OtadataRollback && rollback == Some(Rollback::Unknown) {
            ui.warning(UNKNOWN_ROLLBACK);
        }
        if matches!(target, Target::Port(_)) && updater.as_ref().is_some_and(updater::is_for_emulators) {
            ui.warning(FOR_EMULATORS);
        }
        draft.try_vault(places.vault.size)?;
        plan.clone().with(erased(&places.vault))?;

        let mut destination = match &target {
            Target::Port(port) => {
                let mut device = SerialChip::connect(port, &serial, ui)?;
                device.check(chip, plan.flash_bytes())?;
                Destination::Chip(Box::new(device))
            }
            Target::Image(path) => Destination::File(path.clone()),
        };
        let ready = destination.ask_before_loss(&layout, &consent).and_then(|lost| {
            let built = buildable.map(|buildable| buildable.build(ui)).transpose()?;
            Ok(match built {
                Some(updater) => (plan.with_updater(&updater, chip, &places)?, lost),
                None => (plan, lost),
            })
        });
        let (plan, lost) = match ready {
            Ok(ready) => ready,
            Err(failure) => {
                destination.leave();
                return Err(failure);
            }
        };
        let vault = |identity: &Identity| -> Result<Part, Failure> {
            let name = places.vault.label.as_str().to_owned();
            Ok(Part { name, offset: places.vault.offset, bytes: identity.vault(places.vault.size)? })
        };
        let (identity, vault) = match destination {
            Destination::Chip(mut device) => {
                device.write(plan.parts(), ui)?;
                let identity = draft.issue()?;
                let vault = vault(&identity)?;
                let written = device.write(std::slice::from_ref(&vault), ui).and_then(|()| device.finish());
                written.map_err(|error| unfinished(error.into(), &identity))?;
                (identity, vault)
            }
            Destination::File(path) => {
                let file = NewFile::begin(&path, &plan)?;
                let identity = draft.issue()?;
                let vault = vault(&identity)?;
                file.finish(&vault).map_err(|error| unfinished(error.into(), &identity))?;
                (identity, vault)
            }
        };
        let plan = plan.with(vault)?;

        let report = Report {
            device: identity.device_id.clone(),
            product: identity.product().to_owned(),
            server_url: identity.server_url(),
            wifi: identity.networks(),
            chip: chip.name(),
            layout: layout.name.clone(),
            strategy: Strategy::of(&layout.layout).name(),
            flash_bytes: plan.flash_bytes(),
            target,
            parts: plan.report(),
            lost_data: lost,
            starts: serial.resets(),
        };
        ui.result(&report, || report.page(&identity, &plan))
    }
}

impl Destination {
    /// Gives a chip back that nothing is written to.
    fn leave(self) {
        if let Self::Chip(device) = self {
            // Why nothing is written is told already.
            let _ = device.finish();
        }
    }

    /// Asks before anything is lost: data partitions of a chip that the layout has elsewhere or not at all, or a file. Names the
    /// partitions.
    fn ask_before_loss(&mut self, layout: &NamedLayout, consent: &Consent) -> Result<Vec<String>, Failure> {
        match self {
            Self::Chip(device) => {
                let moved = present::moved(&device.read_table()?, &layout.layout);
                if moved.is_empty() {
                    return Ok(Vec::new());
                }
                let named: Vec<_> = moved.iter().map(ToString::to_string).collect();
                let question = format!(
                    "Flash? The layout {} does not have these data partitions of the chip where they are, so what is in them \
                     is lost: {}.",
                    layout.name,
                    named.join(", ")
                );
                let adopt = "`pitstop layout adopt --port PORT > parts.csv` makes a layout that keeps them; --yes goes on all \
                             the same";
                consent.to(&question).map_err(|failure| failure.hint(adopt))?;
                Ok(moved.iter().map(Moved::label).collect())
            }
            Self::File(path) => {
                if path.exists() {
                    if !path.is_file() {
                        let message = format!("expected a file at {}, found something else", path.display());
                        return Err(
                            Failure::new(message).hint("--image makes a file; a board is named with --port")
                        );
                    }
                    consent.to(&format!("Overwrite {}, which is there already?", path.display()))?;
                }
                Ok(Vec::new())
            }
        }
    }
}

/// The chip that is asked for, the product's, or the updater's.
fn chosen_chip(asked: Option<Chip>, draft: &Draft, updater: Option<&ImageFile>) -> Result<Chip, Failure> {
    if let (Some(asked), Some(of_product)) = (asked, draft.chip)
        && asked != of_product
    {
        let product = &draft.product;
        return Err(Failure::new(format!("the product {product} is for {of_product}, not for {asked}"))
            .hint("leave --chip away, or make a product with this chip: pitstop product new --help"));
    }
    let of_updater = updater.map(|image| image.summary.header.chip);
    Ok(asked.or(draft.chip).or(of_updater).unwrap_or(DEFAULT_CHIP))
}

/// What failed when the device had its token: the device is there, and nobody has used the token.
fn unfinished(failure: Failure, identity: &Identity) -> Failure {
    let hint = failure.next_step().map_or(String::new(), |hint| format!("{hint}; "));
    let again = format!(
        "the device {0} has its token and no vault: give --device {0} when you try again",
        identity.device_id
    );
    failure.hint(hint + &again)
}

/// The user's bootloader, and what is known of its rollback.
fn own_bootloader(path: &Path) -> Result<(ImageFile, Rollback), Failure> {
    let image = ImageFile::read(path)?;
    // Where ESP-IDF's build puts its configuration: `build/bootloader/config/sdkconfig.h`.
    let config = path.with_file_name("config").join("sdkconfig.h");
    let rollback = Rollback::of(&image, std::fs::read_to_string(config).ok().as_deref());
    Ok((image, rollback))
}

impl Report {
    fn page(&self, identity: &Identity, plan: &FlashPlan) -> Page {
        let (heading, start) = match &self.target {
            Target::Port(port) => (
                format!("Flashed the {} on {port}", self.chip),
                if self.starts {
                    "It starts now and enrolls with its one-time token."
                } else {
                    "Press RESET: it starts and enrolls with its one-time token."
                },
            ),
            Target::Image(path) => (
                format!("Wrote {}, a flash of {}", path.display(), size(self.flash_bytes.into())),
                "It enrolls at its first start with the one-time token in the file: flash one device with it, and \
                 keep it to yourself.",
            ),
        };
        let rows = plan.parts().iter().map(|part| {
            let Part { name, offset, bytes: content } = part;
            [Cell::from(format!("{offset:#08x}")), bytes(content.len() as u64).into(), name.clone().into()]
        });
        let mut facts = identity_facts(identity);
        facts.extend([
            ("chip", Cell::from(self.chip)),
            ("layout", Cell::from(format!("{}, {}", self.layout, self.strategy))),
        ]);
        Page::titled(heading)
            .facts(facts)
            .table(["OFFSET", "SIZE", "PART"], rows)
            .note(start)
            .next("Afterwards:", [format!("pitstop device show {}", self.device)])
    }
}

/// What a vault was made for; nothing secret.
pub(super) fn identity_facts(identity: &Identity) -> Vec<(&'static str, Cell)> {
    let wifi = match identity.networks().as_slice() {
        [] => Cell::new(Tone::Dim, "no network"),
        networks => Cell::from(networks.join(", ")),
    };
    vec![
        ("device", Cell::from(format!("{} ({})", identity.device_id, identity.origin))),
        ("product", Cell::from(identity.product())),
        ("server", Cell::from(identity.server_url())),
        ("Wi-Fi", wifi),
    ]
}
