//! `POST /v1/reports`: how acting on a decision ended.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use manifest::Digest;
use serde_json::Value;
use wire::{Message, Reason, Report};

use super::check_in::{outcome_json, stored};
use super::{Device, Refusal, read_body, require_media_type};
use crate::app::App;
use crate::clock;
use crate::store::{Event, SeenOutcome};

/// Stores a report and answers 204.
pub(super) async fn report(
    State(app): State<Arc<App>>,
    device: Device,
    headers: HeaderMap,
    body: Body,
) -> Result<StatusCode, Refusal> {
    require_media_type(&headers, wire::MEDIA_TYPE)?;
    let body = read_body(body, wire::MAX_REQUEST_BYTES, app.config.limits.body_timeout).await?;
    let report = Report::from_cbor(&body).map_err(|error| Refusal::Bad(error.to_string()))?;

    let now_ms = clock::now_ms();
    let outcome = SeenOutcome {
        sequence: report.outcome.sequence.map(stored),
        code: report.outcome.reason.into(),
        at_ms: now_ms,
    };
    let installed = report.outcome.reason == Reason::Installed.code();
    let running_digest = report.running_digest.map(|digest| Digest(*digest).to_string());
    let mut detail = outcome_json(outcome);
    if let Value::Object(detail) = &mut detail {
        detail.insert("running_digest".to_owned(), running_digest.clone().into());
        detail.insert("downloaded_bytes".to_owned(), report.downloaded_bytes.into());
        detail.insert("erased_bytes".to_owned(), report.erased_bytes.into());
    }
    let event = Event { device: &device.known.id, at_ms: now_ms, kind: "report", detail };
    let installed_sequence = outcome.sequence.filter(|_| installed);
    app.store.report(outcome, installed_sequence, running_digest.as_deref(), event).await?;
    Ok(StatusCode::NO_CONTENT)
}
