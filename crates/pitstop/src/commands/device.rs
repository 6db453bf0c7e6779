//! `pitstop device`: which devices there are, and how they do.

mod bulk;
mod delete;
mod import;
mod list;
mod page;
mod revoke;

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use api::bulk::{BulkBody, ChangeBulkBody};
use api::device::{DeviceSettingsBody, NewDeviceBody, NewDevicesBody, NewToken};
use api::product::Product;
use clap::{Args, Subcommand};
use time::OffsetDateTime;

use self::bulk::{Act, Bulk, Chosen, Part, Which};
use self::page::{device_page, events_table};
use crate::client::{self, Client, Connection};
use crate::commands::consent::{Consent, devices};
use crate::commands::options;
use crate::failure::Failure;
use crate::ui::{Cell, Page, Tone, Ui, counted};

const NEW_EXAMPLES: &str = "\
Examples:
  pitstop device new --product lamp
  pitstop device new --product lamp --id lamp-0001 --note 'kitchen, left'
  pitstop device new --product lamp --channel beta --tags lab,office
  pitstop device new --product lamp --count 500 --csv devices.csv
  pitstop device new --product lamp --json | jq -r .enrollment_token";

const SET_EXAMPLES: &str = "\
Examples:
  pitstop device set lamp-0001 --channel beta --tags lab,office
  pitstop device set lamp-0001 --pin 1.3.2
  pitstop device set lamp-0001 --unpin --note 'back on rollouts'
  pitstop device set --filter product=lamp,search=AA:BB --channel beta --add-tags lab";

/// As many of its newest events stand below a device.
const SHOWN_EVENTS: usize = 8;

/// Devices.
#[derive(Debug, Subcommand)]
pub(crate) enum DeviceCommand {
    /// Make a device id with a one-time enrollment token
    #[command(after_help = NEW_EXAMPLES)]
    New(New),

    /// Make devices of ids of your own, such as serial numbers or MAC addresses, from a CSV file
    #[command(after_help = import::EXAMPLES)]
    Import(import::Import),

    /// List the devices
    #[command(after_help = list::EXAMPLES)]
    List(list::List),

    /// Show one device: what it runs, how it does
    Show(One),

    /// Change channel, tags, note, or the release that it is pinned to
    #[command(after_help = SET_EXAMPLES)]
    Set(Set),

    /// Approve the enrollment of a device, or of all of a filter, where their product asks for that
    Approve(Act),

    /// Forget the failures of a device: the release is offered to it again
    ClearQuarantine(One),

    /// Revoke a device, or all of a filter, for good: the next request is refused
    #[command(after_help = revoke::EXAMPLES)]
    Revoke(revoke::Revoke),

    /// Delete a device that is new or revoked, with its events
    #[command(after_help = delete::EXAMPLES)]
    Delete(Act),

    /// Refuse a device, or all of a filter, until it is resumed: lost, lent, or not understood
    Suspend(revoke::Revoke),

    /// Take the suspension of a device, or of all of a filter, back
    #[command(after_help = revoke::RESUME_EXAMPLES)]
    Resume(Act),

    /// Issue a new enrollment token; the old one is void
    Token(One),
}

/// `device new`.
#[derive(Debug, Args)]
pub(crate) struct New {
    /// The product that the device is one of
    #[arg(long, value_name = "NAME", value_parser = options::product)]
    product: String,

    /// Its id, such as a serial number; the server makes one when there is none
    #[arg(long, value_name = "ID", value_parser = options::device)]
    id: Option<String>,

    /// A note for people
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,

    /// The channel whose releases it gets [default: stable]
    #[arg(long, value_name = "NAME", value_parser = options::product)]
    channel: Option<String>,

    /// Tags, by which rollouts and lists select: lab,office
    #[arg(long, value_name = "TAGS", value_delimiter = ',')]
    tags: Vec<String>,

