//! `pitstop flash`: a device from nothing, on a chip or in a flash file.

use std::path::{Path, PathBuf};

use clap::Args;
use flashfmt::Chip;
use serde::Serialize;

use crate::commands::identity::{Identity, IdentityOptions};
use crate::commands::options;
use crate::commands::target::{Target, TargetOptions};
use crate::failure::Failure;
use crate::flash::file;
use crate::flash::plan::{FlashPlan, Ingredients, Part, PartReport};
use crate::flash::rollback::Rollback;
use crate::flash::serial::SerialChip;
use crate::flash::updater;
use crate::inspect::ImageFile;
use crate::layouts::{NamedLayout, Places, Strategy};
use crate::ui::{Cell, Page, Tone, Ui, bytes, size};

const EXAMPLES: &str = "\
Examples:
  pitstop flash --port /dev/ttyUSB0 --product lamp --wifi workshop
  pitstop flash --port /dev/ttyUSB0 --device lamp-0001 --updater updater.bin
  pitstop flash --image lamp.bin --product lamp --layout parts.csv --app app.bin

A factory without a connection to the server:
  pitstop flash --port /dev/ttyUSB0 --updater updater.bin --layout 4mb \\
      --product lamp --device lamp-0001 --enrollment-token TOKEN \\
      --server-url https://updates.example.org:8443 \\
      --anchor ca.pem --publisher key.pub \\
      --wifi workshop --wifi-passphrase-file passphrase

On a chip, the application's own data (nvs) and slots that nothing is written
to stay as they are. In a flash file, they are erased.";

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

    /// The chip, such as esp32c3 [default: the product's, or the updater's]
    #[arg(long, value_name = "CHIP", value_parser = options::chip, help_heading = "Contents")]
    chip: Option<Chip>,

    #[command(flatten)]
    identity: IdentityOptions,
}

/// Nothing of a release bootloader says whether it has rollback, unless its build is still there.
const UNKNOWN_ROLLBACK: &str = "it cannot be known whether this bootloader was built with rollback \
    (CONFIG_BOOTLOADER_APP_ROLLBACK_ENABLE=y), and this layout needs it: without it, the first hand-over is for good \
    and the device gets no update any more. Give build/bootloader/bootloader.bin where ESP-IDF built it, with \
    config/sdkconfig.h beside it, or try one device first and reset it twice with its button: it has to check in after \
    each";

/// What is ready to be written to.
enum Destination<'a> {
    Chip(Box<SerialChip>),
    File(&'a Path),
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
    #[serde(skip)]
    starts: bool,
}

impl Flash {
    /// Runs the command. What can be wrong here is found before the server is asked to change anything, and that is
    /// done before anything is written.
    pub(crate) fn run(self, ui: &Ui) -> Result<(), Failure> {
        let Self { target, updater, layout, bootloader, app, without_descriptor, chip, identity } = self;
        let (target, serial) = target.choose()?;
        let read = |path: Option<PathBuf>| path.map(|path| ImageFile::read(&path)).transpose();
        let (updater, app) = (read(updater)?, read(app)?);
        let bootloader = bootloader.map(|path| own_bootloader(&path)).transpose()?;
        let draft = identity.draft()?;
        let layout = match (layout, &draft.layout) {
            (Some(asked), _) => NamedLayout::read(&asked)?,
            (None, Some(of_product)) => of_product.clone(),
            (None, None) => NamedLayout::read(DEFAULT_LAYOUT)?,
        };
        let of_updater = updater.as_ref().map(|image| image.summary.header.chip);
        if let (Some(asked), Some(of_product)) = (chip, draft.chip)
            && asked != of_product
        {
            let product = &draft.product;
            return Err(Failure::new(format!("the product {product} is for {of_product}, not for {asked}"))
                .hint("leave --chip away, or make a product with this chip: pitstop product new --help"));
        }
        let chip = chip.or(draft.chip).or(of_updater).unwrap_or(DEFAULT_CHIP);
        let updater = match updater {
            Some(updater) => updater,
            None => updater::find(chip, ui)?,
        };
        let places = Places::find(&layout.layout)?;
        let rollback = bootloader.as_ref().map(|(_, rollback)| *rollback);
        let plan = FlashPlan::assemble(Ingredients {
            chip,
            layout: &layout,
            places: &places,
            bootloader,
            updater: &updater,
            app: app.as_ref(),
            without_descriptor,
        })?;
        if Strategy::of(&layout.layout) == Strategy::OtadataRollback && rollback == Some(Rollback::Unknown) {
            ui.warning(UNKNOWN_ROLLBACK);
        }
        draft.try_vault(places.vault.size)?;

        let connected = match &target {
            Target::Port(port) => {
                let mut device = SerialChip::connect(port, &serial, ui)?;
                device.check(chip, plan.flash_bytes())?;
                Destination::Chip(Box::new(device))
            }
            Target::Image(path) => Destination::File(path),
        };
        let identity = draft.issue()?;
        let vault = identity.vault(places.vault.size)?;
        let name = places.vault.label.as_str().to_owned();
        let plan = plan.with(Part { name, offset: places.vault.offset, bytes: vault })?;
        match connected {
            Destination::Chip(mut device) => device.write(plan.parts(), ui)?,
            Destination::File(path) => file::write(path, &plan)?,
        }

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
            starts: serial.resets(),
        };
        ui.result(&report, || report.page(&identity, &plan))
    }
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
