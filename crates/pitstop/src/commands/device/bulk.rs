//! All devices of a filter at once.

use clap::Args;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{HEALTHS, STATES};
use crate::client::Client;
use crate::client::types::DeviceFilter;
use crate::commands::consent::{Consent, devices};
use crate::commands::options;
use crate::failure::Failure;
use crate::ui::Ui;

/// The server does no more at once.
const PART: u64 = 1000;

/// What `--filter` may name.
const KEYS: &str = "product, channel, tag, state, health, sequence, search";

/// One device, or all of a filter.
#[derive(Debug, Args)]
pub(crate) struct Which {
    /// The device's id
    #[arg(value_name = "ID", value_parser = options::device, required_unless_present = "filter")]
    id: Option<String>,

    /// All devices that fit, as `device list` finds them: product=lamp,health=silent
    #[arg(long, value_name = "KEY=VALUE,…", value_parser = filter, conflicts_with = "id")]
    filter: Option<DeviceFilter>,
}

/// What [`Which`] says.
pub(super) enum Chosen {
    One(String),
    All(DeviceFilter),
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
            0 => "That is all that fit the filter.".to_owned(),
            others => format!("Of those that fit the filter, {} were {what} before.", devices(others)),
        }
    }
}

/// The same for all devices of a filter.
pub(super) struct Bulk<'a> {
    pub(super) client: &'a Client,
    /// As the API names it.
    pub(super) action: &'static str,
    pub(super) filter: &'a DeviceFilter,
    /// What the action takes besides.
    pub(super) details: Map<String, Value>,
}

impl Bulk<'_> {
    /// Counts the devices, asks about them, and does it: to as many as were asked about, or to none.
    pub(super) fn run(
        self,
        question: impl FnOnce(&str) -> String,
        consent: &Consent,
        ui: &Ui,
    ) -> Result<Outcome, Failure> {
        let count = self.client.bulk(self.action, &self.body(None, ""))?.count;
        if count == 0 {
            return Ok(Outcome { count, changed: 0 });
        }
        let product = self.filter.product.as_deref().unwrap_or_default();
        consent.to_devices(&question(&format!("{} of product {product}", devices(count))), count)?;
        let progress = ui.count_progress("devices", count);
        let (mut left, mut changed, mut cursor) = (count, 0, String::new());
        loop {
            let outcome =
                self.client.bulk(self.action, &self.body(Some(left), &cursor)).map_err(|error| {
                    let failure = Failure::from(error);
                    match count - left {
                        0 => failure,
                        done => failure.hint(format!(
                            "{done} of {count} devices were dealt with before; the rest was not"
                        )),
                    }
                })?;
            changed += outcome.changed;
            let Some(next) = outcome.next_cursor else { return Ok(Outcome { count, changed }) };
            left = left.saturating_sub(PART);
            cursor = next;
            progress.set(count - left, "");
        }
    }

    fn body(&self, expect: Option<u64>, cursor: &str) -> Value {
        let mut body = self.details.clone();
        body.insert("filter".to_owned(), json!(self.filter));
        body.insert("expect".to_owned(), json!(expect));
        body.insert("cursor".to_owned(), json!(cursor));
        Value::Object(body)
    }
}

/// `product=lamp,health=silent`.
fn filter(text: &str) -> Result<DeviceFilter, String> {
    let mut filter = DeviceFilter::default();
    for part in text.split(',').map(str::trim) {
        let (key, value) = part
            .split_once('=')
            .filter(|(_, value)| !value.is_empty())
            .ok_or_else(|| format!("expected KEY=VALUE with one of {KEYS}, found {part:?}"))?;
        let one_of = |known: &[&str]| {
            let known = known.contains(&value).then(|| value.to_owned()).ok_or_else(|| known.join(", "));
            known.map_err(|known| format!("expected {key} to be one of {known}, found {value:?}"))
        };
        let place = match key {
            "product" => &mut filter.product,
            "channel" => &mut filter.channel,
            "tag" => &mut filter.tag,
            "state" => &mut filter.state,
            "health" => &mut filter.health,
            "search" => &mut filter.search,
            "sequence" => {
                filter.sequence = Some(options::number(value)?);
                continue;
            }
            _ => return Err(format!("expected one of {KEYS}, found {key:?}")),
        };
        let value = match key {
            "product" => options::product(value)?,
            "state" => one_of(&STATES)?,
            "health" => one_of(&HEALTHS)?,
            _ => value.to_owned(),
        };
        if place.replace(value).is_some() {
            return Err(format!("expected {key} once, found it twice"));
        }
    }
    if filter.product.is_none() {
        return Err(
            "expected product=NAME in it: what is done to many is done to those of one product".to_owned()
        );
    }
    Ok(filter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_read_and_what_is_none_is_told_in_a_sentence() {
        let read = filter("product=lamp, health=silent,sequence=7,search=AA:B,state=enrolled").unwrap();
        assert_eq!((read.product.as_deref(), read.sequence), (Some("lamp"), Some(7)));
        assert_eq!((read.health.as_deref(), read.search.as_deref()), (Some("silent"), Some("AA:B")));
        assert_eq!(
            json!(read),
            json!({ "product": "lamp", "health": "silent", "sequence": 7, "q": "AA:B", "state": "enrolled" })
        );
        for wrong in [
            "",
            "lamp",
            "product=",
            "health=silent",
            "product=lamp,health=well",
            "product=lamp,state=old",
            "product=lamp,sequence=x",
            "product=lamp,product=fan",
            "product=lamp,colour=red",
            "product=Lamp",
        ] {
            let told = filter(wrong).unwrap_err();
            assert!(told.starts_with("expected "), "{wrong}: {told}");
        }
    }
}