    /// Make so many, with ids by the server
    #[arg(long, value_name = "N", value_parser = options::limit, requires = "csv", conflicts_with_all = ["id", "note"])]
    count: Option<usize>,

    /// Write ids and enrollment tokens into this new file, which only you may read; - for standard output
    #[arg(long, value_name = "FILE", requires = "count")]
    csv: Option<PathBuf>,

    /// What the ids begin with [default: the product's name]
    #[arg(long, value_name = "TEXT", value_parser = options::device, requires = "count")]
    prefix: Option<String>,

    #[command(flatten)]
    connection: Connection,
}

/// `device set`.
#[derive(Debug, Args)]
pub(crate) struct Set {
    #[command(flatten)]
    which: Which,

    /// The channel whose releases it gets
    #[arg(long, value_name = "NAME", value_parser = options::product)]
    channel: Option<String>,

    /// Its tags from now on; '' takes all away
    #[arg(long, value_name = "TAGS", conflicts_with = "filter")]
    tags: Option<String>,

    /// Tags that all of the filter have from now on, besides their own
    #[arg(long, value_name = "TAGS", value_delimiter = ',')]
    add_tags: Vec<String>,

    /// Tags that none of the filter has from now on
    #[arg(long, value_name = "TAGS", value_delimiter = ',')]
    remove_tags: Vec<String>,

    /// A note for people
    #[arg(long, value_name = "TEXT", conflicts_with = "filter")]
    note: Option<String>,

    /// The release that it is to run whatever the rollouts say, by version or number
    #[arg(long, value_name = "RELEASE", conflicts_with = "filter")]
    pin: Option<String>,

    /// Follow the rollouts again
    #[arg(long, conflicts_with_all = ["pin", "filter"])]
    unpin: bool,

    #[command(flatten)]
    consent: Consent,

    #[command(flatten)]
    connection: Connection,
}

/// A device by its id.
#[derive(Debug, Args)]
pub(crate) struct One {
    /// The device's id
    #[arg(value_name = "ID", value_parser = options::device)]
    id: String,

    #[command(flatten)]
    connection: Connection,
}

impl DeviceCommand {
    /// Runs the command.
    pub(crate) fn run(self, ui: &Ui) -> Result<(), Failure> {
        match self {
            Self::New(new) => new.run(ui),
            Self::Import(import) => import.run(ui),
            Self::List(list) => list.run(ui),
            Self::Show(One { id, connection }) => {
                let client = connection.client()?;
                let (device, events) = (client.device(&id)?, client.device_events(&id, SHOWN_EVENTS)?.items);
                ui.result(&device, || {
                    let now = OffsetDateTime::now_utc();
                    events_table(device_page(&device, format!("Device {id}"), now), &events, now)
                })
            }
            Self::Set(set) => set.run(ui),
            Self::Approve(act) => approve(act, ui),
            Self::ClearQuarantine(One { id, connection }) => {
                let client = connection.client()?;
                let before = client.device(&id)?;
                let device = client.clear_quarantine(&id)?;
                ui.result(&device, || {
                    if before.failures.is_none() && before.quarantine.is_none() {
                        return Page::plain()
                            .note(format!("Device {id} had no failures; nothing was changed."));
                    }
                    Page::titled(format!("Forgot the failures of {id}"))
                        .note("The release that failed is offered to it again, as far as a rollout does.")
                })
            }
            Self::Revoke(revoke) => revoke.run(true, ui),
            Self::Suspend(suspend) => suspend.run(false, ui),
            Self::Resume(act) => revoke::resume(act, ui),
            Self::Delete(act) => delete::run(act, ui),
            Self::Token(One { id, connection }) => {
                let client = connection.client()?;
                let issued = client.issue_enrollment_token(&id)?;
                ui.result(&issued, || {
                    enrollment_page(
                        &client,
                        format!("New enrollment token for {id}"),
                        &id,
                        &issued.enrollment_token,
                    )
                })
            }
        }
    }
}

