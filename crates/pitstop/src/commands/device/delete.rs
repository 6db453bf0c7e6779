//! `pitstop device delete`.

use api::bulk::BulkBody;

use super::bulk::{Act, Bulk, Chosen, NONE, Part};
use crate::commands::consent::devices;
use crate::failure::Failure;
use crate::ui::{Page, Ui};

pub(super) const EXAMPLES: &str = "\
Examples:
  pitstop device delete lamp-0001
  pitstop device revoke lamp-0001 && pitstop device delete lamp-0001 --yes
  pitstop device delete --filter product=lamp,state=revoked

An enrolled device is revoked first; of a filter those that are enrolled or
suspended are left. Certificates stay refused, and the audit log keeps its
lines; events go. The ids are free again.";

/// What becomes of who is deleted.
const KEPT: &str = "Certificates stay refused, and the audit log keeps its lines.";

pub(super) fn run(act: Act, ui: &Ui) -> Result<(), Failure> {
    let Act { which, consent, connection } = act;
    let client = connection.client()?;
    match which.choose()? {
        Chosen::One(id) => {
            consent.to(&format!("Delete device {id} and its events?"))?;
            let device = client.delete_device(&id)?;
            ui.result(&device, || Page::titled(format!("Deleted the device {id}")).note(KEPT))
        }
        Chosen::All(filter) => {
            let body = |Part { filter, expect, cursor }| BulkBody { filter, expect, cursor };
            let bulk = Bulk { client: &client, action: "delete", filter, body };
            let question = |what: &str| {
                format!("Delete {what} and their events? Those that are enrolled or suspended are left.")
            };
            let outcome = bulk.run(question, &consent, ui)?;
            ui.result(&outcome, || {
                    let kept = if outcome.count == 0 { NONE } else { KEPT };
                    let page = Page::titled(format!("Deleted {}", devices(outcome.changed))).note(kept);
                    match outcome.count - outcome.changed {
                        0 => page,
                        left => page.note(format!(
                            "Of those that fit the filter, {} are enrolled or suspended, and left: `pitstop device revoke` \
                             with the same --filter comes first.",
                            devices(left)
                        )),
                    }
                })
        }
    }
}
