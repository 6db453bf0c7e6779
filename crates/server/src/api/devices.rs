//! `/api/v1/devices`.

use api::device::{
    Attempt, Certificate, CertificateRefused, Created, CreatedDevices, Device, DeviceSettingsBody,
    DeviceState, Event, Failures, Health, ListParams, NewDeviceBody, NewDevicesBody, NewToken, Outcome,
    Quarantine, RevokeBody, Running,
};
use api::page::{Order, Page};
use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use utoipa_axum::routes;

use super::auth::Caller;
use super::etag::{Condition, Tagged};
use super::page::{BothWays, COUNTED, PageParams, total};
use super::request::{Body, InPath, Params, check_device_id, check_text, optional_body};
use super::routes::{IfMatchHeader, Routes};
use super::{channels, product};
use crate::app::People;
use crate::clock::{self, DAY_MS};
use crate::device::reason_name;
use crate::problem::{Problem, Refused};
use crate::secret;
use crate::store::{
    DeviceChange, DeviceDeletion, DeviceFilter, DeviceRevocation, DeviceRow, EventRow, NewDevice, Place,
    is_place, place_of,
};

/// The longest note and reason.
pub(super) const MAX_TEXT_CHARS: usize = 4096;

/// The most devices of one call: what one transaction writes in well under a second.
pub(super) const MAX_BULK: i64 = 1000;

/// The most tags of one device.
pub(super) const MAX_TAGS: usize = 32;

/// Random bytes of an id that the server makes: 40 bits, so that two of a million devices are hardly ever the same.
const ID_BYTES: usize = 5;

pub(super) fn routes() -> Routes {
    Routes::of("devices")
        .viewer(routes!(list))
        .viewer(routes!(show))
        .viewer(routes!(events))
        .operator(routes!(create))
        .operator(routes!(create_bulk))
        .operator(routes!(change))
        .operator(routes!(revoke))
        .operator(routes!(remove))
        .operator(routes!(suspend))
        .operator(routes!(resume))
        .operator(routes!(renew_token))
        .operator(routes!(approve))
        .operator(routes!(clear_quarantine))
}

/// Makes a device id with a one-time enrollment token, which is shown once.
#[utoipa::path(post, path = "/devices", request_body = NewDeviceBody, responses((status = 201, body = Created)))]
async fn create(
    State(people): State<People>,
    caller: Caller,
    Body(body): Body<NewDeviceBody>,
) -> Result<(StatusCode, Tagged<Created>), Problem> {
    let product = product::find(&people, &caller, body.product).await?.name;
    let id = match body.id {
        Some(id) => id,
        None => format!("{product}-{}", hex::encode(secret::random::<ID_BYTES>())),
    };
    check_device_id(&id)?;
    check_text("note", &body.note, 0, MAX_TEXT_CHARS)?;
    let tags = check_tags(body.tags)?;
    let channel = existing_channel(&people, &product, body.channel).await?;
    let (device, NewToken { id, enrollment_token }) = with_token(id, channel, tags);
    match people.store.add_devices(&[device], &product, &body.note, &caller.change()).await {
        Ok(()) => {
            let row = find(&people, &caller, &id).await?;
            let revision = row.revision;
            let body = Created { device: show_device(row)?, enrollment_token };
            Ok((StatusCode::CREATED, Tagged { revision, body }))
        }
        Err(error) if error.is_duplicate() => Err(Problem::Exists { kind: "device", name: id }),
        Err(error) => Err(error.into()),
    }
}

/// A device to add, and its enrollment token, of which the server keeps a hash.
pub(super) fn with_token(id: String, channel: String, tags: Vec<String>) -> (NewDevice, NewToken) {
    let enrollment_token = secret::new_token();
    let token_hash = secret::hash(&enrollment_token);
    (NewDevice { id: id.clone(), token_hash, channel, tags }, NewToken { id, enrollment_token })
}

