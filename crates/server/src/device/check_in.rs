//! `POST /v1/check-in`: what a device says, and what it is to run.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use manifest::{Digest, Sequence};
use serde_json::{Map, Value, json};
use wire::{CheckIn, Decision, HandOverStrategy, Message, ResetCause};

use super::{Device, Refusal, clean, read_body, require_media_type};
use crate::app::App;
use crate::clock;
use crate::decide::{DeviceFacts, Refused, ReleaseFacts, Running, Verdict, decide};
use crate::gate::spread_s;
use crate::store::{Event, Known, ReleaseRow, Seen, SeenOutcome};

/// Answers a check-in. When nothing changed since the last one it costs two reads and one write.
pub(super) async fn check_in(
    State(app): State<Arc<App>>,
    device: Device,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    require_media_type(&headers, wire::MEDIA_TYPE)?;
    let body = read_body(body, wire::MAX_REQUEST_BYTES, app.config.limits.body_timeout).await?;
    let check_in = CheckIn::from_cbor(&body).map_err(|error| Refusal::Bad(error.to_string()))?;

    let now_ms = clock::now_ms();
    let seen = seen(&check_in, &device.known, now_ms);
    let changes = changes(&check_in, &seen, &device.known);
    let event = (!changes.is_empty()).then(|| Event {
        device: &device.known.id,
        at_ms: now_ms,
        kind: "check-in",
        detail: Value::Object(changes),
    });
    app.store.check_in(&device.known.id, &seen, event).await?;

    let newest = app.store.newest_release(&device.known.product).await?;
    let facts = DeviceFacts {
        running: check_in.running.as_ref().map(|running| Running {
            digest: Digest(*running.digest),
            sequence: running.sequence.map(Sequence),
        }),
        refused: seen.outcome.and_then(refused),
        now_ms,
        refusal_backoff_s: app.config.refusal_backoff_s,
    };
    let mut decision = answer(&app, &facts, newest.as_ref())?;
    let spread = |hint_s| spread_s(hint_s, &device.known.id);
    decision.next_check_s = decision.next_check_s.map(spread);
    decision.backoff_s = decision.backoff_s.map(spread);
    Ok(([(header::CONTENT_TYPE, wire::MEDIA_TYPE)], decision.to_cbor()).into_response())
}

fn answer(app: &App, facts: &DeviceFacts, newest: Option<&ReleaseRow>) -> Result<Decision, Refusal> {
    let releases = newest.map(release_facts).transpose()?;
    let verdict = decide(facts, releases.as_slice());
    tracing::debug!(?verdict, "check-in");
    app.metrics.check_ins.add(verdict.name());
    let server_time_s = u64::try_from(facts.now_ms / 1000).unwrap_or_default();
    let mut decision = Decision::new(server_time_s, None);
    decision.next_check_s = app.config.next_check_s;
    match verdict {
        Verdict::NoRelease | Verdict::UpToDate | Verdict::Ahead => {}
        Verdict::Wait { wait_s } => decision.backoff_s = Some(wait_s),
        Verdict::Offer { .. } => {
            if let Some(release) = newest {
                let manifest = BASE64_STANDARD.decode(&release.manifest_base64).map_err(Refusal::internal)?;
                decision.manifest = Some(manifest.into());
            }
        }
    }
    Ok(decision)
}

fn release_facts(release: &ReleaseRow) -> Result<ReleaseFacts, Refusal> {
    Ok(ReleaseFacts {
        sequence: Sequence(u64::try_from(release.sequence).map_err(Refusal::internal)?),
        digest: release.digest.parse().map_err(Refusal::internal)?,
    })
}

/// The release that an outcome says was refused. Codes 1xx and 2xx blame the manifest or the image, 4xx the flash:
/// trying again at once changes nothing and wears the flash. The network and the updater (3xx, 5xx) may do better
/// at the next start.
fn refused(outcome: SeenOutcome) -> Option<Refused> {
    let is_refusal = matches!(outcome.code, 100..=299 | 400..=499);
    let sequence = outcome.sequence.and_then(|sequence| u64::try_from(sequence).ok())?;
    is_refusal.then_some(Refused { sequence: Sequence(sequence), at_ms: outcome.at_ms })
}

