//! `/api/v1/devices/bulk/…`: many devices at once.

use std::collections::BTreeSet;
use std::sync::Arc;

use api::bulk::{
    BulkBody, BulkOutcome, ChangeBulkBody, ImportBody, ImportedDevice, RevokeBulkBody, Selection,
};
use api::device::{CreatedDevices, DeviceState, Health};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use utoipa_axum::routes;

use super::auth::Caller;
use super::devices::{
    MAX_BULK, MAX_TAGS, MAX_TEXT_CHARS, check_tags, ends_before, existing_channel, with_token,
};
use super::request::{Body, check_device_id, check_text};
use super::routes::Routes;
use super::{channels, product};
use crate::app::{App, People};
use crate::problem::Problem;
use crate::store::{Bulk, BulkAction, BulkPart, DeviceFilter, DeviceRevocation};

pub(super) fn routes() -> Routes {
    Routes::of("devices")
        .operator(routes!(import))
        .operator(routes!(approve_bulk))
        .operator(routes!(revoke_bulk))
        .operator(routes!(resume_bulk))
        .operator(routes!(delete_bulk))
        .operator(routes!(change_bulk))
}

/// Makes devices of ids that are there already, such as serial numbers, each with a one-time enrollment token, which is shown
/// once. All or none.
#[utoipa::path(
    post,
    path = "/devices/bulk/import",
    request_body = ImportBody,
    responses((status = 201, body = CreatedDevices))
)]
async fn import(
    State(app): State<Arc<App>>,
    caller: Caller,
    Body(body): Body<ImportBody>,
) -> Result<(StatusCode, Json<CreatedDevices>), Problem> {
    let product = product::find(&app.people, &caller, body.product).await?.name;
    let found = i64::try_from(body.devices.len()).unwrap_or(i64::MAX);
    if !(1..=MAX_BULK).contains(&found) {
        return Err(Problem::Invalid(format!(
            "expected 1 to {MAX_BULK} devices, found {found}; make more with more calls"
        )));
    }
    let (mut ids, mut known) = (BTreeSet::new(), BTreeSet::new());
    let (mut devices, mut items) = (Vec::new(), Vec::new());
    for ImportedDevice { id, channel, tags } in body.devices {
        check_device_id(&id)?;
        if !ids.insert(id.clone()) {
            return Err(Problem::Unsuitable(format!("expected each id once, found {id} twice")));
        }
        let channel = match channel {
            Some(channel) if known.contains(&channel) => channel,
            channel => existing_channel(&app.people, &product, channel).await?,
        };
        known.insert(channel.clone());
        let (device, item) = with_token(id, channel, check_tags(tags)?);
        devices.push(device);
        items.push(item);
    }
    match app.people.store.add_devices(&devices, &product, "", &caller.change()).await {
        Ok(()) => Ok((StatusCode::CREATED, Json(CreatedDevices { items }))),
        Err(error) if error.is_duplicate() => {
            for id in ids {
                if app.people.store.device(&id).await?.is_some() {
                    return Err(Problem::Exists { kind: "device", name: id });
                }
            }
            // It was made and removed in between.
            Err(error.into())
        }
        Err(error) => Err(error.into()),
    }
}

/// Approves the enrollment of all devices of a filter, 1000 of them at most, when there are as many as were expected.
#[utoipa::path(
    post,
    path = "/devices/bulk/approve",
    request_body = BulkBody,
    responses((status = 200, body = BulkOutcome))
)]
async fn approve_bulk(
    State(people): State<People>,
    caller: Caller,
    Body(body): Body<BulkBody>,
) -> Result<Json<BulkOutcome>, Problem> {
    act_on_all(&people, &caller, body, BulkAction::Approve).await
}

/// Revokes or suspends all devices of a filter, 1000 of them at most, when there are as many as were expected.
#[utoipa::path(
    post,
    path = "/devices/bulk/revoke",
    request_body = RevokeBulkBody,
    responses((status = 200, body = BulkOutcome))
)]
async fn revoke_bulk(
    State(people): State<People>,
    caller: Caller,
    Body(body): Body<RevokeBulkBody>,
) -> Result<Json<BulkOutcome>, Problem> {
    let RevokeBulkBody { filter, expect, cursor, reason, suspend: suspends } = body;
    let filter = checked(filter, &people, &caller).await?;
    let reason = reason.unwrap_or_else(|| "revoked by an operator, with others".to_owned());
    check_text("reason", &reason, 1, MAX_TEXT_CHARS)?;
    let action = BulkAction::Revoke(DeviceRevocation { reason: &reason, suspends });
    act(&people, &caller, &filter, expect, &cursor, action).await
}

