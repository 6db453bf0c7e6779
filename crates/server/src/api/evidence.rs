//! `POST /api/v1/evidence`: word of applications from a backend that hears them.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use api::evidence::{EvidenceBody, EvidenceIgnored, EvidenceTaken, HeardEvidence};
use axum::Json;
use axum::extract::State;
use serde_json::json;
use utoipa_axum::routes;

use super::auth::Caller;
use super::request::{Body, check_text, parse_time};
use super::routes::Routes;
use crate::app::App;
use crate::device::{Heard, Heeded, Unrelated, hear};
use crate::problem::Problem;
use crate::store::Record;

/// The most devices of one call.
const MAX_BULK: usize = 1000;

/// The longest failure.
const MAX_FAILURE_CHARS: usize = 200;

/// The backend's clock may be ahead by so much: a minute.
const MAX_AHEAD_MS: i64 = 60_000;

pub(super) fn routes() -> Routes {
    Routes::of("evidence").operator(routes!(add))
}

/// Takes word of applications from a backend that hears them. It counts like a start of the device: healthy, or crashed with
/// a failure. Saying the same again changes nothing. One `alive_at` more than a minute ahead of the server's clock, and the
/// whole call is refused. The audit log has a line of each call.
#[utoipa::path(post, path = "/evidence", request_body = EvidenceBody, responses((status = 200, body = EvidenceTaken)))]
async fn add(
    State(app): State<Arc<App>>,
    caller: Caller,
    Body(body): Body<EvidenceBody>,
) -> Result<Json<EvidenceTaken>, Problem> {
    let found = body.evidence.len();
    if !(1..=MAX_BULK).contains(&found) {
        return Err(Problem::Invalid(format!("expected 1 to {MAX_BULK} devices, found {found}")));
    }
    let latest_ms = app.config.clock.now_ms().saturating_add(MAX_AHEAD_MS);
    let mut all = Vec::with_capacity(found);
    for HeardEvidence { device, alive_at, failure } in body.evidence {
        let alive_at_ms = parse_time(&alive_at)?;
        if alive_at_ms > latest_ms {
            return Err(Problem::Unsuitable(format!(
                "device {device}: expected alive_at in the past, found {alive_at}; see that the clocks are right"
            )));
        }
        if let Some(failure) = &failure {
            check_text("failure", failure, 1, MAX_FAILURE_CHARS)?;
        }
        all.push(Heard { device, alive_at_ms, failure });
    }
    let ids: HashSet<&str> = all.iter().map(|heard| heard.device.as_str()).collect();
    let known = app.people.store.devices_by_id(&ids, caller.scope()).await?;
    let mut taken = EvidenceTaken::default();
    for heard in &all {
        match hear(&app, &known, heard).await? {
            Ok(Heeded::Counted) => taken.counted += 1,
            Ok(Heeded::Unchanged) => taken.unchanged += 1,
            Err(Unrelated::NoDevice) => taken.unknown.push(heard.device.clone()),
            Err(unrelated) => {
                let (device, reason) = (heard.device.clone(), unrelated.to_string());
                taken.ignored.push(EvidenceIgnored { device, reason });
            }
        }
    }
    let products: BTreeSet<&str> = known.values().map(|known| known.product.as_str()).collect();
    // Lines of several products are for those who see all.
    let product = products.first().copied().filter(|_| products.len() == 1).or(caller.product.as_deref());
    let failures = all.iter().filter(|heard| heard.failure.is_some()).count();
    let record = Record {
        action: "evidence.add",
        kind: "evidence",
        subject: product.unwrap_or("devices"),
        product,
        before: None,
        after: Some(json!({
            "devices": all.len(),
            "failures": failures,
            "counted": taken.counted,
            "unchanged": taken.unchanged,
            "unknown": taken.unknown.len(),
            "ignored": taken.ignored.len(),
        })),
    };
    app.people.store.note(record, &caller.change()).await?;
    Ok(Json(taken))
}