/// Makes many device ids, each with a one-time enrollment token, which is shown once. All or none.
#[utoipa::path(
    post,
    path = "/devices/bulk",
    request_body = NewDevicesBody,
    responses((status = 201, body = CreatedDevices))
)]
async fn create_bulk(
    State(people): State<People>,
    caller: Caller,
    Body(body): Body<NewDevicesBody>,
) -> Result<(StatusCode, Json<CreatedDevices>), Problem> {
    let product = product::find(&people, &caller, body.product).await?.name;
    if !(1..=MAX_BULK).contains(&body.count) {
        let found = body.count;
        return Err(Problem::Invalid(format!(
            "expected a count of 1 to {MAX_BULK}, found {found}; make more with more calls"
        )));
    }
    let prefix = body.prefix.unwrap_or_else(|| product.clone());
    let tags = check_tags(body.tags)?;
    let channel = existing_channel(&people, &product, body.channel).await?;
    let made = |_| {
        let id = format!("{prefix}-{}", hex::encode(secret::random::<ID_BYTES>()));
        with_token(id, channel.clone(), tags.clone())
    };
    let (devices, items): (Vec<_>, Vec<_>) = (0..body.count).map(made).unzip();
    if let Some(NewToken { id, .. }) = items.first() {
        check_device_id(id)?;
    }
    match people.store.add_devices(&devices, &product, "", &caller.change()).await {
        Ok(()) => Ok((StatusCode::CREATED, Json(CreatedDevices { items }))),
        // One chance in a million millions for each pair of ids: the next call has other ones.
        Err(error) if error.is_duplicate() => {
            Err(Problem::Exists { kind: "device", name: format!("{prefix}-…") })
        }
        Err(error) => Err(error.into()),
    }
}

/// The longest that a list looks ahead: the life of a CA.
const MAX_ENDS_WITHIN_DAYS: i64 = 3650;

/// Before when certificates end that end within so many days.
pub(super) fn ends_before(within_days: Option<i64>, now_ms: i64) -> Result<Option<i64>, Problem> {
    match within_days {
        Some(days) if !(0..=MAX_ENDS_WITHIN_DAYS).contains(&days) => Err(Problem::Invalid(format!(
            "certificate_ends_within_days: expected 0 to {MAX_ENDS_WITHIN_DAYS} days, found {days}"
        ))),
        days => Ok(days.map(|days| now_ms + days * DAY_MS)),
    }
}

/// Lists devices by id.
#[utoipa::path(get, path = "/devices", params(ListParams), responses((status = 200, body = Page<Device>)))]
async fn list(
    State(people): State<People>,
    caller: Caller,
    Params(params): Params<ListParams>,
) -> Result<Json<Page<Device>>, Problem> {
    if let Some(found) = params.sequence.filter(|sequence| *sequence < 0) {
        return Err(Problem::Invalid(format!("expected a sequence number of 0 and up, found {found}")));
    }
    check_text("part of an id", &params.q, 0, MAX_TEXT_CHARS)?;
    product::require(&people, &caller, &params.product).await?;
    check_rollout(&people, &caller, &params).await?;
    let page =
        BothWays::new(params.limit, params.cursor, params.before)?.in_order(params.order, Order::Ascending);
    let filter = DeviceFilter {
        scope: caller.scope().to_owned(),
        product: params.product,
        channel: params.channel,
        tag: params.tag,
        state: params.state.map_or("", DeviceState::name).to_owned(),
        health: params.health.map_or("", Health::name).to_owned(),
        sequence: params.sequence,
        part: params.q,
        rollout: params.rollout,
        wave: params.wave,
        attempt: params.attempt.map_or("", rollout::Attempt::name).to_owned(),
        epoch: params.epoch,
        waits: params.waiting,
        is_suspended: params.suspended,
        is_cloned: params.clone_suspected,
        is_refused: params.certificate_refused,
        ends_before_ms: ends_before(params.certificate_ends_within_days, people.clock.now_ms())?,
    };
    let sort = params.sort.unwrap_or_default();
    if let Place::After(cursor) | Place::Before(cursor) = page.place()
        && !is_place(sort, cursor)
    {
        return Err(Problem::cursor(cursor));
    }
    let rows = people.store.sorted_devices(&filter, sort, page.place(), page.rows()?).await?;
    let rows = rows.ok_or_else(|| {
        Problem::Unsuitable(format!(
            "expected a list of at most 5,000 devices of a rollout to sort it by {sort}, found more; leave out sort, or name \
             a wave with an attempt, a health or a tag that fewer have"
        ))
    })?;
    let total = match params.total {
        true => Some(total(people.store.devices_that_fit(&filter, COUNTED).await?)),
        false => None,
    };
    Ok(Json(Page { total, ..page.page(rows, |row| place_of(sort, row), show_device)? }))
}