/// Takes the suspension of all devices of a filter back, 1000 of them at most, when there are as many as were expected. Those
/// that are not suspended stay as they are.
#[utoipa::path(
    post,
    path = "/devices/bulk/resume",
    request_body = BulkBody,
    responses((status = 200, body = BulkOutcome))
)]
async fn resume_bulk(
    State(people): State<People>,
    caller: Caller,
    Body(body): Body<BulkBody>,
) -> Result<Json<BulkOutcome>, Problem> {
    act_on_all(&people, &caller, body, BulkAction::Resume).await
}

/// Deletes all devices of a filter, 1000 of them at most, when there are as many as were expected. Those that are enrolled or
/// suspended stay as they are: they are revoked first.
#[utoipa::path(
    post,
    path = "/devices/bulk/delete",
    request_body = BulkBody,
    responses((status = 200, body = BulkOutcome))
)]
async fn delete_bulk(
    State(people): State<People>,
    caller: Caller,
    Body(body): Body<BulkBody>,
) -> Result<Json<BulkOutcome>, Problem> {
    act_on_all(&people, &caller, body, BulkAction::Delete).await
}

/// Changes channel and tags of all devices of a filter, 1000 of them at most, when there are as many as were expected.
#[utoipa::path(
    post,
    path = "/devices/bulk/change",
    request_body = ChangeBulkBody,
    responses((status = 200, body = BulkOutcome))
)]
async fn change_bulk(
    State(people): State<People>,
    caller: Caller,
    Body(body): Body<ChangeBulkBody>,
) -> Result<Json<BulkOutcome>, Problem> {
    let ChangeBulkBody { filter, expect, cursor, channel, add_tags, remove_tags } = body;
    let filter = checked(filter, &people, &caller).await?;
    if let Some(channel) = &channel {
        channels::require(&people, &filter.product, channel).await?;
    }
    let (add_tags, remove_tags) = (check_tags(add_tags)?, check_tags(remove_tags)?);
    if channel.is_none() && add_tags.is_empty() && remove_tags.is_empty() {
        return Err(Problem::Unsuitable(
            "expected channel, add_tags or remove_tags, found nothing to change".to_owned(),
        ));
    }
    let action = BulkAction::Change {
        channel: channel.as_deref(),
        add_tags: &add_tags,
        remove_tags: &remove_tags,
        max_tags: MAX_TAGS,
    };
    act(&people, &caller, &filter, expect, &cursor, action).await
}

async fn act_on_all(
    people: &People,
    caller: &Caller,
    BulkBody { filter, expect, cursor }: BulkBody,
    action: BulkAction<'_>,
) -> Result<Json<BulkOutcome>, Problem> {
    let filter = checked(filter, people, caller).await?;
    act(people, caller, &filter, expect, &cursor, action).await
}

async fn act(
    people: &People,
    caller: &Caller,
    filter: &DeviceFilter,
    expect: Option<i64>,
    after: &str,
    action: BulkAction<'_>,
) -> Result<Json<BulkOutcome>, Problem> {
    let part = BulkPart { filter, after, expect, limit: MAX_BULK };
    match people.store.do_to_devices(part, action, &caller.change()).await? {
        Bulk::Done { count, changed, last } => Ok(Json(BulkOutcome { count, changed, next_cursor: last })),
        Bulk::Differs { count } => {
            Err(Problem::CountDiffers { expected: expect.unwrap_or_default(), found: count })
        }
        Bulk::TooManyTags { device } => Err(Problem::Unsuitable(format!(
            "expected at most {MAX_TAGS} tags of a device, device {device} would have more"
        ))),
    }
}

async fn checked(selection: Selection, people: &People, caller: &Caller) -> Result<DeviceFilter, Problem> {
    let product = product::find(people, caller, selection.product).await?.name;
    if let Some(found) = selection.sequence.filter(|sequence| *sequence < 0) {
        return Err(Problem::Invalid(format!("expected a sequence number of 0 and up, found {found}")));
    }
    check_text("part of an id", &selection.q, 0, MAX_TEXT_CHARS)?;
    Ok(DeviceFilter {
        scope: caller.scope().to_owned(),
        product,
        channel: selection.channel,
        tag: selection.tag,
        state: selection.state.map_or("", DeviceState::name).to_owned(),
        health: selection.health.map_or("", Health::name).to_owned(),
        sequence: selection.sequence,
        part: selection.q,
        is_suspended: selection.suspended,
        is_cloned: selection.clone_suspected,
        is_refused: selection.certificate_refused,
        ends_before_ms: ends_before(selection.certificate_ends_within_days, people.clock.now_ms())?,
        ..DeviceFilter::default()
    })
}