fn seen(check_in: &CheckIn, known: &Known, now_ms: i64) -> Seen {
    let slots: Vec<_> = check_in
        .slots
        .iter()
        .map(|slot| {
            json!({ "label": clean(&slot.label), "size_bytes": slot.size_bytes, "bootable": slot.bootable })
        })
        .collect();
    let running = check_in.running.as_ref();
    Seen {
        at_ms: now_ms,
        chip_id: check_in.chip_id.into(),
        running_digest: running.map(|running| Digest(*running.digest).to_string()),
        running_sequence: running.and_then(|running| running.sequence).map(stored),
        running_version: running.and_then(|running| running.version.as_deref()).map(clean),
        slots: Value::from(slots).to_string(),
        updater_version: clean(&check_in.updater_version),
        reset_cause: reset_cause_name(check_in.reset_cause),
        starts: check_in.starts.into(),
        strategy: strategy_name(check_in.strategy),
        free_heap_bytes: check_in.free_heap_bytes.map(i64::from),
        critical_errors: check_in.critical_errors.into(),
        last_critical: check_in.last_critical.map(i64::from),
        outcome: check_in.last_outcome.map(|outcome| {
            let (sequence, code) = (outcome.sequence.map(stored), i64::from(outcome.reason));
            // The device repeats its last outcome at every check-in: it keeps the time when it was news.
            known
                .outcome()
                .filter(|known| (known.sequence, known.code) == (sequence, code))
                .unwrap_or(SeenOutcome { sequence, code, at_ms: now_ms })
        }),
    }
}

/// What this check-in tells that the one before did not.
fn changes(check_in: &CheckIn, seen: &Seen, known: &Known) -> Map<String, Value> {
    let mut changes = Map::new();
    if seen.running_digest != known.running_digest {
        let running = json!({
            "digest": seen.running_digest, "sequence": seen.running_sequence, "version": seen.running_version,
        });
        changes.insert("running".to_owned(), running);
    }
    if let Some(outcome) = seen.outcome.filter(|outcome| Some(*outcome) != known.outcome()) {
        changes.insert("outcome".to_owned(), outcome_json(outcome));
    }
    if check_in.reset_cause.is_crash() {
        changes.insert("reset_cause".to_owned(), seen.reset_cause.into());
    }
    if known.updater_version.as_ref() != Some(&seen.updater_version) {
        changes.insert("updater_version".to_owned(), seen.updater_version.clone().into());
    }
    changes
}

/// An outcome as an event tells it.
pub(super) fn outcome_json(outcome: SeenOutcome) -> Value {
    json!({ "sequence": outcome.sequence, "code": outcome.code, "reason": reason_name(outcome.code) })
}

/// The name of a reason code; `unknown` for a code of a newer updater.
pub(crate) fn reason_name(code: i64) -> &'static str {
    u16::try_from(code).ok().and_then(wire::Reason::from_code).map_or("unknown", wire::Reason::name)
}

/// A sequence number as it is stored. Published ones always fit; a device that claims a higher one is told apart
/// from all of them.
pub(super) fn stored(sequence: u64) -> i64 {
    i64::try_from(sequence).unwrap_or(i64::MAX)
}

fn reset_cause_name(cause: ResetCause) -> &'static str {
    match cause {
        ResetCause::Unknown => "unknown",
        ResetCause::PowerOn => "power-on",
        ResetCause::Software => "software",
        ResetCause::Panic => "panic",
        ResetCause::Watchdog => "watchdog",
        ResetCause::Brownout => "brownout",
        ResetCause::DeepSleep => "deep-sleep",
        ResetCause::External => "external",
    }
}

fn strategy_name(strategy: HandOverStrategy) -> &'static str {
    match strategy {
        HandOverStrategy::ChainLoad => "chain-load",
        HandOverStrategy::OtadataRollback => "otadata-rollback",
        HandOverStrategy::Other => "other",
    }
}
