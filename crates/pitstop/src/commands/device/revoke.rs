//! `pitstop device revoke`, `suspend` and `resume`.

use api::bulk::{BulkBody, RevokeBulkBody};
use api::device::{Device, DeviceState};
use clap::Args;
use time::OffsetDateTime;

use super::bulk::{Act, Bulk, Chosen, Part, Which};
use crate::client::Connection;
use crate::commands::consent::{Consent, devices};
use crate::failure::Failure;
use crate::ui::{Page, Ui, ago};

pub(super) const EXAMPLES: &str = "\
Examples:
  pitstop device revoke lamp-0001 --reason stolen
  pitstop device revoke --filter product=lamp,tag=sold

It is final. `pitstop device suspend` refuses a device until it is resumed.";

pub(super) const RESUME_EXAMPLES: &str = "\
Examples:
  pitstop device resume lamp-0001
  pitstop device resume --filter product=lamp
  pitstop device resume --filter product=lamp,tag=lent";

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

impl Revoke {
    /// For good, or until it is resumed.
    pub(super) fn run(self, is_final: bool, ui: &Ui) -> Result<(), Failure> {
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
                let before = client.device(&id)?;
                if is_over(&before, is_final) {
                    return ui.result(&before, || unchanged(&before));
                }
                if is_final {
                    let product = &before.product;
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
                let all_of_it = filter.product.clone();
                let body = |Part { filter, expect, cursor }| {
                    let reason = reason.clone();
                    RevokeBulkBody { filter, expect, cursor, reason, suspend: !is_final }
                };
                let bulk = Bulk { client: &client, action: "revoke", filter, body };
                let outcome = bulk.run(|what| format!("{verb} {what}? {meaning}"), &consent, ui)?;
                ui.result(&outcome, || {
                    let others = if is_final { "revoked" } else { "suspended or revoked" };
                    let page = Page::titled(format!("{done} {}", devices(outcome.changed)))
                        .note(outcome.others(others));
                    if is_final {
                        page
                    } else {
                        let command = format!("pitstop device resume --filter product={all_of_it}");
                        page.next("To take back all suspensions of the product:", [command])
                    }
                })
            }
        }
    }
}

pub(super) fn resume(act: Act, ui: &Ui) -> Result<(), Failure> {
    let Act { which, consent, connection } = act;
    let client = connection.client()?;
    let meaning = "Its next request is answered. If its certificate has ended meanwhile, it renews it.";
    match which.choose()? {
        Chosen::One(id) => {
            let before = client.device(&id)?;
            if before.revoked_at.is_none() {
                return ui.result(&before, || {
                    Page::titled(format!("The device {id} is not suspended"))
                        .note("Nothing was changed: its requests are answered.")
                });
            }
            let device = client.resume_device(&id)?;
            ui.result(&device, || Page::titled(format!("Resumed the device {id}")).note(meaning))
        }
        Chosen::All(mut filter) => {
            // So that as many are asked about as there are to resume.
            filter.suspended = true;
            let body = |Part { filter, expect, cursor }| BulkBody { filter, expect, cursor };
            let bulk = Bulk { client: &client, action: "resume", filter, body };
            let question = |what: &str| format!("Resume {what}, all that are suspended of the filter?");
            let outcome = bulk.run(question, &consent, ui)?;
            ui.result(&outcome, || {
                let page = Page::titled(format!("Resumed {}", devices(outcome.changed)));
                match outcome.changed {
                    0 => page.note("No device of the filter is suspended."),
                    _ => page.note(
                        "Their next requests are answered. Whose certificate has ended meanwhile renews it.",
                    ),
                }
            })
        }
    }
}

/// Whether there is nothing left to do; a suspension of what is revoked is refused by the server.
fn is_over(device: &Device, is_final: bool) -> bool {
    device.state == DeviceState::Revoked && device.suspended != is_final
}

/// What is said of a device that was revoked or suspended before.
fn unchanged(device: &Device) -> Page {
    let how = if device.suspended { "suspended" } else { "revoked" };
    let now = OffsetDateTime::now_utc();
    let since = device.revoked_at.as_deref().map(|at| ago(at, now)).unwrap_or_default();
    let because = device.revoked_reason.as_deref().unwrap_or_default();
    Page::titled(format!("The device {} is {how} already", device.id))
        .note(format!("Nothing was changed: it is {how} since {since}, because: {because}"))
}
