//! `POST /v1/check-in`: what a device says, and what it is to run.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use manifest::{Digest, Sequence};
use rollout::{
    Cadence, DeviceFacts, LastRun, OfferReason, Running, Runs, SHORT_RUNS, Verdict, WaitReason, decide,
};
use serde_json::{Map, Value, json};
use wire::{CheckIn, Decision, HandOverStrategy, Message, ResetCause};

use super::attempt::{SAME_START_MS, Tracker};
use super::body::{read_body, require_media_type};
use super::{Device, clean};
use crate::app::App;
use crate::gate::spread_s;
use crate::plans::ProductPlan;
use crate::refusal::Refusal;
use crate::store::{AttemptRow, DeviceWrite, Known, Said, Seen, SeenOutcome, stored};

/// When a window opens, devices come back over a quarter of this: 10 minutes.
const WINDOW_SPREAD_S: u32 = 2400;

/// Answers a check-in. It costs one read; when nothing changed, what it writes is not waited for.
pub(super) async fn check_in(
    State(app): State<Arc<App>>,
    device: Device,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    require_media_type(&headers, wire::MEDIA_TYPE)?;
    let body = read_body(body, wire::MAX_REQUEST_BYTES).await?;
    let check_in = CheckIn::from_cbor(&body).map_err(|error| Refusal::Bad(error.to_string()))?;

    let now_ms = app.config.clock.now_ms();
    let known = &device.known;
    let plan = app.plans.get(&app.store, &known.product, known.generation).await?;
    let running = check_in
        .running
        .as_ref()
        .map(|running| Running { digest: Digest(*running.digest), sequence: running.sequence.map(Sequence) });
    let (seen, last_run) = seen(&check_in, known, now_ms);

    let mut tracker = Tracker::new(known, now_ms);
    if let Some(news) = seen.outcome.filter(|outcome| Some(*outcome) != known.outcome()) {
        tracker.outcome(news, &plan);
    }
    tracker.seen(running.as_ref(), last_run, check_in.starts.into(), &plan);

    let tags: Vec<String> = serde_json::from_str(&known.tags).map_err(Refusal::internal)?;
    let facts = DeviceFacts {
        id: &known.id,
        channel: &known.channel,
        tags: &tags,
        running,
        pinned: known.pinned_sequence.and_then(|sequence| u64::try_from(sequence).ok()).map(Sequence),
        failure: tracker.failure(),
        now_ms,
        refusal_backoff_s: app.config.refusal_backoff_s,
    };
    let verdict = decide(&facts, &plan.facts);
    tracing::debug!(device = known.id, ?verdict, "check-in");
    if let Verdict::Offer { sequence, .. } = verdict {
        tracker.may_fail_again(sequence);
    }
    match verdict {
        Verdict::Offer { sequence, reason: OfferReason::Rollout { index, wave } } => {
            if let Some(rollout) = plan.facts.rollouts.get(index) {
                tracker.offered(&rollout.id, wave, sequence, &plan);
            }
        }
        Verdict::Offer { reason: OfferReason::Pinned | OfferReason::Revert, .. }
        | Verdict::Wait { .. }
        | Verdict::Nothing(_) => tracker.not_offered(running.as_ref(), &plan),
    }

    app.metrics.check_ins.add(verdict.name());
    let mut decision = answer(&app, &known.id, &plan, verdict, now_ms);
    decision.anchors = app.ca.announced();
    decision.renew = device.should_renew.then_some(true);
    decision.rotate_key = (known.rotate_keys != 0).then_some(true);
    if let Some(anchors) = check_in.anchors.filter(|_| decision.anchors.is_some()) {
        let anchors = hex::encode(*anchors);
        if known.anchors.as_ref() != Some(&anchors) {
            app.store.note_anchors(&known.id, &anchors).await?;
        }
    }
    let publishers = check_in.publishers.as_deref().and_then(publisher_ids);
    if known.publishers != publishers {
        app.store.note_publishers(&known.id, publishers.as_deref()).await?;
    }
    write(&app, &device, &check_in, seen, last_run, tracker).await?;
    Ok(([(header::CONTENT_TYPE, wire::MEDIA_TYPE)], decision.to_cbor()).into_response())
}

