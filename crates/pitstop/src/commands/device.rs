//! `pitstop device`: which devices there are, and how they do.

use clap::{Args, Subcommand};
use serde_json::Value;
use time::OffsetDateTime;
use wire::Reason;

use crate::client::types::{Device, DeviceState, Event, NewDevice, Outcome};
use crate::client::{Client, Connection};
use crate::commands::options;
use crate::failure::Failure;
use crate::ui::{Cell, Page, Tone, Ui, ago, bytes};

const NEW_EXAMPLES: &str = "\
Examples:
  pitstop device new --product lamp
  pitstop device new --product lamp --id lamp-0001 --note 'kitchen, left'
  pitstop device new --product lamp --json | jq -r .enrollment_token";

/// As many of its newest events stand below a device.
const SHOWN_EVENTS: usize = 8;

/// Devices.
#[derive(Debug, Subcommand)]
pub(crate) enum DeviceCommand {
    /// Make a device id with a one-time enrollment token
    #[command(after_help = NEW_EXAMPLES)]
    New(New),

    /// List the devices
    List(List),

    /// Show one device: what it runs, how it does
    Show(One),

    /// Revoke a device: its next request is refused
    Revoke(Revoke),

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

    #[command(flatten)]
    connection: Connection,
}

/// `device list`.
#[derive(Debug, Args)]
pub(crate) struct List {
    /// Only devices of this product
    #[arg(long, value_name = "NAME", value_parser = options::product)]
    product: Option<String>,

    /// The most entries to list
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = options::limit)]
    limit: usize,

    #[command(flatten)]
    connection: Connection,
}

/// `device show` and `device token`.
#[derive(Debug, Args)]
pub(crate) struct One {
    /// The device's id
    #[arg(value_name = "ID", value_parser = options::device)]
    id: String,

    #[command(flatten)]
    connection: Connection,
}

/// `device revoke`.
#[derive(Debug, Args)]
pub(crate) struct Revoke {
    /// The device's id
    #[arg(value_name = "ID", value_parser = options::device)]
    id: String,

    /// Why, for the record
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,

    #[command(flatten)]
    connection: Connection,
}

impl DeviceCommand {
    /// Runs the command.
    pub(crate) fn run(self, ui: &Ui) -> Result<(), Failure> {
        match self {
            Self::New(new) => new.run(ui),
            Self::List(list) => list.run(ui),
            Self::Show(One { id, connection }) => {
                let client = connection.client()?;
                let (device, events) = (client.device(&id)?, client.device_events(&id, SHOWN_EVENTS)?.items);
                ui.result(&device, || {
                    let now = OffsetDateTime::now_utc();
                    events_table(device_page(&device, format!("Device {id}"), now), &events, now)
                })
            }
            Self::Revoke(Revoke { id, reason, connection }) => {
                let device = connection.client()?.revoke_device(&id, reason.as_deref())?;
                ui.result(&device, || {
                    Page::titled(format!("Revoked the device {id}")).note(
                        "Its next request is refused. The application it runs goes on running; it gets no updates.",
                    )
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
        let Self { product, id, note, connection } = self;
        let client = connection.client()?;
        let issued = client.create_device(&NewDevice { id, product, note })?;
        let device = &issued.subject;
        ui.result(&issued, || {
            let heading = format!("Made the device {} of product {}", device.id, device.product);
            enrollment_page(&client, heading, &device.id, &issued.enrollment_token)
        })
    }
}

impl List {
    fn run(self, ui: &Ui) -> Result<(), Failure> {
        let devices = self.connection.client()?.devices(self.product.as_deref(), self.limit)?;
        ui.result(&devices, || {
            if devices.items.is_empty() {
                let product = self.product.as_deref().unwrap_or("NAME");
                return Page::plain()
                    .next("No devices yet. Make one:", [format!("pitstop device new --product {product}")]);
            }
            let now = OffsetDateTime::now_utc();
            let rows = devices.items.iter().map(|device| row(device, now));
            let headers = ["ID", "PRODUCT", "STATE", "RUNS", "LAST SEEN", "LAST OUTCOME"];
            let page = Page::plain().table(headers, rows);
            if devices.next_cursor.is_some() { page.more(self.limit) } else { page }
        })
    }
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
            "The token is shown this once, and the device uses it once. Put id, token, URL, the server's CA \
             (ca/ca.pem in its data directory) and the product's publisher keys into the device's vault; it \
             enrolls at its first start.",
        )
        .next(
            "Afterwards:",
            [
                format!("pitstop device show {id}"),
                format!("pitstop device token {id}   # a new token, if this one is lost"),
            ],
        )
}

fn row(device: &Device, now: OffsetDateTime) -> [Cell; 6] {
    let runs = device.running.as_ref().map(|running| {
        running.version.clone().unwrap_or_else(|| crate::ui::short_digest(&running.digest).to_owned())
    });
    [
        Cell::from(&device.id),
        Cell::from(&device.product),
        state(device.state),
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
    let number = |number: Option<u64>| Cell::or_dash(number.map(|number| number.to_string()));
    let mut facts = vec![
        ("product", Cell::from(&device.product)),
        ("state", state(device.state)),
        ("note", Cell::or_dash(device.note.as_ref())),
        ("made", moment(&Some(device.created_at.clone()))),
        ("enrolled", moment(&device.enrolled_at)),
        ("last seen", moment(&device.last_seen_at)),
    ];
    if device.revoked_at.is_some() {
        facts.push(("revoked", moment(&device.revoked_at)));
        facts.push(("because", Cell::or_dash(device.revoked_reason.as_ref())));
    }
    if let Some(certificate) = &device.certificate {
        facts.push((
            "certificate",
            Cell::from(format!("{} until {}", certificate.serial, certificate.not_after)),
        ));
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
        ("free heap", Cell::or_dash(device.free_heap_bytes.map(bytes))),
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

/// An event's detail in one line: `sequence 2, reason installed`.
fn detail(detail: &Value) -> String {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let Some(fields) = detail.as_object() else { return text(detail) };
    let fields = fields.iter().filter(|(_, value)| !value.is_null());
    fields.map(|(name, value)| format!("{name} {}", text(value))).collect::<Vec<_>>().join(", ")
}

/// The name of a reason code; the code itself when it is newer than this version.
fn reason(code: u16) -> String {
    Reason::from_code(code).map_or_else(|| code.to_string(), |reason| reason.name().to_owned())
}

fn state(state: DeviceState) -> Cell {
    match state {
        DeviceState::New => Cell::new(Tone::Warn, "new"),
        DeviceState::Enrolled => Cell::new(Tone::Good, "enrolled"),
        DeviceState::Revoked => Cell::new(Tone::Bad, "revoked"),
    }
}

fn outcome_tone(outcome: &Outcome) -> Tone {
    if outcome.code == Reason::Installed.code() { Tone::Good } else { Tone::Warn }
}

fn outcome(outcome: &Outcome) -> Cell {
    Cell::new(outcome_tone(outcome), &outcome.reason)
}

/// With the sentence of the reason, when this version knows it.
fn outcome_at_length(outcome: &Outcome) -> Cell {
    let text =
        Reason::from_code(outcome.code).map_or_else(String::new, |reason| format!(": {}", reason.text()));
    let release = outcome.sequence.map_or_else(String::new, |sequence| format!(" (release #{sequence})"));
    Cell::new(outcome_tone(outcome), format!("{}{text}{release}", outcome.reason))
}
