//! `/api/v1/devices/bulk/…`: many devices at once.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::routes;

use super::auth::Caller;
use super::devices::{
    CreatedDevices, DeviceState, Health, MAX_BULK, MAX_TAGS, MAX_TEXT_CHARS, check_tags, existing_channel,
    with_token,
};
use super::request::{Body, check_device_id, check_text};
use super::routes::Routes;
use super::{channels, product};
use crate::app::App;
use crate::problem::Problem;
use crate::store::{Bulk, BulkAction, BulkPart, DeviceFilter, DeviceRevocation};

pub(super) fn routes() -> Routes {
    Routes::of("devices")
        .operator(routes!(import))
        .operator(routes!(approve_bulk))
        .operator(routes!(revoke_bulk))
        .operator(routes!(change_bulk))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ImportBody {
    product: String,
    #[schema(min_items = 1, max_items = 1000)]
    devices: Vec<ImportedDevice>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ImportedDevice {
    #[schema(min_length = 1, max_length = 64, pattern = "^[A-Za-z0-9_][A-Za-z0-9._:-]*$")]
    id: String,
    /// `stable` when it is absent.
    channel: Option<String>,
    #[serde(default)]
    tags: Vec<String>,
}

/// Which devices of a product; what is absent fits all. As the list of devices takes it.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Selection {
    product: String,
    #[serde(default)]
    channel: String,
    #[serde(default)]
    tag: String,
    state: Option<DeviceState>,
    health: Option<Health>,
    /// Sequence number of the release that it runs.
    #[schema(minimum = 0)]
    sequence: Option<i64>,
    /// Part of the id, in any case.
    #[serde(default)]
    q: String,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ApproveBulkBody {
    filter: Selection,
    /// How many there are, past `cursor`. Another number is refused. Without it, they are counted and nothing is changed.
    expect: Option<i64>,
    /// `next_cursor` of the call before.
    #[serde(default)]
    cursor: String,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct RevokeBulkBody {
    filter: Selection,
    /// How many there are, past `cursor`. Another number is refused. Without it, they are counted and nothing is changed.
    expect: Option<i64>,
    /// `next_cursor` of the call before.
    #[serde(default)]
    cursor: String,
    #[schema(min_length = 1, max_length = 4096)]
    reason: Option<String>,
    /// Only until they are resumed.
    #[serde(default)]
    suspend: bool,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ChangeBulkBody {
    filter: Selection,
    /// How many there are, past `cursor`. Another number is refused. Without it, they are counted and nothing is changed.
    expect: Option<i64>,
    /// `next_cursor` of the call before.
    #[serde(default)]
    cursor: String,
    channel: Option<String>,
    #[serde(default)]
    add_tags: Vec<String>,
    #[serde(default)]
    remove_tags: Vec<String>,
}

/// What became of a call about all devices of a filter.
#[derive(Serialize, ToSchema)]
struct BulkOutcome {
    /// How many fit the filter, past `cursor`.
    count: i64,
    /// How many this call changed; with some there was nothing left to do.
    changed: i64,
    /// Goes on with the others, of which there are `count - 1000`; null when there are none.
    next_cursor: Option<String>,
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
    let product = product::find(&app, &caller, body.product).await?.name;
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
            channel => existing_channel(&app, &product, channel).await?,
        };
        known.insert(channel.clone());
        let (device, item) = with_token(id, channel, check_tags(tags)?);
        devices.push(device);
        items.push(item);
    }
    match app.people.add_devices(&devices, &product, "", &caller.change()).await {
        Ok(()) => Ok((StatusCode::CREATED, Json(CreatedDevices { items }))),
        Err(error) if error.is_duplicate() => {
            for id in ids {
                if app.people.device(&id).await?.is_some() {
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
    request_body = ApproveBulkBody,
    responses((status = 200, body = BulkOutcome))
)]
async fn approve_bulk(
    State(app): State<Arc<App>>,
    caller: Caller,
    Body(body): Body<ApproveBulkBody>,
) -> Result<Json<BulkOutcome>, Problem> {
    let ApproveBulkBody { filter, expect, cursor } = body;
    let filter = filter.checked(&app, &caller).await?;
    act(&app, &caller, &filter, expect, &cursor, BulkAction::Approve).await
}

/// Revokes or suspends all devices of a filter, 1000 of them at most, when there are as many as were expected.
#[utoipa::path(
    post,
    path = "/devices/bulk/revoke",
    request_body = RevokeBulkBody,
    responses((status = 200, body = BulkOutcome))
)]
async fn revoke_bulk(
    State(app): State<Arc<App>>,
    caller: Caller,
    Body(body): Body<RevokeBulkBody>,
) -> Result<Json<BulkOutcome>, Problem> {
    let RevokeBulkBody { filter, expect, cursor, reason, suspend: suspends } = body;
    let filter = filter.checked(&app, &caller).await?;
    let reason = reason.unwrap_or_else(|| "revoked by an operator, with others".to_owned());
    check_text("reason", &reason, 1, MAX_TEXT_CHARS)?;
    let action = BulkAction::Revoke(DeviceRevocation { reason: &reason, suspends });
    act(&app, &caller, &filter, expect, &cursor, action).await
}

/// Changes channel and tags of all devices of a filter, 1000 of them at most, when there are as many as were expected.
#[utoipa::path(
    post,
    path = "/devices/bulk/change",
    request_body = ChangeBulkBody,
    responses((status = 200, body = BulkOutcome))
)]
async fn change_bulk(
    State(app): State<Arc<App>>,
    caller: Caller,
    Body(body): Body<ChangeBulkBody>,
) -> Result<Json<BulkOutcome>, Problem> {
    let ChangeBulkBody { filter, expect, cursor, channel, add_tags, remove_tags } = body;
    let filter = filter.checked(&app, &caller).await?;
    if let Some(channel) = &channel {
        channels::require(&app, &filter.product, channel).await?;
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
    act(&app, &caller, &filter, expect, &cursor, action).await
}

async fn act(
    app: &App,
    caller: &Caller,
    filter: &DeviceFilter,
    expect: Option<i64>,
    after: &str,
    action: BulkAction<'_>,
) -> Result<Json<BulkOutcome>, Problem> {
    let part = BulkPart { filter, after, expect, limit: MAX_BULK };
    match app.people.do_to_devices(part, action, &caller.change()).await? {
        Bulk::Done { count, changed, last } => Ok(Json(BulkOutcome { count, changed, next_cursor: last })),
        Bulk::Differs { count } => {
            Err(Problem::CountDiffers { expected: expect.unwrap_or_default(), found: count })
        }
        Bulk::TooManyTags { device } => Err(Problem::Unsuitable(format!(
            "expected at most {MAX_TAGS} tags of a device, device {device} would have more"
        ))),
    }
}

impl Selection {
    async fn checked(self, app: &App, caller: &Caller) -> Result<DeviceFilter, Problem> {
        let product = product::find(app, caller, self.product).await?.name;
        if let Some(found) = self.sequence.filter(|sequence| *sequence < 0) {
            return Err(Problem::Invalid(format!("expected a sequence number of 0 and up, found {found}")));
        }
        Ok(DeviceFilter {
            scope: caller.scope().to_owned(),
            product,
            channel: self.channel,
            tag: self.tag,
            state: self.state.map_or("", DeviceState::name).to_owned(),
            health: self.health.map_or("", Health::name).to_owned(),
            sequence: self.sequence,
            part: self.q,
            ..DeviceFilter::default()
        })
    }
}
