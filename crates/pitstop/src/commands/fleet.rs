//! `pitstop fleet`: how all devices do.

use api::device::Health;
use api::fleet::{Certificates, Summary};
use api::rollout::Rollout;
use clap::{Args, Subcommand};

use crate::client::{Client, Connection};
use crate::commands::{options, rollout};
use crate::failure::Failure;
use crate::ui::{Cell, Page, Tone, Ui};

/// Columns of a bar that stands for all devices.
const BAR_COLUMNS: i64 = 30;

/// As many rollouts that are under way are shown.
const SHOWN_ROLLOUTS: usize = 20;

/// The fleet.
#[derive(Debug, Subcommand)]
pub(crate) enum FleetCommand {
    /// Show devices by health and by what they run, and the rollouts that are under way
    Status(Status),
}

/// `fleet status`.
#[derive(Debug, Args)]
pub(crate) struct Status {
    /// Only this product
    #[arg(long, value_name = "NAME", value_parser = options::product)]
    product: Option<String>,

    #[command(flatten)]
    connection: Connection,
}

impl FleetCommand {
    /// Runs the command.
    pub(crate) fn run(self, ui: &Ui) -> Result<(), Failure> {
        match self {
            Self::Status(Status { product, connection }) => {
                let client = connection.client()?;
                let summary = client.fleet_summary(product.as_deref())?;
                let rollouts = active(&client, &summary)?;
                ui.result(&summary, || page(&summary, &rollouts))
            }
        }
    }
}

fn active(client: &Client, summary: &Summary) -> Result<Vec<Rollout>, Failure> {
    let ids = summary.active_rollouts.iter().take(SHOWN_ROLLOUTS);
    Ok(ids.map(|id| client.rollout(id)).collect::<Result<_, _>>()?)
}

fn page(summary: &Summary, rollouts: &[Rollout]) -> Page {
    if summary.devices == 0 {
        return Page::plain().next("No devices yet. Make one:", ["pitstop device new --product NAME"]);
    }
    let page = Page::titled("Fleet").facts([
        ("devices", Cell::from(summary.devices.to_string())),
        ("seen within a day", Cell::from(summary.seen_last_24h.to_string())),
    ]);
    let page = certificates(page, summary);
    let health = summary.by_health.iter().filter(|(_, devices)| **devices > 0).map(|(name, devices)| {
        // A health of a newer server is one to look at.
        let tone = name.parse().map_or(Tone::Warn, health_tone);
        [Cell::new(tone, name), devices.to_string().into(), bar(tone, *devices, summary.devices)]
    });
    let releases = summary.by_release.iter().map(|release| {
        let number = release.sequence.map(|sequence| format!("#{sequence}"));
        let version = release.version.as_deref();
        [
            Cell::from(&release.product),
            Cell::or_dash(version.or(number.as_deref())),
            release.devices.to_string().into(),
            bar(Tone::Command, release.devices, summary.devices),
        ]
    });
    let page =
        page.table(["HEALTH", "DEVICES", ""], health).table(["PRODUCT", "RUNS", "DEVICES", ""], releases);
    if rollouts.is_empty() {
        return page;
    }
    let rows = rollouts.iter().map(|each| {
        [
            Cell::from(&each.id),
            format!("{} {}", each.product, each.release.version).into(),
            rollout::state(each.state),
            Cell::from(&each.next),
        ]
    });
    page.table(["ROLLOUT", "RELEASE", "STATE", "NEXT"], rows)
}

/// Devices whose certificate asks for a look, and how to see which they are.
fn certificates(page: Page, summary: &Summary) -> Page {
    let Certificates { ended, ending, refused } = summary.certificates;
    let mut page = page;
    for (what, devices, option) in [
        ("certificate has ended", ended, "--certificate-ends-within 0d"),
        ("certificate ends within 30 days", ended + ending, "--certificate-ends-within 30d"),
        ("refused with an ended certificate", refused, "--certificate-refused"),
    ] {
        if devices > 0 {
            let text = format!("{devices}: pitstop device list {option}");
            page = page.facts([(what, Cell::new(Tone::Warn, text))]);
        }
    }
    page
}

/// What is there at all is shown.
fn bar(tone: Tone, part: i64, whole: i64) -> Cell {
    let whole = whole.max(1);
    let columns = (part * BAR_COLUMNS + whole - 1) / whole;
    Cell::new(tone, "█".repeat(usize::try_from(columns).unwrap_or_default()))
}

/// The colour of a health, which `device` shows too.
pub(super) fn health_tone(health: Health) -> Tone {
    match health {
        Health::Ok => Tone::Good,
        Health::New | Health::Updating => Tone::Plain,
        Health::Silent | Health::Unheard | Health::Suspended => Tone::Warn,
        Health::Crashing | Health::Failing | Health::Revoked => Tone::Bad,
    }
}