/// Stores what the check-in tells: before the answer if there is anything new in it.
async fn write(
    app: &App,
    device: &Device,
    check_in: &CheckIn,
    seen: Seen,
    last_run: LastRun,
    tracker: Tracker<'_>,
) -> Result<(), Refusal> {
    let known = &device.known;
    let mut changes = changes(check_in, &seen, last_run, known);
    let (attempt, failure, news) = tracker.finish();
    if let Some(news) = news {
        changes.insert("attempt".to_owned(), attempt_json(&news));
    }
    // The number and the version of an image may be learned after the image.
    let is_named_anew =
        (seen.running_sequence, &seen.running_version) != (known.running_sequence, &known.running_version);
    let is_cloned = seen.counts.suspected_at_ms.is_some();
    let is_cloned = Some(is_cloned).filter(|is| *is != known.counts().suspected_at_ms.is_some());
    if is_cloned == Some(true) {
        tracing::warn!(device = known.id, "two boards seem to come with this device's certificate");
        app.metrics.clones_suspected.inc();
    }
    let is_news =
        !changes.is_empty() || is_named_anew || attempt.is_some() || failure.is_some() || is_cloned.is_some();
    let write = DeviceWrite {
        device: known.id.clone(),
        at_ms: seen.at_ms,
        said: if is_news { Said::CheckIn(seen) } else { Said::Pulse(seen) },
        event: (!changes.is_empty()).then_some(("check-in", Value::Object(changes))),
        attempt,
        failure,
        is_cloned,
    };
    if is_news {
        app.store.write(write).await?;
    } else {
        app.store.write_soon(write).await?;
    }
    Ok(())
}

fn answer(app: &App, device: &str, plan: &ProductPlan, verdict: Verdict, now_ms: i64) -> Decision {
    let server_time_s = u64::try_from(now_ms / 1000).unwrap_or_default();
    let mut decision = Decision::new(server_time_s, None);
    decision.next_check_s = app.config.next_check_s.map(|hint_s| spread_s(hint_s, device));
    match verdict {
        Verdict::Nothing(_) => {}
        Verdict::Wait { wait_s, reason: WaitReason::Backoff } => {
            decision.backoff_s = Some(spread_s(wait_s, device));
        }
        Verdict::Wait { wait_s, reason: WaitReason::Window } => {
            // A quarter of a day would miss a window of an hour.
            let late_s = spread_s(WINDOW_SPREAD_S, device) - WINDOW_SPREAD_S;
            decision.backoff_s = Some(wait_s.saturating_add(late_s));
        }
        Verdict::Offer { sequence, .. } => {
            decision.manifest = plan.manifest(sequence).map(|manifest| manifest.to_vec().into());
        }
    }
    decision
}