/// Refuses what asks for devices of no rollout that there is.
async fn check_rollout(people: &People, caller: &Caller, params: &ListParams) -> Result<(), Problem> {
    let lacks = |name: &str, what: &str| {
        Err(Problem::Unsuitable(format!("expected a {what} with {name}, found none; add {what}=")))
    };
    if params.attempt.is_some() && params.wave.is_none() {
        return lacks("attempt", "wave");
    }
    if params.rollout.is_empty() {
        return match (params.wave, params.epoch) {
            (Some(_), _) => lacks("wave", "rollout"),
            (None, Some(_)) => lacks("epoch", "rollout"),
            (None, None) => Ok(()),
        };
    }
    for (name, number) in [("wave", params.wave), ("epoch", params.epoch)] {
        if let Some(found) = number.filter(|number| *number < 0) {
            return Err(Problem::Invalid(format!("expected {name} of 0 and up, found {found}")));
        }
    }
    let row = people.store.rollout(&params.rollout).await?.filter(|row| caller.sees(&row.product));
    match row {
        Some(_) => Ok(()),
        None => Err(Problem::NotFound { kind: "rollout", name: params.rollout.clone() }),
    }
}

/// Shows a device.
#[utoipa::path(
    get,
    path = "/devices/{id}",
    params(("id" = String, Path)),
    responses((status = 200, body = Device))
)]
async fn show(
    State(people): State<People>,
    caller: Caller,
    InPath(id): InPath<String>,
) -> Result<Tagged<Device>, Problem> {
    tagged(find(&people, &caller, &id).await?)
}

/// Changes the settings of a device. What is absent stays as it is.
#[utoipa::path(
    patch,
    path = "/devices/{id}",
    params(("id" = String, Path), IfMatchHeader),
    request_body = DeviceSettingsBody,
    responses((status = 200, body = Device))
)]
async fn change(
    State(people): State<People>,
    caller: Caller,
    condition: Condition,
    InPath(id): InPath<String>,
    Body(body): Body<DeviceSettingsBody>,
) -> Result<Tagged<Device>, Problem> {
    let product = find(&people, &caller, &id).await?.product;
    if let Some(note) = &body.note {
        check_text("note", note, 0, MAX_TEXT_CHARS)?;
    }
    if let Some(channel) = &body.channel {
        channels::require(&people, &product, channel).await?;
    }
    if let Some(Some(sequence)) = body.pinned_sequence {
        let found = match people.store.release(&product, sequence).await? {
            Some(release) if release.archived_at_ms.is_some() => format!("{sequence}, which is archived"),
            Some(_) => String::new(),
            None => sequence.to_string(),
        };
        if !found.is_empty() {
            return Err(Problem::Unsuitable(format!(
                "expected pinned_sequence to be that of a release of product {product}, found {found}"
            )));
        }
    }
    let settings = DeviceChange {
        note: body.note,
        channel: body.channel,
        tags: body.tags.map(check_tags).transpose()?,
        pinned_sequence: body.pinned_sequence,
    };
    let changed = people.store.change_device(&id, settings, &caller.change(), &condition.0).await?;
    tagged(changed.done("device", &id)?)
}

/// Revokes a device, which is final: its next request is refused. The body may be absent.
#[utoipa::path(
    post,
    path = "/devices/{id}/revoke",
    params(("id" = String, Path), IfMatchHeader),
    request_body = Option<RevokeBody>,
    responses((status = 200, body = Device))
)]
async fn revoke(
    State(people): State<People>,
    caller: Caller,
    condition: Condition,
    InPath(id): InPath<String>,
    body: Bytes,
) -> Result<Tagged<Device>, Problem> {
    let reason = revocation_reason(&body, "revoked by an operator")?;
    end(&people, &caller, &condition, &id, DeviceRevocation { reason: &reason, suspends: false }).await
}

/// Suspends a device: its next request is refused, until it is resumed. The body may be absent.
#[utoipa::path(
    post,
    path = "/devices/{id}/suspend",
    params(("id" = String, Path), IfMatchHeader),
    request_body = Option<RevokeBody>,
    responses((status = 200, body = Device))
)]
async fn suspend(
    State(people): State<People>,
    caller: Caller,
    condition: Condition,
    InPath(id): InPath<String>,
    body: Bytes,
) -> Result<Tagged<Device>, Problem> {
    let reason = revocation_reason(&body, "suspended by an operator")?;
    end(&people, &caller, &condition, &id, DeviceRevocation { reason: &reason, suspends: true }).await
}

/// Takes the suspension of a device back.
#[utoipa::path(
    post,
    path = "/devices/{id}/resume",
    params(("id" = String, Path), IfMatchHeader),
    responses((status = 200, body = Device))
)]
async fn resume(
    State(people): State<People>,
    caller: Caller,
    condition: Condition,
    InPath(id): InPath<String>,
) -> Result<Tagged<Device>, Problem> {
    find(&people, &caller, &id).await?;
    match people.store.resume_device(&id, &caller.change(), &condition.0).await?.done("device", &id)? {
        true => tagged(find(&people, &caller, &id).await?),
        false => Err(Problem::DeviceRevoked { id }),
    }
}

