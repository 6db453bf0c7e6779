//! `pitstop device`: which devices there are, and how they do.

mod bulk;
mod import;

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use api::bulk::{ApproveBulkBody, ChangeBulkBody, RevokeBulkBody};
use api::device::{
    Device, DeviceSettingsBody, DeviceState, Event, Failures, Health, ListParams, NewDeviceBody,
    NewDevicesBody, NewToken, Outcome,
};
use clap::{Args, Subcommand};
use serde_json::Value;
use time::OffsetDateTime;
use wire::Reason;

use self::bulk::{Bulk, Chosen, Part, Which};
use crate::client::{self, Client, Connection};
use crate::commands::consent::{Consent, devices};
use crate::commands::fleet::health_tone;
use crate::commands::options;
use crate::failure::Failure;
use crate::ui::{Cell, Page, Tone, Ui, ago, bytes, counted};

const NEW_EXAMPLES: &str = "\
Examples:
  pitstop device new --product lamp
  pitstop device new --product lamp --id lamp-0001 --note 'kitchen, left'
  pitstop device new --product lamp --channel beta --tags lab,office
  pitstop device new --product lamp --count 500 --csv devices.csv
  pitstop device new --product lamp --json | jq -r .enrollment_token";

const LIST_EXAMPLES: &str = "\
Examples:
  pitstop device list --product lamp --health crashing
  pitstop device list --tag lab --channel beta
  pitstop device list --clone-suspected
  pitstop device list --search 0001 --json | jq -r '.items[].id'";

const SET_EXAMPLES: &str = "\
Examples:
  pitstop device set lamp-0001 --channel beta --tags lab,office
  pitstop device set lamp-0001 --pin 1.3.2
  pitstop device set lamp-0001 --unpin --note 'back on rollouts'
  pitstop device set --filter product=lamp,search=AA:BB --channel beta --add-tags lab";

const REVOKE_EXAMPLES: &str = "\
Examples:
  pitstop device revoke lamp-0001 --reason stolen
  pitstop device revoke --filter product=lamp,tag=sold

It is final. `pitstop device suspend` refuses a device until it is resumed.";

const DELETE_EXAMPLES: &str = "\
Examples:
  pitstop device delete lamp-0001
  pitstop device revoke lamp-0001 && pitstop device delete lamp-0001 --yes

An enrolled device is revoked first. Its certificates stay refused, and the
audit log keeps its lines; its events go. The id is free again.";

/// What `--health` takes, from good to bad.
const HEALTHS: [Health; 8] = [
    Health::Ok,
    Health::New,
    Health::Updating,
    Health::Silent,
    Health::Unheard,
    Health::Crashing,
    Health::Failing,
    Health::Revoked,
];

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
    #[command(after_help = LIST_EXAMPLES)]
    List(List),

    /// Show one device: what it runs, how it does
    Show(One),

    /// Change channel, tags, note, or the release that it is pinned to
    #[command(after_help = SET_EXAMPLES)]
    Set(Set),

    /// Approve the enrollment of a device, or of all of a filter, where their product asks for that
    Approve(Approve),

    /// Forget the failures of a device: the release is offered to it again
    ClearQuarantine(One),

    /// Revoke a device, or all of a filter, for good: the next request is refused
    #[command(after_help = REVOKE_EXAMPLES)]
    Revoke(Revoke),

    /// Delete a device that is new or revoked, with its events
    Delete(Delete),
    /// Refuse a device, or all of a filter, until it is resumed: lost, lent, or not understood
    Suspend(Revoke),

    /// Take the suspension of a device back
    Resume(One),

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

/// `device delete`.
#[derive(Debug, Args)]
#[command(after_help = DELETE_EXAMPLES)]
pub(crate) struct Delete {
    /// Id of the device
    #[arg(value_name = "ID", value_parser = options::device)]
    id: String,

    #[command(flatten)]
    consent: Consent,

    #[command(flatten)]
    connection: Connection,
}

/// `device list`.
#[derive(Debug, Args)]
pub(crate) struct List {
    /// Only devices of this product
    #[arg(long, value_name = "NAME", value_parser = options::product)]
    product: Option<String>,

    /// Only devices of this channel
    #[arg(long, value_name = "NAME")]
    channel: Option<String>,

    /// Only devices with this tag
    #[arg(long, value_name = "TAG")]
    tag: Option<String>,

    /// Only devices in this state
    #[arg(long, value_name = "STATE", value_parser = options::one_of::<DeviceState>(DeviceState::ALL.map(DeviceState::name)))]
    state: Option<DeviceState>,

    /// Only devices that do like this
    #[arg(long, value_name = "HEALTH", value_parser = options::one_of::<Health>(HEALTHS.map(Health::name)))]
    health: Option<Health>,

