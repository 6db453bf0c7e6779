//! One device, as a person reads it.

use api::device::{Device, DeviceState, Event, Failures, Outcome};
use serde_json::Value;
use time::OffsetDateTime;
use wire::Reason;

use crate::commands::fleet::health_tone;
use crate::ui::{Cell, Page, Tone, ago, bytes};

/// A device at length.
pub(super) fn device_page(device: &Device, heading: String, now: OffsetDateTime) -> Page {
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

/// Its events below it.
pub(super) fn events_table(page: Page, events: &[Event], now: OffsetDateTime) -> Page {
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

pub(super) fn outcome(outcome: &Outcome) -> Cell {
    Cell::new(outcome_tone(outcome), &outcome.reason)
}

/// With the sentence of the reason, when this version knows it.
fn outcome_at_length(outcome: &Outcome) -> Cell {
    let text = known_reason(outcome.code).map_or_else(String::new, |reason| format!(": {}", reason.text()));
    let release = outcome.sequence.map_or_else(String::new, |sequence| format!(" (release #{sequence})"));
    Cell::new(outcome_tone(outcome), format!("{}{text}{release}", outcome.reason))
}
