//! `/api/v1/devices`.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::routes;

use super::auth::Caller;
use super::page::{Page, PageParams};
use super::request::{Body, InPath, Params, check_device_id};
use super::routes::Routes;
use crate::app::App;
use crate::clock;
use crate::device::reason_name;
use crate::problem::Problem;
use crate::secret;
use crate::store::{DeviceRow, EventRow, NewDevice};

pub(super) fn routes() -> Routes {
    Routes::of("devices")
        .viewer(routes!(list))
        .viewer(routes!(show))
        .viewer(routes!(events))
        .operator(routes!(create))
        .operator(routes!(revoke))
        .operator(routes!(renew_token))
}

#[derive(Deserialize, ToSchema)]
struct NewDeviceBody {
    id: Option<String>,
    product: String,
    #[serde(default)]
    note: String,
}

#[derive(Default, Deserialize, ToSchema)]
struct RevokeBody {
    reason: Option<String>,
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct ListParams {
    #[serde(default)]
    product: String,
    // Not `#[serde(flatten)]`, with which numbers in queries are not read.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<i64>,
    cursor: Option<String>,
}

#[derive(Serialize, ToSchema)]
struct Created {
    #[serde(flatten)]
    device: Device,
    enrollment_token: String,
}

#[derive(Serialize, ToSchema)]
struct NewToken {
    id: String,
    enrollment_token: String,
}

#[derive(Serialize, ToSchema)]
struct Device {
    id: String,
    product: String,
    state: &'static str,
    note: String,
    created_at: String,
    enrolled_at: Option<String>,
    revoked_at: Option<String>,
    revoked_reason: Option<String>,
    last_seen_at: Option<String>,
    certificate: Option<Certificate>,
    running: Option<Running>,
    slots: Value,
    updater_version: Option<String>,
    strategy: Option<String>,
    reset_cause: Option<String>,
    starts: Option<i64>,
    free_heap_bytes: Option<i64>,
    critical_errors: Option<i64>,
    last_critical: Option<i64>,
    last_outcome: Option<Outcome>,
}

#[derive(Serialize, ToSchema)]
struct Certificate {
    serial: String,
    not_before: String,
    not_after: String,
}

#[derive(Serialize, ToSchema)]
struct Running {
    digest: String,
    sequence: Option<i64>,
    version: Option<String>,
}

#[derive(Serialize, ToSchema)]
struct Outcome {
    sequence: Option<i64>,
    reason: &'static str,
    code: i64,
    at: String,
}

#[derive(Serialize, ToSchema)]
struct Event {
    at: String,
    kind: String,
    detail: Value,
}

/// Makes a device id with a one-time enrollment token, which is shown once.
#[utoipa::path(post, path = "/devices", request_body = NewDeviceBody, responses((status = 201, body = Created)))]
async fn create(
    State(app): State<Arc<App>>,
    caller: Caller,
    Body(body): Body<NewDeviceBody>,
) -> Result<(StatusCode, Json<Created>), Problem> {
    let product = super::products::find(&app, &caller, body.product).await?.name;
    let id = match body.id {
        Some(id) => id,
        None => format!("{product}-{}", hex::encode(secret::random::<3>())),
    };
    check_device_id(&id)?;
    let enrollment_token = secret::new_token();
    let token_hash = &secret::hash(&enrollment_token);
    let device = NewDevice { id: &id, product: &product, note: &body.note, token_hash };
    match app.store.add_device(&device, clock::now_ms()).await {
        Ok(()) => {
            let device = find(&app, &caller, id).await?;
            Ok((StatusCode::CREATED, Json(Created { device, enrollment_token })))
        }
        Err(error) if error.is_duplicate() => Err(Problem::Exists { kind: "device", name: id }),
        Err(error) => Err(error.into()),
    }
}

/// Lists devices by id.
#[utoipa::path(get, path = "/devices", params(ListParams), responses((status = 200, body = Page<Device>)))]
async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    Params(params): Params<ListParams>,
) -> Result<Json<Page<Device>>, Problem> {
    let page = PageParams::new(params.limit, params.cursor);
    let rows = app.store.devices(caller.scope(), &params.product, page.after(), page.rows()?).await?;
    page.page(rows, |row| row.id.clone(), show_device).map(Json)
}

/// Shows a device.
#[utoipa::path(get, path = "/devices/{id}", params(("id" = String, Path)), responses((status = 200, body = Device)))]
async fn show(
    State(app): State<Arc<App>>,
    caller: Caller,
    InPath(id): InPath<String>,
) -> Result<Json<Device>, Problem> {
    find(&app, &caller, id).await.map(Json)
}