impl New {
    fn run(self, ui: &Ui) -> Result<(), Failure> {
        if let (Some(count), Some(path)) = (self.count, &self.csv) {
            return self.many(count, path, ui);
        }
        let Self { product, id, note, channel, tags, connection, .. } = self;
        let client = connection.client()?;
        let note = note.unwrap_or_default();
        let issued = client.create_device(&NewDeviceBody { id, product, note, channel, tags })?;
        let device = &issued.device;
        ui.result(&issued, || {
            let heading = format!("Made the device {} of product {}", device.id, device.product);
            enrollment_page(&client, heading, &device.id, &issued.enrollment_token)
        })
    }

    /// The file is opened before the server is asked: a token that cannot be kept is lost.
    fn many(&self, count: usize, path: &Path, ui: &Ui) -> Result<(), Failure> {
        let client = self.connection.client()?;
        let cannot = |error: std::io::Error| {
            Failure::new(format!("could not write {}: {error}", path.display()))
                .hint("--csv takes a file that does not exist yet, or - for standard output")
        };
        let is_stdout = path == Path::new("-");
        let mut out: Box<dyn Write> = if is_stdout {
            Box::new(std::io::stdout())
        } else {
            Box::new(private_file(path, OpenOptions::new().create_new(true).write(true)).map_err(cannot)?)
        };
        writeln!(out, "device_id,enrollment_token").map_err(cannot)?;
        let progress = ui.count_progress("making devices", count as u64);
        let mut made = 0;
        let devices = NewDevicesBody {
            product: self.product.clone(),
            count: options::signed(count as u64),
            prefix: self.prefix.clone(),
            channel: self.channel.clone(),
            tags: self.tags.clone(),
        };
        for devices in client::in_parts(devices) {
            // Ids are letters, digits and `._-`, tokens are too: nothing needs quotes.
            let issued = client.create_devices(&devices)?;
            made += devices.count.unsigned_abs();
            let written = issued
                .iter()
                .try_for_each(|NewToken { id, enrollment_token }| writeln!(out, "{id},{enrollment_token}"));
            written.and_then(|()| out.flush()).map_err(|error| {
                cannot(error).hint(format!(
                    "{} were made; those whose token was not written are new: `pitstop device list --product {} --health \
                     new` shows them, and `pitstop device token ID` gives another",
                    counted(made, "device"),
                    self.product
                ))
            })?;
            progress.set(made, "");
        }
        drop(progress);
        if is_stdout {
            return Ok(());
        }
        ui.result(&serde_json::json!({ "count": count, "csv": path }), || {
            Page::titled(format!("Made {} of product {}", counted(count as u64, "device"), self.product))
                .facts([("ids and tokens", Cell::from(path.display().to_string()))])
                .note("Each token is good once. The server does not have them: whoever has this file can enroll these devices.")
                .next("Afterwards:", [format!("pitstop device list --product {} --health new", self.product)])
        })
    }
}

fn approve(act: Act, ui: &Ui) -> Result<(), Failure> {
    let Act { which, consent, connection } = act;
    let client = connection.client()?;
    match which.choose()? {
        Chosen::One(id) => {
            let device = client.approve_device(&id)?;
            let product = client.product(&device.product)?;
            ui.result(&device, || {
                Page::titled(format!("Approved the enrollment of {id}")).note(approved(&product))
            })
        }
        Chosen::All(filter) => {
            let product = client.product(&filter.product)?;
            let body = |Part { filter, expect, cursor }| BulkBody { filter, expect, cursor };
            let bulk = Bulk { client: &client, action: "approve", filter, body };
            let outcome = bulk.run(|what| format!("Approve the enrollment of {what}?"), &consent, ui)?;
            ui.result(&outcome, || {
                Page::titled(format!("Approved the enrollment of {}", devices(outcome.changed)))
                    .note(outcome.others("approved or revoked"))
                    .note(approved(&product))
            })
        }
    }
}