async fn end(
    people: &People,
    caller: &Caller,
    condition: &Condition,
    id: &str,
    revocation: DeviceRevocation<'_>,
) -> Result<Tagged<Device>, Problem> {
    find(people, caller, id).await?;
    let ended = people.store.revoke_device(id, revocation, &caller.change(), &condition.0).await?;
    if !ended.done("device", id)? {
        return Err(Problem::DeviceRevoked { id: id.to_owned() });
    }
    tracing::info!(device = id, reason = revocation.reason, suspended = revocation.suspends, "revoked");
    tagged(find(people, caller, id).await?)
}

fn revocation_reason(body: &[u8], otherwise: &str) -> Result<String, Problem> {
    let body: RevokeBody = optional_body(body, "{\"reason\": text}")?;
    let reason = body.reason.unwrap_or_else(|| otherwise.to_owned());
    check_text("reason", &reason, 1, MAX_TEXT_CHARS)?;
    Ok(reason)
}

/// Why something is not done with a device that is revoked.
async fn refused(people: &People, caller: &Caller, id: String) -> Result<Problem, Problem> {
    Ok(match find(people, caller, &id).await?.is_suspended() {
        true => Problem::DeviceSuspended { id },
        false => Problem::DeviceRevoked { id },
    })
}

/// Deletes a device that is not enrolled, or is revoked, and its events. The audit log keeps its lines, its certificates stay
/// refused, and its id is free.
#[utoipa::path(
    delete,
    path = "/devices/{id}",
    params(("id" = String, Path), IfMatchHeader),
    responses((status = 200, body = Device))
)]
async fn remove(
    State(people): State<People>,
    caller: Caller,
    condition: Condition,
    InPath(id): InPath<String>,
) -> Result<Json<Device>, Problem> {
    find(&people, &caller, &id).await?;
    match people.store.delete_device(&id, &caller.change(), &condition.0).await?.done("device", &id)? {
        DeviceDeletion::Done(row) => show_device(*row).map(Json),
        DeviceDeletion::Enrolled => Err(Problem::Refused(Refused {
            status: StatusCode::CONFLICT,
            kind: "device-enrolled",
            title: "The device is enrolled",
            detail: format!(
                "expected a device that is new or revoked, found {id}, which is enrolled or suspended; revoke it \
                 first, then delete it"
            ),
        })),
    }
}

/// Gives a device a new enrollment token, which is shown once; the old one is void.
#[utoipa::path(
    post,
    path = "/devices/{id}/enrollment-token",
    params(("id" = String, Path), IfMatchHeader),
    responses((status = 201, body = NewToken))
)]
async fn renew_token(
    State(people): State<People>,
    caller: Caller,
    condition: Condition,
    InPath(id): InPath<String>,
) -> Result<(StatusCode, Json<NewToken>), Problem> {
    find(&people, &caller, &id).await?;
    let enrollment_token = secret::new_token();
    let token_hash = secret::hash(&enrollment_token);
    let renewed = people.store.renew_token(&id, &token_hash, &caller.change(), &condition.0).await?;
    match renewed.done("device", &id)? {
        true => Ok((StatusCode::CREATED, Json(NewToken { id, enrollment_token }))),
        false => Err(refused(&people, &caller, id).await?),
    }
}

/// Approves the enrollment of a device, where its product asks for that.
#[utoipa::path(
    post,
    path = "/devices/{id}/approve",
    params(("id" = String, Path), IfMatchHeader),
    responses((status = 200, body = Device))
)]
async fn approve(
    State(people): State<People>,
    caller: Caller,
    condition: Condition,
    InPath(id): InPath<String>,
) -> Result<Tagged<Device>, Problem> {
    find(&people, &caller, &id).await?;
    match people.store.approve_device(&id, &caller.change(), &condition.0).await?.done("device", &id)? {
        true => tagged(find(&people, &caller, &id).await?),
        false => Err(refused(&people, &caller, id).await?),
    }
}

/// Forgets the failures of a device: the release is offered to it again.
#[utoipa::path(
    post,
    path = "/devices/{id}/clear-quarantine",
    params(("id" = String, Path), IfMatchHeader),
    responses((status = 200, body = Device))
)]
async fn clear_quarantine(
    State(people): State<People>,
    caller: Caller,
    condition: Condition,
    InPath(id): InPath<String>,
) -> Result<Tagged<Device>, Problem> {
    find(&people, &caller, &id).await?;
    people.store.clear_quarantine(&id, &caller.change(), &condition.0).await?.done("device", &id)?;
    tagged(find(&people, &caller, &id).await?)
}

