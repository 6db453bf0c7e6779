//! `pitstop ca`: the certificate authority of devices and server, and the next one.

use api::ca::{Ca, Left};
use clap::{Args, Subcommand};

use crate::client::Connection;
use crate::commands::consent::{Consent, devices};
use crate::failure::Failure;
use crate::ui::{Cell, Page, Tone, Ui};

const ROLLOVER_EXAMPLES: &str = "\
Examples:
  pitstop ca rollover begin      make the next CA; devices learn it with their check-ins
  pitstop ca status              which devices are left
  pitstop ca rollover switch     the server shows a certificate of the new CA
  pitstop ca rollover finish     the old CA is no longer accepted

docs/certificates.md has the whole of it.";

/// The CA.
#[derive(Debug, Subcommand)]
pub(crate) enum CaCommand {
    /// Show which CAs are in force, and what is left to do in a rollover
    Status(Status),

    /// Replace the CA by another one, step by step
    #[command(subcommand, after_help = ROLLOVER_EXAMPLES)]
    Rollover(Rollover),
}

/// `ca status`.
#[derive(Debug, Args)]
pub(crate) struct Status {
    #[command(flatten)]
    connection: Connection,
}

/// `ca rollover`.
#[derive(Debug, Subcommand)]
pub(crate) enum Rollover {
    /// Make the next CA: devices learn it with their check-ins, and get certificates of it
    Begin(Begin),

    /// Show devices a certificate of the new CA; refused while devices do not trust it yet
    Switch(Step),

    /// Drop the old CA; refused while devices need it
    Finish(Step),
}

/// `ca rollover begin`.
#[derive(Debug, Args)]
pub(crate) struct Begin {
    #[command(flatten)]
    consent: Consent,

    #[command(flatten)]
    connection: Connection,
}

/// `ca rollover switch` and `finish`.
#[derive(Debug, Args)]
pub(crate) struct Step {
    /// Go on although devices are left behind: they need a new vault then
    #[arg(long)]
    force: bool,

    #[command(flatten)]
    consent: Consent,

    #[command(flatten)]
    connection: Connection,
}

impl CaCommand {
    /// Runs the command.
    pub(crate) fn run(self, ui: &Ui) -> Result<(), Failure> {
        let (ca, title) = match self {
            Self::Status(Status { connection }) => (connection.client()?.ca()?, None),
            Self::Rollover(Rollover::Begin(Begin { consent, connection })) => {
                let client = connection.client()?;
                consent.to(
                    "Make the next CA? It is not taken back: from now on devices learn it and get certificates of it.",
                )?;
                (client.begin_ca_rollover()?, Some("The next CA is made"))
            }
            Self::Rollover(Rollover::Switch(Step { force, consent, connection })) => {
                let client = connection.client()?;
                let left = left(&client.ca()?, |behind| behind.without_new_anchor);
                consent.to(&format!(
                    "Show devices a certificate of the new CA? {left} do not trust it yet, as far as they have told, and \
                     need a new vault then."
                ))?;
                let ca = client.step_ca_rollover("switch", force)?;
                (ca, Some("The server shows a certificate of the new CA"))
            }
            Self::Rollover(Rollover::Finish(Step { force, consent, connection })) => {
                let client = connection.client()?;
                let left =
                    left(&client.ca()?, |behind| behind.with_old_certificate.max(behind.without_new_anchor));
                consent.to(&format!(
                    "Drop the old CA? It is final: {left} need it still, as far as they have told, and need a new vault \
                     then."
                ))?;
                let ca = client.step_ca_rollover("finish", force)?;
                (ca, Some("The old CA is no longer in force"))
            }
        };
        ui.result(&ca, || page(&ca, title))
    }
}

/// So many devices, of those that the next step would leave behind.
fn left(ca: &Ca, count: impl Fn(&Left) -> i64) -> String {
    devices(ca.behind.as_ref().map_or(0, count).unsigned_abs())
}

fn page(ca: &Ca, title: Option<&str>) -> Page {
    let rows = ca.anchors.iter().map(|anchor| {
        let issues = match (anchor.issues_for_devices, anchor.issues_for_server) {
            (true, true) => "devices, server",
            (true, false) => "devices",
            (false, true) => "server",
            (false, false) => "-",
        };
        let short = anchor.fingerprint.get(..16).unwrap_or(&anchor.fingerprint);
        [Cell::from(short), Cell::from(issues), Cell::from(&anchor.not_after)]
    });
    let page = title.map_or_else(Page::plain, Page::titled).table(["CA", "ISSUES FOR", "VALID UNTIL"], rows);
    let page = page.facts([("server's certificate", Cell::from(&ca.server_not_after))]);
    let page = ca.notices.iter().fold(page, |page, notice| page.toned_note(Tone::Warn, notice));
    let Some(behind) = &ca.behind else { return page };
    let count =
        |devices: i64| Cell::new(if devices == 0 { Tone::Good } else { Tone::Warn }, devices.to_string());
    let examples = Some(behind.examples.join(", ")).filter(|examples| !examples.is_empty());
    let mut facts = vec![
        ("rollover", Cell::from(&ca.phase)),
        ("devices without the new anchor", count(behind.without_new_anchor)),
        ("devices with an old certificate", count(behind.with_old_certificate)),
        ("such as", Cell::or_dash(examples.as_ref())),
    ];
    for (what, count, examples) in [
        ("suspended devices", behind.suspended, &behind.suspended_examples),
        ("with an ended certificate", behind.ended, &behind.ended_examples),
    ] {
        if count > 0 {
            let named = examples.join(", ");
            let text = format!("{count} ({named}): no step waits for them, and then they need a new vault");
            facts.push((what, Cell::new(Tone::Warn, text)));
        }
    }
    facts.push(("next", Cell::from(&ca.next)));
    page.facts(facts)
}
