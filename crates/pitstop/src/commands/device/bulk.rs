//! All devices of a filter at once.

use std::collections::BTreeMap;

use api::UnknownName;
use api::bulk::Selection;
use clap::Args;
use serde::Serialize;

use crate::client::{Client, Connection};
use crate::commands::consent::{Consent, devices};
use crate::commands::options;
use crate::failure::Failure;
use crate::ui::Ui;

/// The server does no more at once.
const PART: u64 = 1000;

/// What `--filter` may name.
const KEYS: [&str; 11] = [
    "product",
    "channel",
    "tag",
    "state",
    "health",
    "sequence",
    "search",
    "suspended",
    "clone-suspected",
    "certificate-refused",
    "certificate-ends-within",
];

/// One device, or all of a filter.
#[derive(Debug, Args)]
pub(crate) struct Which {
    /// The device's id
    #[arg(value_name = "ID", value_parser = options::device, required_unless_present = "filter")]
    id: Option<String>,

    /// All devices that fit, as `device list` finds them: product=lamp,health=silent
    #[arg(long, value_name = "KEY=VALUE,…", value_parser = filter, conflicts_with = "id")]
    filter: Option<Selection>,
}

/// What is done to devices without more to say: approving, resuming, deleting.
#[derive(Debug, Args)]
pub(crate) struct Act {
    #[command(flatten)]
    pub(super) which: Which,

    #[command(flatten)]
    pub(super) consent: Consent,

    #[command(flatten)]
    pub(super) connection: Connection,
}

/// What [`Which`] says.
pub(super) enum Chosen {
    One(String),
    All(Selection),
}

impl Which {
    pub(super) fn choose(self) -> Result<Chosen, Failure> {
        match (self.id, self.filter) {
            (Some(id), _) => Ok(Chosen::One(id)),
            (None, Some(filter)) => Ok(Chosen::All(filter)),
            (None, None) => Err(Failure::usage("expected a device's ID or --filter, found neither")),
        }
    }
}

/// What is said when there was nothing to do it to.
pub(super) const NONE: &str = "No device fits the filter.";

/// What was done.
#[derive(Debug, Serialize)]
pub(super) struct Outcome {
    /// How many fit the filter.
    pub(super) count: u64,
    /// How many were changed; with the others there was nothing left to do.
    pub(super) changed: u64,
}

impl Outcome {
    /// What is said of those that were not changed.
    pub(super) fn others(&self, what: &str) -> String {
        match self.count - self.changed {
            _ if self.count == 0 => NONE.to_owned(),
            0 => "That is all that fit the filter.".to_owned(),
            others => format!("Of those that fit the filter, {} were {what} before.", devices(others)),
        }
    }
}

/// What every request is told: of which devices, how many there are, and where it goes on.
pub(super) struct Part {
    pub(super) filter: Selection,
    pub(super) expect: Option<i64>,
    pub(super) cursor: String,
}

/// The same for all devices of a filter.
pub(super) struct Bulk<'a, F> {
    pub(super) client: &'a Client,
    /// As the API names it.
    pub(super) action: &'static str,
    pub(super) filter: Selection,
    /// The request for a part.
    pub(super) body: F,
}

impl<F: Fn(Part) -> B, B: Serialize> Bulk<'_, F> {
    /// Counts the devices, asks about them, and does it: to as many as were asked about, or to none.
    pub(super) fn run(
        self,
        question: impl FnOnce(&str) -> String,
        consent: &Consent,
        ui: &Ui,
    ) -> Result<Outcome, Failure> {
        let part = |expect: Option<u64>, cursor| {
            (self.body)(Part { filter: self.filter.clone(), expect: expect.map(options::signed), cursor })
        };
        let count = self.client.bulk(self.action, &part(None, String::new()))?.count.unsigned_abs();
        if count == 0 {
            return Ok(Outcome { count, changed: 0 });
        }
        let product = &self.filter.product;
        consent.to_devices(&question(&format!("{} of product {product}", devices(count))), count)?;
        let progress = ui.count_progress("devices", count);
        let (mut left, mut changed, mut cursor) = (count, 0, String::new());
        loop {
            let outcome = self.client.bulk(self.action, &part(Some(left), cursor)).map_err(|error| {
                let failure = Failure::from(error);
                match count - left {
                    0 => failure,
                    done => failure
                        .hint(format!("{done} of {count} devices were dealt with before; the rest was not")),
                }
            })?;
            changed += outcome.changed.unsigned_abs();
            let Some(next) = outcome.next_cursor else { return Ok(Outcome { count, changed }) };
            left = left.saturating_sub(PART);
            cursor = next;
            progress.set(count - left, "");
        }
    }
}