/// Lists what happened to a device, newest first.
#[utoipa::path(
    get,
    path = "/devices/{id}/events",
    params(("id" = String, Path), PageParams),
    responses((status = 200, body = Page<Event>))
)]
async fn events(
    State(people): State<People>,
    caller: Caller,
    InPath(id): InPath<String>,
    Params(params): Params<PageParams>,
) -> Result<Json<Page<Event>>, Problem> {
    find(&people, &caller, &id).await?;
    let rows = people.store.events(&id, params.after(), params.rows()?).await?;
    params.page(rows, |row| row.id.clone(), show_event).map(Json)
}

async fn find(people: &People, caller: &Caller, id: &str) -> Result<DeviceRow, Problem> {
    let row = people.store.device(id).await?.filter(|row| caller.sees(&row.product));
    row.ok_or_else(|| Problem::NotFound { kind: "device", name: id.to_owned() })
}

pub(super) async fn existing_channel(
    people: &People,
    product: &str,
    channel: Option<String>,
) -> Result<String, Problem> {
    let channel = channel.unwrap_or_else(|| "stable".to_owned());
    channels::require(people, product, &channel).await?;
    Ok(channel)
}

/// Checks tags, and brings them into the one order in which they are stored.
pub(super) fn check_tags(mut tags: Vec<String>) -> Result<Vec<String>, Problem> {
    tags.sort_unstable();
    tags.dedup();
    if tags.len() > MAX_TAGS {
        return Err(Problem::Unsuitable(format!("expected at most {MAX_TAGS} tags, found {}", tags.len())));
    }
    for tag in &tags {
        rollout::check_tag(tag).map_err(Problem::Unsuitable)?;
    }
    Ok(tags)
}

fn tagged(row: DeviceRow) -> Result<Tagged<Device>, Problem> {
    Ok(Tagged { revision: row.revision, body: show_device(row)? })
}

fn show_device(row: DeviceRow) -> Result<Device, Problem> {
    let (state, suspended) = (row.state(), row.is_suspended());
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
        health: row.health.parse().map_err(Problem::internal)?,
        note: row.note,
        channel: row.channel,
        tags: serde_json::from_str(&row.tags)?,
        pinned_sequence: row.pinned_sequence,
        approved_at: row.approved_at_ms.map(clock::rfc3339),
        created_at: clock::rfc3339(row.created_at_ms),
        enrolled_at: row.enrolled_at_ms.map(clock::rfc3339),
        waiting_since: row
            .enrollment_pending_at_ms
            .filter(|_| row.approved_at_ms.is_none() && row.revoked_at_ms.is_none())
            .map(clock::rfc3339),
        revoked_at: row.revoked_at_ms.map(clock::rfc3339),
        revoked_reason: row.revoked_reason,
        suspended,
        last_seen_at: row.last_seen_at_ms.map(clock::rfc3339),
        certificate,
        running: row.running_digest.map(|digest| Running { digest, sequence, version }),
        slots: match row.slots {
            Some(slots) => serde_json::from_str(&slots)?,
            None => Vec::new(),
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
            reason: reason_name(code).to_owned(),
            code,
            at: clock::rfc3339(at_ms),
        }),
        clone_suspected_since: row.clone_suspected_at_ms.map(clock::rfc3339),
        certificate_refused: row
            .refused_at_ms
            .zip(row.refused_cause)
            .map(|(at_ms, cause)| CertificateRefused { cause, at: clock::rfc3339(at_ms) }),
        attempt: row.attempt_state.map(|state| Attempt {
            rollout: row.attempt_rollout,
            wave: row.attempt_wave,
            sequence: row.attempt_sequence,
            state,
            at: row.attempt_at_ms.map(clock::rfc3339),
        }),
        failures: row.failed_sequence.map(|sequence| Failures { sequence, count: row.failed_count }),
        quarantine: row
            .quarantined_at_ms
            .map(|at_ms| Quarantine { sequence: row.failed_sequence, since: clock::rfc3339(at_ms) }),
        revision: row.revision,
    })
}

fn show_event(row: EventRow) -> Result<Event, Problem> {
    Ok(Event { at: clock::rfc3339(row.at_ms), kind: row.kind, detail: serde_json::from_str(&row.detail)? })
}
