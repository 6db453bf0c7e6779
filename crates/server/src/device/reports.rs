//! `POST /v1/reports`: how acting on a decision ended.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use manifest::Digest;
use serde_json::Value;
use wire::{Message, Reason, Report};

use super::Device;
use super::attempt::Tracker;
use super::body::{read_body, require_media_type};
use super::check_in::{attempt_json, outcome_json};
use crate::app::App;
use crate::refusal::Refusal;
use crate::store::{DeviceWrite, Said, SeenOutcome, stored};

/// Stores a report and answers 204.
pub(super) async fn report(
    State(app): State<Arc<App>>,
    device: Device,
    headers: HeaderMap,
    body: Body,
) -> Result<StatusCode, Refusal> {
    require_media_type(&headers, wire::MEDIA_TYPE)?;
    let body = read_body(body, wire::MAX_REQUEST_BYTES).await?;
    let report = Report::from_cbor(&body).map_err(|error| Refusal::Bad(error.to_string()))?;

    let now_ms = app.config.clock.now_ms();
    let known = &device.known;
    let outcome = SeenOutcome {
        sequence: report.outcome.sequence.map(stored),
        code: report.outcome.reason.into(),
        at_ms: now_ms,
    };
    let plan = app.plans.get(&app.store, &known.product, known.generation).await?;
    let mut tracker = Tracker::new(known, now_ms);
    if tracker.is_repeated(outcome) {
        // Its answer was lost: it has been stored.
        return Ok(StatusCode::NO_CONTENT);
    }
    tracker.outcome(outcome, &plan);
    let (attempt, failure, news) = tracker.finish();

    let installed = report.outcome.reason == Reason::Installed.code();
    let running_digest = report.running_digest.map(|digest| Digest(*digest).to_string());
    let mut detail = outcome_json(outcome);
    if let Value::Object(detail) = &mut detail {
        detail.insert("running_digest".to_owned(), running_digest.clone().into());
        detail.insert("downloaded_bytes".to_owned(), report.downloaded_bytes.into());
        detail.insert("erased_bytes".to_owned(), report.erased_bytes.into());
        if let Some(news) = news {
            detail.insert("attempt".to_owned(), attempt_json(&news));
        }
    }
    let installed_sequence = outcome.sequence.filter(|_| installed);
    let write = DeviceWrite {
        device: known.id.clone(),
        at_ms: now_ms,
        said: Said::Report { outcome, installed_sequence, running_digest },
        event: Some(("report", detail)),
        attempt,
        failure,
        is_cloned: None,
    };
    app.store.write(write).await?;
    Ok(StatusCode::NO_CONTENT)
}