/// What the check-in tells, and what the runs since the last word show of the application.
fn seen(check_in: &CheckIn, known: &Known, now_ms: i64) -> (Seen, LastRun) {
    let running_digest = check_in.running.as_ref().map(|running| Digest(*running.digest).to_string());
    let runs = runs(check_in, known, now_ms);
    // Short runs of another application say nothing of this one.
    let short_before = if running_digest == known.running_digest { known.short_runs } else { 0 };
    let short_before = u32::try_from(short_before).unwrap_or(u32::MAX);
    let (last_run, short_runs) = runs.judge(short_before, known.min_run_s.saturating_mul(1000));
    let cadence = match elapsed_ms(known, now_ms).filter(|_| runs.count > 0) {
        Some(interval_ms) => Some(Cadence::after(known.cadence(), interval_ms)),
        None => known.cadence(),
    };
    let slots: Vec<_> = check_in
        .slots
        .iter()
        .take(wire::MAX_SLOTS)
        .map(|slot| {
            json!({ "label": clean(&slot.label), "size_bytes": slot.size_bytes, "bootable": slot.bootable })
        })
        .collect();
    let running = check_in.running.as_ref();
    let seen = Seen {
        at_ms: now_ms,
        chip_id: check_in.chip_id.into(),
        running_digest,
        running_sequence: running.and_then(|running| running.sequence).map(stored),
        running_version: running.and_then(|running| running.version.as_deref()).map(clean),
        slots: Value::from(slots).to_string(),
        updater_version: clean(&check_in.updater_version),
        reset_cause: reset_cause_name(check_in.reset_cause),
        counts: known.counts().after(check_in.starts.into(), now_ms),
        cadence,
        short_runs: short_runs.into(),
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
    };
    (seen, last_run)
}

/// How long ago the device was heard last; `None` when it was not, or by a clock that was ahead.
fn elapsed_ms(known: &Known, now_ms: i64) -> Option<i64> {
    known.last_seen_at_ms.map(|seen_ms| now_ms.saturating_sub(seen_ms)).filter(|elapsed_ms| *elapsed_ms >= 0)
}

/// The runs since the device was heard last, by its count of starts, which begins anew with the power.
fn runs(check_in: &CheckIn, known: &Known, now_ms: i64) -> Runs {
    let starts = i64::from(check_in.starts);
    let elapsed_ms = elapsed_ms(known, now_ms);
    let count = match known.starts {
        Some(before) if starts > before => u32::try_from(starts - before).unwrap_or(u32::MAX),
        Some(before) if starts == before && elapsed_ms.is_some_and(|ms| ms <= SAME_START_MS) => 0,
        Some(_) | None => 1,
    };
    let length_ms = elapsed_ms.map(|elapsed_ms| elapsed_ms / i64::from(count.max(1)));
    Runs { cause: check_in.reset_cause, count, length_ms }
}

/// The ids of the publisher keys that a device trusts, as they are stored: hexadecimal, in ascending order. `None` when it
/// names none or too many, which no updater does.
fn publisher_ids(ids: &[wire::PublisherId]) -> Option<String> {
    if !(1..=wire::MAX_PUBLISHERS).contains(&ids.len()) {
        return None;
    }
    let ids: BTreeSet<String> = ids.iter().map(|id| hex::encode(**id)).collect();
    Some(ids.into_iter().collect::<Vec<_>>().join(" "))
}

/// What this check-in tells that the one before did not.
fn changes(check_in: &CheckIn, seen: &Seen, last_run: LastRun, known: &Known) -> Map<String, Value> {
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
    if last_run == LastRun::Crashed || check_in.reset_cause == ResetCause::UpdaterCrash {
        changes.insert("reset_cause".to_owned(), seen.reset_cause.into());
    }
    if seen.short_runs >= i64::from(SHORT_RUNS) && known.short_runs < i64::from(SHORT_RUNS) {
        changes.insert("short_runs".to_owned(), seen.short_runs.into());
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

/// An attempt as an event tells it.
pub(super) fn attempt_json(attempt: &AttemptRow) -> Value {
    json!({ "rollout": attempt.rollout, "sequence": attempt.sequence, "state": attempt.state })
}

/// The name of a reason code; `unknown` for a code of a newer updater.
pub(crate) fn reason_name(code: i64) -> &'static str {
    u16::try_from(code).ok().and_then(wire::Reason::from_code).map_or("unknown", wire::Reason::name)
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
        ResetCause::UpdaterCrash => "updater-crash",
    }
}

fn strategy_name(strategy: HandOverStrategy) -> &'static str {
    match strategy {
        HandOverStrategy::ChainLoad => "chain-load",
        HandOverStrategy::OtadataRollback => "otadata-rollback",
        HandOverStrategy::Other => "other",
    }
}