/// What an approval is good for.
fn approved(product: &Product) -> String {
    if product.enrollment_approval {
        "Whoever is approved gets a certificate when it asks, or asks again.".to_owned()
    } else {
        let name = &product.name;
        format!(
            "Product {name} asks for no approval: it counts once it does (`pitstop product set {name} \
             --enrollment-approval true`)."
        )
    }
}

impl Set {
    fn run(self, ui: &Ui) -> Result<(), Failure> {
        let Self { which, channel, tags, add_tags, remove_tags, note, pin, unpin, consent, connection } =
            self;
        let is_for_one = tags.is_some() || note.is_some() || pin.is_some() || unpin;
        if channel.is_none() && add_tags.is_empty() && remove_tags.is_empty() && !is_for_one {
            return Err(Failure::usage("expected something to change, found nothing")
                .hint("such as --channel beta; `pitstop device set --help` lists what there is"));
        }
        let client = connection.client()?;
        let id = match which.choose()? {
            Chosen::One(_) if !(add_tags.is_empty() && remove_tags.is_empty()) => {
                return Err(Failure::usage(
                    "expected --filter with --add-tags and --remove-tags, found an ID",
                )
                .hint("of one device --tags names all that it has from now on"));
            }
            Chosen::One(id) => id,
            Chosen::All(filter) => {
                let body = |Part { filter, expect, cursor }| ChangeBulkBody {
                    filter,
                    expect,
                    cursor,
                    channel: channel.clone(),
                    add_tags: add_tags.clone(),
                    remove_tags: remove_tags.clone(),
                };
                let bulk = Bulk { client: &client, action: "change", filter, body };
                let outcome = bulk.run(|what| format!("Change {what}?"), &consent, ui)?;
                return ui.result(&outcome, || {
                    let page = Page::titled(format!("Changed {}", devices(outcome.changed)));
                    if outcome.count == 0 { page.note(bulk::NONE) } else { page }
                });
            }
        };
        let pinned_sequence = match pin {
            Some(release) => {
                let product = client.device(&id)?.product;
                Some(Some(options::sequence_of(&client, &product, &release)?))
            }
            None if unpin => Some(None),
            None => None,
        };
        let tags = tags.map(|tags| {
            tags.split(',').map(str::trim).filter(|tag| !tag.is_empty()).map(str::to_owned).collect()
        });
        let settings = DeviceSettingsBody { note, channel, tags, pinned_sequence };
        let device = client.change_device(&id, &settings)?;
        ui.result(&device, || device_page(&device, format!("Device {id}"), OffsetDateTime::now_utc()))
    }
}

/// A file that holds secrets, as `options` open it.
fn private_file(path: &Path, options: &mut OpenOptions) -> std::io::Result<File> {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
    options.open(path)
}

/// What a new token is for, and what to do with it.
fn enrollment_page(client: &Client, heading: String, id: &str, token: &str) -> Page {
    // The address is a help and not the result: without it the page is still right.
    let url = client.info().ok().map(|info| info.device_url);
    Page::titled(heading)
        .facts([
            ("device id", Cell::from(id)),
            ("enrollment token", Cell::new(Tone::Good, token)),
            ("server URL", Cell::or_dash(url)),
        ])
        .note(
            "The token is shown this once, and the device uses it once. `pitstop flash` makes another one and puts all \
             that a board needs into its vault; another tool puts id, token, URL, the server's CA (ca/ca.pem in its \
             data directory) and the product's publisher keys there. The device enrolls at its first start.",
        )
        .next(
            "To make a board this device:",
            [format!("pitstop flash --port PORT --device {id} --wifi SSID")],
        )
        .next(
            "Afterwards:",
            [
                format!("pitstop device show {id}"),
                format!("pitstop device token {id}   # a new token, if this one is lost"),
            ],
        )
}