/// `product=lamp,health=silent`.
fn filter(text: &str) -> Result<Selection, String> {
    let mut given = BTreeMap::new();
    for part in text.split(',').map(str::trim) {
        let (key, value) = part
            .split_once('=')
            .filter(|(_, value)| !value.is_empty())
            .ok_or_else(|| format!("expected KEY=VALUE with one of {}, found {part:?}", KEYS.join(", ")))?;
        if !KEYS.contains(&key) {
            return Err(format!("expected one of {}, found {key:?}", KEYS.join(", ")));
        }
        if given.insert(key, value).is_some() {
            return Err(format!("expected {key} once, found it twice"));
        }
    }
    let product = given
        .remove("product")
        .ok_or("expected product=NAME in it: what is done to many is done to those of one product")?;
    let state = given.get("state").map(|name| name.parse()).transpose();
    let health = given.get("health").map(|name| name.parse()).transpose();
    let sequence = given.get("sequence").map(|number| options::number(number)).transpose()?;
    let ends_within = given.get("certificate-ends-within").map(|length| options::days(length)).transpose()?;
    let mut flag = |key| match given.remove(key) {
        None => Ok(false),
        Some("true") => Ok(true),
        Some(found) => Err(format!("expected {key}=true, found {found:?}")),
    };
    let (suspended, clone_suspected) = (flag("suspended")?, flag("clone-suspected")?);
    let certificate_refused = flag("certificate-refused")?;
    let mut text = |key| given.remove(key).unwrap_or_default().to_owned();
    Ok(Selection {
        product: options::product(product)?,
        channel: text("channel"),
        tag: text("tag"),
        state: state.map_err(|error: UnknownName| error.to_string())?,
        health: health.map_err(|error: UnknownName| error.to_string())?,
        sequence: sequence.map(options::signed),
        q: text("search"),
        suspended,
        clone_suspected,
        certificate_refused,
        certificate_ends_within_days: ends_within,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_filter_is_read_and_what_is_none_is_told_in_a_sentence() {
        let read = filter("product=lamp, health=silent,sequence=7,search=AA:B,state=enrolled").unwrap();
        assert_eq!(
            json!(read),
            json!({ "product": "lamp", "health": "silent", "sequence": 7, "q": "AA:B", "state": "enrolled" })
        );
        let flags = filter("product=lamp,suspended=true,clone-suspected=true").unwrap();
        assert_eq!(json!(flags), json!({ "product": "lamp", "suspended": true, "clone_suspected": true }));
        let certificates =
            filter("product=lamp,certificate-refused=true,certificate-ends-within=30d").unwrap();
        let expected =
            json!({ "product": "lamp", "certificate_refused": true, "certificate_ends_within_days": 30 });
        assert_eq!(json!(certificates), expected);
        for wrong in [
            "",
            "lamp",
            "product=",
            "health=silent",
            "product=lamp,health=well",
            "product=lamp,state=old",
            "product=lamp,sequence=x",
            "product=lamp,product=fan",
            "product=lamp,suspended=no",
            "product=lamp,certificate-ends-within=soon",
            "product=lamp,colour=red",
            "product=Lamp",
        ] {
            let told = filter(wrong).unwrap_err();
            assert!(told.starts_with("expected "), "{wrong}: {told}");
        }
    }
}