/// Revokes a device. The body may be absent.
#[utoipa::path(post, path = "/devices/{id}/revoke", params(("id" = String, Path)), request_body = Option<RevokeBody>, responses((status = 200, body = Device)))]
async fn revoke(
    State(app): State<Arc<App>>,
    caller: Caller,
    InPath(id): InPath<String>,
    body: Bytes,
) -> Result<Json<Device>, Problem> {
    find(&app, &caller, id.clone()).await?;
    let body: RevokeBody = if body.is_empty() {
        RevokeBody::default()
    } else {
        serde_json::from_slice(&body).map_err(|error| {
            Problem::Invalid(format!("expected {{\"reason\": text}} or no body, found: {error}"))
        })?
    };
    let reason = body.reason.unwrap_or_else(|| "revoked by an operator".to_owned());
    if !app.store.revoke_device(&id, &reason, clock::now_ms()).await? {
        return Err(Problem::NotFound { kind: "device", name: id });
    }
    tracing::info!(device = id, reason, "revoked");
    find(&app, &caller, id).await.map(Json)
}

/// Gives a device a new enrollment token; the old one is void.
#[utoipa::path(post, path = "/devices/{id}/enrollment-token", params(("id" = String, Path)), responses((status = 201, body = NewToken)))]
async fn renew_token(
    State(app): State<Arc<App>>,
    caller: Caller,
    InPath(id): InPath<String>,
) -> Result<(StatusCode, Json<NewToken>), Problem> {
    find(&app, &caller, id.clone()).await?;
    let enrollment_token = secret::new_token();
    if app.store.renew_token(&id, &secret::hash(&enrollment_token), clock::now_ms()).await? {
        return Ok((StatusCode::CREATED, Json(NewToken { id, enrollment_token })));
    }
    Err(Problem::DeviceRevoked { id })
}

/// Lists what happened to a device, newest first.
#[utoipa::path(get, path = "/devices/{id}/events", params(("id" = String, Path), PageParams), responses((status = 200, body = Page<Event>)))]
async fn events(
    State(app): State<Arc<App>>,
    caller: Caller,
    InPath(id): InPath<String>,
    Params(params): Params<PageParams>,
) -> Result<Json<Page<Event>>, Problem> {
    find(&app, &caller, id.clone()).await?;
    let rows = app.store.events(&id, params.after(), params.rows()?).await?;
    params.page(rows, |row| row.id.clone(), show_event).map(Json)
}

async fn find(app: &App, caller: &Caller, id: String) -> Result<Device, Problem> {
    let row = app.store.device(&id).await?.filter(|row| caller.sees(&row.product));
    show_device(row.ok_or(Problem::NotFound { kind: "device", name: id })?)
}

fn show_device(row: DeviceRow) -> Result<Device, Problem> {
    let state = match (row.revoked_at_ms, row.enrolled_at_ms) {
        (Some(_), _) => "revoked",
        (None, Some(_)) => "enrolled",
        (None, None) => "new",
    };
    let validity = row.certificate_not_before_ms.zip(row.certificate_not_after_ms);
    let certificate = row.certificate_serial.zip(validity).map(|(serial, (not_before, not_after))| {
        Certificate { serial, not_before: clock::rfc3339(not_before), not_after: clock::rfc3339(not_after) }
    });
    let (sequence, version) = (row.running_sequence, row.running_version);
    let outcome_sequence = row.outcome_sequence;
    Ok(Device {
        id: row.id,
        product: row.product,
        state,
        note: row.note,
        created_at: clock::rfc3339(row.created_at_ms),
        enrolled_at: row.enrolled_at_ms.map(clock::rfc3339),
        revoked_at: row.revoked_at_ms.map(clock::rfc3339),
        revoked_reason: row.revoked_reason,
        last_seen_at: row.last_seen_at_ms.map(clock::rfc3339),
        certificate,
        running: row.running_digest.map(|digest| Running { digest, sequence, version }),
        slots: match row.slots {
            Some(slots) => serde_json::from_str(&slots)?,
            None => Value::Array(Vec::new()),
        },
        updater_version: row.updater_version,
        strategy: row.strategy,
        reset_cause: row.reset_cause,
        starts: row.starts,
        free_heap_bytes: row.free_heap_bytes,
        critical_errors: row.critical_errors,
        last_critical: row.last_critical,
        last_outcome: row.outcome_code.zip(row.outcome_at_ms).map(|(code, at_ms)| Outcome {
            sequence: outcome_sequence,
            reason: reason_name(code),
            code,
            at: clock::rfc3339(at_ms),
        }),
    })
}

fn show_event(row: EventRow) -> Result<Event, Problem> {
    Ok(Event { at: clock::rfc3339(row.at_ms), kind: row.kind, detail: serde_json::from_str(&row.detail)? })
}