    /// Only devices that run the release with this sequence number
    #[arg(long, value_name = "N", value_parser = options::number)]
    sequence: Option<u64>,

    /// Only devices with this in their id
    #[arg(long, value_name = "TEXT")]
    search: Option<String>,

    /// Only devices of which two boards seem to have the identity
    #[arg(long)]
    clone_suspected: bool,

    /// The most entries to list
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = options::limit)]
    limit: usize,

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

/// `device approve`.
#[derive(Debug, Args)]
pub(crate) struct Approve {
    #[command(flatten)]
    which: Which,

    #[command(flatten)]
    consent: Consent,

    #[command(flatten)]
    connection: Connection,
}

/// `device revoke` and `device suspend`.
#[derive(Debug, Args)]
pub(crate) struct Revoke {
    #[command(flatten)]
    which: Which,

    /// Why, for the record
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,

    #[command(flatten)]
    consent: Consent,

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
            Self::Approve(approve) => approve.run(ui),
            Self::ClearQuarantine(One { id, connection }) => {
                let device = connection.client()?.clear_quarantine(&id)?;
                ui.result(&device, || {
                    Page::titled(format!("Forgot the failures of {id}"))
                        .note("The release that failed is offered to it again, as far as a rollout does.")
                })
            }
            Self::Revoke(revoke) => revoke.run(true, ui),
            Self::Suspend(suspend) => suspend.run(false, ui),
            Self::Resume(One { id, connection }) => {
                let device = connection.client()?.resume_device(&id)?;
                ui.result(&device, || {
                    Page::titled(format!("Resumed the device {id}")).note(
                        "Its next request is answered. If its certificate has ended meanwhile, it needs a new enrollment \
                         token (`pitstop device token`) and a new vault.",
                    )
                })
            }
            Self::Delete(Delete { id, consent, connection }) => {
                let client = connection.client()?;
                consent.to(&format!("Delete device {id} and its events?"))?;
                let device = client.delete_device(&id)?;
                ui.result(&device, || {
                    Page::titled(format!("Deleted the device {id}"))
                        .note("Its certificates stay refused, and the audit log keeps its lines.")
                })
            }
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
            Box::new(private_file(path).map_err(cannot)?)
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
            for NewToken { id, enrollment_token } in client.create_devices(&devices)? {
                writeln!(out, "{id},{enrollment_token}").map_err(cannot)?;
            }
            out.flush().map_err(cannot)?;
            made += devices.count.unsigned_abs();
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

impl Approve {
    fn run(self, ui: &Ui) -> Result<(), Failure> {
        let Self { which, consent, connection } = self;
        let client = connection.client()?;
        match which.choose()? {
            Chosen::One(id) => {
                let device = client.approve_device(&id)?;
                ui.result(&device, || {
                    Page::titled(format!("Approved the enrollment of {id}"))
                        .note("It gets its certificate when it asks again.")
                })
            }
            Chosen::All(filter) => {
                let body = |Part { filter, expect, cursor }| ApproveBulkBody { filter, expect, cursor };
                let bulk = Bulk { client: &client, action: "approve", filter, body };
                let outcome = bulk.run(|what| format!("Approve the enrollment of {what}?"), &consent, ui)?;
                ui.result(&outcome, || {
                    Page::titled(format!("Approved the enrollment of {}", devices(outcome.changed)))
                        .note(outcome.others("approved or revoked"))
                })
            }
        }
    }
}

impl Revoke {
    /// For good, or until it is resumed.
    fn run(self, is_final: bool, ui: &Ui) -> Result<(), Failure> {
        let Self { which, reason, consent, connection } = self;
        let client = connection.client()?;
        let (verb, done, meaning) = match is_final {
            true => (
                "Revoke",
                "Revoked",
                "It is final: who is revoked gets no updates and comes back under another id alone. `pitstop device \
                 suspend` can be taken back.",
            ),
            false => ("Suspend", "Suspended", "Who is suspended gets no updates until it is resumed."),
        };
        match which.choose()? {
            Chosen::One(id) => {
                if is_final {
                    let product = client.device(&id)?.product;
                    consent.to(&format!("Revoke 1 device of product {product}, {id}? {meaning}"))?;
                }
                let device = match is_final {
                    true => client.revoke_device(&id, reason.as_deref())?,
                    false => client.suspend_device(&id, reason.as_deref())?,
                };
                ui.result(&device, || {
                    let page = Page::titled(format!("{done} the device {id}")).note(
                        "Its next request is refused. The application it runs goes on running; it gets no updates.",
                    );
                    if is_final {
                        page
                    } else {
                        page.next("To take it back:", [format!("pitstop device resume {id}")])
                    }
                })
            }
            Chosen::All(filter) => {
                let body = |Part { filter, expect, cursor }| {
                    let reason = reason.clone();
                    RevokeBulkBody { filter, expect, cursor, reason, suspend: !is_final }
                };
                let bulk = Bulk { client: &client, action: "revoke", filter, body };
                let outcome = bulk.run(|what| format!("{verb} {what}? {meaning}"), &consent, ui)?;
                ui.result(&outcome, || {
                    Page::titled(format!("{done} {}", devices(outcome.changed)))
                        .note(outcome.others("revoked"))
                })
            }
        }
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
                return ui.result(&outcome, || Page::titled(format!("Changed {}", devices(outcome.changed))));
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

impl List {
    fn run(self, ui: &Ui) -> Result<(), Failure> {
        let Self {
            product,
            channel,
            tag,
            state,
            health,
            sequence,
            search,
            clone_suspected,
            limit,
            connection,
        } = self;
        let filter = ListParams {
            product: product.unwrap_or_default(),
            channel: channel.unwrap_or_default(),
            tag: tag.unwrap_or_default(),
            state,
            health,
            sequence: sequence.map(options::signed),
            q: search.unwrap_or_default(),
            clone_suspected,
            ..ListParams::default()
        };
        let devices = connection.client()?.devices(&filter, limit)?;
        ui.result(&devices, || {
            if devices.items.is_empty() {
                return empty(&filter);
            }
            let now = OffsetDateTime::now_utc();
            let rows = devices.items.iter().map(|device| row(device, now));
            let headers = ["ID", "PRODUCT", "CHANNEL", "HEALTH", "RUNS", "LAST SEEN", "LAST OUTCOME"];
            let page = Page::plain().table(headers, rows);
            if devices.next_cursor.is_some() { page.more(limit) } else { page }
        })
    }
}

fn empty(filter: &ListParams) -> Page {
    let all = ListParams { product: filter.product.clone(), ..ListParams::default() };
    if *filter != all {
        return Page::plain().next("No such devices. All of them:", ["pitstop device list"]);
    }
    let product = if filter.product.is_empty() { "NAME" } else { &filter.product };
    Page::plain().next("No devices yet. Make one:", [format!("pitstop device new --product {product}")])
}

/// A new file that holds secrets.
fn private_file(path: &Path) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    options.create_new(true).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
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

fn row(device: &Device, now: OffsetDateTime) -> [Cell; 7] {
    let runs = device.running.as_ref().map(|running| {
        running.version.clone().unwrap_or_else(|| crate::ui::short_digest(&running.digest).to_owned())
    });
    [
        Cell::from(&device.id),
        Cell::from(&device.product),
        Cell::from(&device.channel),
        Cell::new(health_tone(device.health), device.health.name()),
        Cell::or_dash(runs),
        device
            .last_seen_at
            .as_deref()
            .map_or_else(|| Cell::new(Tone::Dim, "never"), |at| ago(at, now).into()),
        device.last_outcome.as_ref().map_or_else(|| Cell::or_dash(None::<String>), outcome),
    ]
}

fn device_page(device: &Device, heading: String, now: OffsetDateTime) -> Page {
    let moment =
        |at: &Option<String>| Cell::or_dash(at.as_deref().map(|at| format!("{at} ({})", ago(at, now))));
    let number = |number: Option<i64>| Cell::or_dash(number.map(|number| number.to_string()));
    let mut facts = vec![
        ("product", Cell::from(&device.product)),
        ("state", state(device)),
        ("health", Cell::new(health_tone(device.health), device.health.name())),
        ("channel", Cell::from(&device.channel)),
        ("tags", Cell::or_dash(Some(device.tags.join(", ")))),
        ("note", Cell::or_dash(Some(&device.note))),
        ("made", moment(&Some(device.created_at.clone()))),
        ("enrolled", moment(&device.enrolled_at)),
        ("last seen", moment(&device.last_seen_at)),
    ];
    if device.revoked_at.is_some() {
        facts.push((if device.suspended { "suspended" } else { "revoked" }, moment(&device.revoked_at)));
        facts.push(("because", Cell::or_dash(device.revoked_reason.as_ref())));
    }
    if let Some(certificate) = &device.certificate {
        facts.push((
            "certificate",
            Cell::from(format!("{} until {}", certificate.serial, certificate.not_after)),
        ));
    }
    if let Some(sequence) = device.pinned_sequence {
        facts.push(("pinned to", Cell::new(Tone::Warn, format!("#{sequence}"))));
    }
    if let Some(attempt) = &device.attempt {
        let sequence = attempt.sequence.map_or_else(String::new, |sequence| format!("#{sequence} "));
        let rollout = attempt.rollout.as_ref().map_or_else(String::new, |id| format!(" (rollout {id})"));
        facts.push(("offered", format!("{sequence}{}{rollout}", attempt.state).into()));
    }
    if let Some(Failures { sequence, count }) = device.failures {
        facts.push(("failures", Cell::new(Tone::Warn, format!("{count} of #{sequence}"))));
    }
    if let Some(quarantine) = &device.quarantine {
        let since = ago(&quarantine.since, now);
        let text = format!("not offered again, since {since}; pitstop device clear-quarantine {}", device.id);
        facts.push(("quarantine", Cell::new(Tone::Bad, text)));
    }
    if let Some(refused) = &device.certificate_refused {
        let at = ago(&refused.at, now);
        let text = match refused.cause.as_str() {
            "certificate-ended" => format!("its certificate has ended, {at}; it may renew it, and did not"),
            cause => format!("{cause}, {at}; pitstop device token {}", device.id),
        };
        facts.push(("refused", Cell::new(Tone::Bad, text)));
    }
    if let Some(since) = &device.clone_suspected_since {
        let since = ago(since, now);
        let text = format!(
            "two boards seem to have its identity, since {since}; pitstop device token {}",
            device.id
        );
        facts.push(("clone", Cell::new(Tone::Bad, text)));
    }
    let page = Page::titled(heading).facts(facts);
    if device.last_seen_at.is_none() {
        return page.note("It has not checked in yet.");
    }
    let running = device.running.as_ref();
    page.facts([
        ("runs", Cell::or_dash(running.and_then(|running| running.version.as_ref()))),
        ("sequence", number(running.and_then(|running| running.sequence))),
        ("digest", Cell::or_dash(running.map(|running| &running.digest))),
        (
            "outcome",
            device.last_outcome.as_ref().map_or_else(|| Cell::or_dash(None::<String>), outcome_at_length),
        ),
        ("reset cause", Cell::or_dash(device.reset_cause.as_ref())),
        ("starts", number(device.starts)),
        ("critical errors", number(device.critical_errors)),
        ("the last one", Cell::or_dash(device.last_critical.map(reason))),
        ("free heap", Cell::or_dash(device.free_heap_bytes.map(|count| bytes(count.unsigned_abs())))),
        ("updater", Cell::or_dash(device.updater_version.as_ref())),
    ])
}

fn events_table(page: Page, events: &[Event], now: OffsetDateTime) -> Page {
    if events.is_empty() {
        return page;
    }
    let rows = events.iter().map(|event| {
        [Cell::new(Tone::Dim, ago(&event.at, now)), Cell::from(&event.kind), detail(&event.detail).into()]
    });
    page.table(["WHEN", "EVENT", "DETAIL"], rows)
}

/// An event's detail in one line: `sequence 2, reason installed, attempt (state installed)`.
fn detail(detail: &Value) -> String {
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Object(_) => format!("({})", self::detail(value)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) => value.to_string(),
    };
    let Some(fields) = detail.as_object() else { return text(detail) };
    let fields = fields.iter().filter(|(_, value)| !value.is_null());
    fields.map(|(name, value)| format!("{name} {}", text(value))).collect::<Vec<_>>().join(", ")
}

/// The name of a reason code; the code itself when it is newer than this version.
fn reason(code: i64) -> String {
    known_reason(code).map_or_else(|| code.to_string(), |reason| reason.name().to_owned())
}

fn known_reason(code: i64) -> Option<Reason> {
    u16::try_from(code).ok().and_then(Reason::from_code)
}

fn state(device: &Device) -> Cell {
    match device.state {
        DeviceState::Revoked if device.suspended => Cell::new(Tone::Warn, "suspended"),
        DeviceState::New => Cell::new(Tone::Warn, "new"),
        DeviceState::Enrolled => Cell::new(Tone::Good, "enrolled"),
        DeviceState::Revoked => Cell::new(Tone::Bad, "revoked"),
    }
}

fn outcome_tone(outcome: &Outcome) -> Tone {
    if known_reason(outcome.code) == Some(Reason::Installed) { Tone::Good } else { Tone::Warn }
}

fn outcome(outcome: &Outcome) -> Cell {
    Cell::new(outcome_tone(outcome), &outcome.reason)
}

/// With the sentence of the reason, when this version knows it.
fn outcome_at_length(outcome: &Outcome) -> Cell {
    let text = known_reason(outcome.code).map_or_else(String::new, |reason| format!(": {}", reason.text()));
    let release = outcome.sequence.map_or_else(String::new, |sequence| format!(" (release #{sequence})"));
    Cell::new(outcome_tone(outcome), format!("{}{text}{release}", outcome.reason))
}
