//! `/api/v1/rollouts`.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Sse;
use axum::response::sse::{Event, KeepAlive};
use futures_util::Stream;
use futures_util::stream;
use rollout::{
    Action, Cause, Counters, Observed, Percent, Plan, Progress, State as S, lack, next, soaks_until_ms,
};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::routes;

use super::auth::Caller;
use super::etag::{Condition, Tagged};
use super::page::{BothWays, Order, Page};
use super::request::{Body, InPath, Params};
use super::routes::{IfMatchHeader, Routes};
use super::{channels, product};
use crate::app::App;
use crate::clock;
use crate::problem::Problem;
use crate::store::{NewRollout, Place, RolloutFilter, RolloutRow, WaveRow, default_plan};

/// Other instances change rollouts too: a stream looks that often.
const LOOK: Duration = Duration::from_secs(1);

/// The shortest time between two events of a stream: a wave that opens moves counters many times a second.
const PACE: Duration = Duration::from_millis(200);

/// Life of a stream. A client opens it again, and its token is judged again.
const STREAM_LIFE: Duration = Duration::from_secs(300);

pub(super) fn routes() -> Routes {
    Routes::of("rollouts")
        .viewer(routes!(list))
        .viewer(routes!(show))
        .viewer(routes!(stream_changes))
        .operator(routes!(create))
        .operator(routes!(start))
        .operator(routes!(pause))
        .operator(routes!(resume))
        .operator(routes!(abort))
        .operator(routes!(approve))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewRolloutBody {
    product: String,
    /// The release that the rollout brings to the devices of a channel.
    sequence: i64,
    /// The channel; that which the release was published to when it is absent. The signed manifest names none: a release
    /// that did well on one channel is promoted to another by a rollout there.
    channel: Option<String>,
    /// Without one: the product's default plan, and without that one wave of all devices.
    #[serde(default)]
    plan: Option<Plan>,
    /// Whether it starts at once; else it is a draft.
    #[serde(default)]
    start: bool,
}

#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
struct ListParams {
    /// Rollouts of this product only.
    product: Option<String>,
    /// Rollouts in this state only.
    state: Option<rollout::State>,
    /// How many items a page has at most; 100 unless given.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<i64>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
    /// `previous_cursor` of the page after.
    before: Option<String>,
    /// `ascending`: the oldest first; `descending` when it is absent.
    #[param(inline)]
    order: Option<Order>,
}

#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
struct Rollout {
    id: String,
    product: String,
    channel: String,
    release: ReleaseOf,
    state: rollout::State,
    /// Index of the newest wave that is open.
    wave: usize,
    plan: Plan,
    waves: Vec<Wave>,
    /// Whether the newest open wave has its evidence: enough of its devices are healthy with the release, and hardly any
    /// is missing.
    has_evidence: bool,
    /// How many devices of open waves run less than the release requires, and wait for that; null until they were counted.
    waiting: Option<i64>,
    /// Until when the newest open wave soaks; null when it has soaked, or nothing is under way. Before that no wave is
    /// approved.
    #[schema(format = DateTime)]
    soaks_until: Option<String>,
    halt: Option<Halt>,
    /// The rollout of a newer release that took its place.
    superseded_by: Option<String>,
    /// The rollouts of older releases whose place it took.
    supersedes: Vec<String>,
    /// What happens next, in words, and what is still missing.
    next: String,
    #[schema(format = DateTime)]
    created_at: String,
    #[schema(format = DateTime)]
    started_at: Option<String>,
    #[schema(format = DateTime)]
    finished_at: Option<String>,
    revision: i64,
}

#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = RolloutRelease)]
struct ReleaseOf {
    sequence: i64,
    version: String,
    digest: String,
    /// The release that a device must run, or a newer one, before it is offered this one.
    requires: Option<i64>,
}

#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = RolloutWave)]
struct Wave {
    index: usize,
    state: WaveState,
    #[schema(format = DateTime)]
    started_at: Option<String>,
    counters: Counters,
    /// How many devices it has: those that were seen within 30 days before the start or since; null until they were
    /// counted.
    devices: Option<u64>,
    /// How many of them must be healthy before the next wave opens.
    needed: Option<u64>,
    /// Whether it has its evidence: so many are healthy, and no more than its `silence_percent` took the release and are not
    /// heard again. Later waves do not change it.
    has_evidence: bool,
    /// The id of the device that it has because nobody else is in it: a share is at least one device.
    stand_in: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum WaveState {
    /// Its devices are not offered the release yet.
    Waiting,
    /// The newest wave that is open.
    Open,
    /// A later one is open.
    Done,
}

/// Why a rollout halted.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = RolloutHalt)]
struct Halt {
    cause: Cause,
    /// Index of the wave whose limit was exceeded.
    wave: usize,
    /// How many devices.
    observed: u64,
    /// Of how many.
    sample: u64,
    /// The share that is tolerated.
    limit_percent: Percent,
    /// How often the rollout had been resumed after a halt. `GET /devices` lists all these devices by `rollout`, `wave`,
    /// `epoch` and `attempt`.
    epoch: i64,
    /// Which devices; the first 100 by id.
    devices: Vec<String>,
    #[schema(format = DateTime)]
    at: String,
}

/// Lists rollouts, newest first.
#[utoipa::path(get, path = "/rollouts", params(ListParams), responses((status = 200, body = Page<Rollout>)))]
async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    Params(params): Params<ListParams>,
) -> Result<Json<Page<Rollout>>, Problem> {
    product::require(&app, &caller, params.product.as_deref().unwrap_or_default()).await?;
    let filter = RolloutFilter {
        product: params.product.unwrap_or_default(),
        state: params.state.map(|state| state.name().to_owned()).unwrap_or_default(),
        scope: caller.scope().to_owned(),
    };
    let page =
        BothWays::new(params.limit, params.cursor, params.before)?.in_order(params.order, Order::Descending);
    // The newest first: after a page come older ones.
    let (key, newer) = match page.place() {
        Place::After("") => (None, false),
        Place::Before("") => (None, true),
        Place::After(key) => (Some(place(key)?), false),
        Place::Before(key) => (Some(place(key)?), true),
    };
    let rows = app.people.rollouts(&filter, key, newer, page.rows()?).await?;
    let waves = app.people.waves_of(&rows).await?;
    let cursor = |row: &RolloutRow| format!("{}.{}", row.created_at_ms, row.id);
    let now_ms = app.config.clock.now_ms();
    page.page(rows, cursor, |row| {
        let waves = waves.get(&row.id).map(Vec::as_slice).unwrap_or_default();
        show_rollout(row, waves, now_ms)
    })
    .map(Json)
}

/// Makes a rollout of a release, as a draft or started. One that starts supersedes those of older releases on its channel.
#[utoipa::path(post, path = "/rollouts", request_body = NewRolloutBody, responses((status = 201, body = Rollout)))]
async fn create(
    State(app): State<Arc<App>>,
    caller: Caller,
    Body(body): Body<NewRolloutBody>,
) -> Result<(StatusCode, Tagged<Rollout>), Problem> {
    let product = product::find(&app, &caller, body.product).await?;
    let channel = app.people.release_channel(&product.name, body.sequence).await?;
    let channel = channel.ok_or_else(|| Problem::NotFound {
        kind: "release",
        name: format!("{} {}", product.name, body.sequence),
    })?;
    let channel = match body.channel {
        Some(other) => {
            channels::require(&app, &product.name, &other).await?;
            other
        }
        None => channel,
    };
    let plan = match body.plan {
        Some(plan) => plan,
        None => default_plan(&product.name, product.default_plan.as_deref())?,
    };
    let new = NewRollout {
        product: &product.name,
        channel: &channel,
        sequence: body.sequence,
        plan: &plan,
        start: body.start,
    };
    let change = caller.change();
    let id = app.people.create_rollout(&new, &change).await??;
    Ok((StatusCode::CREATED, tagged(&app, &id).await?))
}

/// Shows a rollout.
#[utoipa::path(get, path = "/rollouts/{id}", params(("id" = String, Path)), responses((status = 200, body = Rollout)))]
async fn show(
    State(app): State<Arc<App>>,
    caller: Caller,
    InPath(id): InPath<String>,
) -> Result<Tagged<Rollout>, Problem> {
    find(&app, &caller, &id).await?;
    tagged(&app, &id).await
}

/// Starts a draft: the first wave opens.
#[utoipa::path(post, path = "/rollouts/{id}/start", params(("id" = String, Path), IfMatchHeader), responses((status = 200, body = Rollout)))]
async fn start(
    State(app): State<Arc<App>>,
    caller: Caller,
    condition: Condition,
    InPath(id): InPath<String>,
) -> Result<Tagged<Rollout>, Problem> {
    act(&app, &caller, &condition, &id, Action::Start).await
}

/// Stops offering the release until it is resumed.
#[utoipa::path(post, path = "/rollouts/{id}/pause", params(("id" = String, Path), IfMatchHeader), responses((status = 200, body = Rollout)))]
async fn pause(
    State(app): State<Arc<App>>,
    caller: Caller,
    condition: Condition,
    InPath(id): InPath<String>,
) -> Result<Tagged<Rollout>, Problem> {
    act(&app, &caller, &condition, &id, Action::Pause).await
}

/// Goes on after a pause or a halt: the newest wave soaks anew, and what led to a halt counts no more.
#[utoipa::path(post, path = "/rollouts/{id}/resume", params(("id" = String, Path), IfMatchHeader), responses((status = 200, body = Rollout)))]
async fn resume(
    State(app): State<Arc<App>>,
    caller: Caller,
    condition: Condition,
    InPath(id): InPath<String>,
) -> Result<Tagged<Rollout>, Problem> {
    act(&app, &caller, &condition, &id, Action::Resume).await
}

/// Stops for good: devices that run the release go back where its signed manifest allows that.
#[utoipa::path(post, path = "/rollouts/{id}/abort", params(("id" = String, Path), IfMatchHeader), responses((status = 200, body = Rollout)))]
async fn abort(
    State(app): State<Arc<App>>,
    caller: Caller,
    condition: Condition,
    InPath(id): InPath<String>,
) -> Result<Tagged<Rollout>, Problem> {
    act(&app, &caller, &condition, &id, Action::Abort).await
}

/// Opens the next wave, which waits for an approval or for evidence. While the wave before soaks none does (409).
#[utoipa::path(post, path = "/rollouts/{id}/approve", params(("id" = String, Path), IfMatchHeader), responses((status = 200, body = Rollout)))]
async fn approve(
    State(app): State<Arc<App>>,
    caller: Caller,
    condition: Condition,
    InPath(id): InPath<String>,
) -> Result<Tagged<Rollout>, Problem> {
    act(&app, &caller, &condition, &id, Action::Approve).await
}

/// Server-sent events: the rollout now, and again whenever it changes.
#[utoipa::path(get, path = "/rollouts/{id}/stream", params(("id" = String, Path)), responses((status = 200, body = String, content_type = "text/event-stream")))]
async fn stream_changes(
    State(app): State<Arc<App>>,
    caller: Caller,
    InPath(id): InPath<String>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    find(&app, &caller, &id).await?;
    let moved = app.people.rollouts_moved();
    let changes = Changes { app, id, moved, last: None, ends: Instant::now() + STREAM_LIFE };
    let events = stream::unfold(changes, |mut changes| async move {
        let json = changes.next().await?;
        Some((Ok(Event::default().data(json)), changes))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::default()))
}

/// What one stream has told.
struct Changes {
    app: Arc<App>,
    id: String,
    moved: watch::Receiver<u64>,
    last: Option<Rollout>,
    ends: Instant,
}

impl Changes {
    /// JSON of the rollout as soon as it is another one; `None` at the end of the stream.
    async fn next(&mut self) -> Option<String> {
        let stop = self.app.stop.clone();
        loop {
            if stop.is_cancelled() || Instant::now() >= self.ends {
                return None;
            }
            self.moved.mark_unchanged();
            let now = match read(&self.app, &self.id).await {
                Ok(now) => now,
                Err(error) => {
                    tracing::error!("a stream of rollout {} ends: {error}", self.id);
                    return None;
                }
            };
            if self.last.as_ref() != Some(&now) {
                let json = serde_json::to_string(&now).ok()?;
                self.last = Some(now);
                return Some(json);
            }
            let wait = timeout_at(Instant::now() + LOOK, self.moved.changed());
            tokio::select! {
                () = stop.cancelled() => return None,
                // Both mean: look.
                _ = wait => sleep(PACE).await,
            }
        }
    }
}

async fn act(
    app: &App,
    caller: &Caller,
    condition: &Condition,
    id: &str,
    action: Action,
) -> Result<Tagged<Rollout>, Problem> {
    find(app, caller, id).await?;
    let change = caller.change();
    app.people.act_on_rollout(id, action, &change, &condition.0).await?.done("rollout", id)??;
    tagged(app, id).await
}

async fn find(app: &App, caller: &Caller, id: &str) -> Result<RolloutRow, Problem> {
    let row = app.people.rollout(id).await?.filter(|row| caller.sees(&row.product));
    row.ok_or_else(|| Problem::NotFound { kind: "rollout", name: id.to_owned() })
}

async fn tagged(app: &App, id: &str) -> Result<Tagged<Rollout>, Problem> {
    let body = read(app, id).await?;
    Ok(Tagged { revision: body.revision, body })
}

async fn read(app: &App, id: &str) -> Result<Rollout, Problem> {
    let row = app.people.rollout(id).await?;
    let row = row.ok_or_else(|| Problem::NotFound { kind: "rollout", name: id.to_owned() })?;
    let waves = app.people.waves(id).await?;
    show_rollout(row, &waves, app.config.clock.now_ms())
}

fn show_rollout(row: RolloutRow, waves: &[WaveRow], now_ms: i64) -> Result<Rollout, Problem> {
    let (state, plan, open) = (row.state()?, row.plan()?, row.wave());
    let observed: Vec<_> = waves.iter().map(WaveRow::observed).collect();
    let progress = row.progress(&observed)?;
    let (has_evidence, next) = (lack(&plan, &progress).is_none(), next(&plan, &progress, now_ms));
    let soaks_until = match state {
        S::Running | S::Open => soaks_until_ms(&plan, &progress, now_ms).map(clock::rfc3339),
        S::Draft
        | S::AwaitingApproval
        | S::Paused
        | S::Halted
        | S::Aborted
        | S::Completed
        | S::Superseded => None,
    };
    let needed = |index: usize, observed: &Observed| {
        plan.waves().get(index).zip(observed.devices()).map(|(wave, devices)| wave.evidence.needed(devices))
    };
    let waves = waves.iter().zip(&observed).enumerate().map(|(index, (wave, observed))| Wave {
        index,
        state: match wave.started_at_ms {
            None => WaveState::Waiting,
            Some(_) if index == open && !state.is_finished() => WaveState::Open,
            Some(_) => WaveState::Done,
        },
        started_at: wave.started_at_ms.map(clock::rfc3339),
        counters: observed.total,
        devices: observed.devices(),
        needed: needed(index, observed),
        has_evidence: wave.started_at_ms.is_some()
            && lack(&plan, &Progress { wave: index, ..progress }).is_none(),
        stand_in: wave.stand_in.clone(),
    });
    let (halt, supersedes) = (row.halt()?, row.supersedes()?);
    Ok(Rollout {
        waves: waves.collect(),
        has_evidence,
        waiting: row.waiting,
        soaks_until,
        superseded_by: row.superseded_by,
        supersedes,
        id: row.id,
        product: row.product,
        channel: row.channel,
        release: ReleaseOf {
            sequence: row.sequence,
            version: row.version,
            digest: row.digest,
            requires: row.requires,
        },
        state,
        wave: open,
        plan,
        halt: halt.map(|halt| Halt {
            cause: halt.cause,
            wave: halt.wave,
            observed: halt.observed,
            sample: halt.sample,
            limit_percent: halt.limit_percent,
            epoch: row.epoch,
            devices: halt.devices,
            at: clock::rfc3339(halt.at_ms),
        }),
        next,
        created_at: clock::rfc3339(row.created_at_ms),
        started_at: row.started_at_ms.map(clock::rfc3339),
        finished_at: row.finished_at_ms.map(clock::rfc3339),
        revision: row.revision,
    })
}

/// The place in a list that a cursor names.
fn place(cursor: &str) -> Result<(i64, &str), Problem> {
    cursor
        .split_once('.')
        .and_then(|(at_ms, id)| Some((at_ms.parse().ok()?, id)))
        .ok_or_else(|| Problem::cursor(cursor))
}
