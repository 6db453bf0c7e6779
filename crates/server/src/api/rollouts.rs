//! `/api/v1/rollouts`.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use api::page::{Order, Page};
use api::rollout::{
    ListParams, NewRolloutBody, Rollout, RolloutHalt, RolloutRelease, RolloutWave, WaveState,
};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Sse;
use axum::response::sse::{Event, KeepAlive};
use futures_util::Stream;
use futures_util::stream;
use rollout::{Action, Observed, Progress, State as S, lack, next, soaks_until_ms};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;
use utoipa_axum::routes;

use super::auth::Caller;
use super::etag::{Condition, Tagged};
use super::page::BothWays;
use super::request::{Body, InPath, Params};
use super::routes::{IfMatchHeader, Routes};
use super::{channels, product};
use crate::app::{App, People};
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

/// Lists rollouts, newest first.
#[utoipa::path(get, path = "/rollouts", params(ListParams), responses((status = 200, body = Page<Rollout>)))]
async fn list(
    State(people): State<People>,
    caller: Caller,
    Params(params): Params<ListParams>,
) -> Result<Json<Page<Rollout>>, Problem> {
    product::require(&people, &caller, params.product.as_deref().unwrap_or_default()).await?;
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
    let rows = people.store.rollouts(&filter, key, newer, page.rows()?).await?;
    let waves = people.store.waves_of(&rows).await?;
    let cursor = |row: &RolloutRow| format!("{}.{}", row.created_at_ms, row.id);
    let now_ms = people.clock.now_ms();
    page.page(rows, cursor, |row| {
        let waves = waves.get(&row.id).map(Vec::as_slice).unwrap_or_default();
        show_rollout(row, waves, now_ms)
    })
    .map(Json)
}

/// Makes a rollout of a release, as a draft or started. One that starts supersedes those of older releases on its channel.
#[utoipa::path(post, path = "/rollouts", request_body = NewRolloutBody, responses((status = 201, body = Rollout)))]
async fn create(
    State(people): State<People>,
    caller: Caller,
    Body(body): Body<NewRolloutBody>,
) -> Result<(StatusCode, Tagged<Rollout>), Problem> {
    let product = product::find(&people, &caller, body.product).await?;
    let channel = people.store.release_channel(&product.name, body.sequence).await?;
    let channel = channel.ok_or_else(|| Problem::NotFound {
        kind: "release",
        name: format!("{} {}", product.name, body.sequence),
    })?;
    let channel = match body.channel {
        Some(other) => {
            channels::require(&people, &product.name, &other).await?;
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
    let id = people.store.create_rollout(&new, &change).await??;
    Ok((StatusCode::CREATED, tagged(&people, &id).await?))
}

/// Shows a rollout.
#[utoipa::path(get, path = "/rollouts/{id}", params(("id" = String, Path)), responses((status = 200, body = Rollout)))]
async fn show(
    State(people): State<People>,
    caller: Caller,
    InPath(id): InPath<String>,
) -> Result<Tagged<Rollout>, Problem> {
    find(&people, &caller, &id).await?;
    tagged(&people, &id).await
}

/// Starts a draft: the first wave opens.
#[utoipa::path(post, path = "/rollouts/{id}/start", params(("id" = String, Path), IfMatchHeader), responses((status = 200, body = Rollout)))]
async fn start(
    State(people): State<People>,
    caller: Caller,
    condition: Condition,
    InPath(id): InPath<String>,
) -> Result<Tagged<Rollout>, Problem> {
    act(&people, &caller, &condition, &id, Action::Start).await
}

/// Stops offering the release until it is resumed.
#[utoipa::path(post, path = "/rollouts/{id}/pause", params(("id" = String, Path), IfMatchHeader), responses((status = 200, body = Rollout)))]
async fn pause(
    State(people): State<People>,
    caller: Caller,
    condition: Condition,
    InPath(id): InPath<String>,
) -> Result<Tagged<Rollout>, Problem> {
    act(&people, &caller, &condition, &id, Action::Pause).await
}

/// Goes on after a pause or a halt: the newest wave soaks anew, and what led to a halt counts no more.
#[utoipa::path(post, path = "/rollouts/{id}/resume", params(("id" = String, Path), IfMatchHeader), responses((status = 200, body = Rollout)))]
async fn resume(
    State(people): State<People>,
    caller: Caller,
    condition: Condition,
    InPath(id): InPath<String>,
) -> Result<Tagged<Rollout>, Problem> {
    act(&people, &caller, &condition, &id, Action::Resume).await
}

/// Stops for good: devices that run the release go back where its signed manifest allows that.
#[utoipa::path(post, path = "/rollouts/{id}/abort", params(("id" = String, Path), IfMatchHeader), responses((status = 200, body = Rollout)))]
async fn abort(
    State(people): State<People>,
    caller: Caller,
    condition: Condition,
    InPath(id): InPath<String>,
) -> Result<Tagged<Rollout>, Problem> {
    act(&people, &caller, &condition, &id, Action::Abort).await
}

/// Opens the next wave, which waits for an approval or for evidence. While the wave before soaks none does (409).
#[utoipa::path(post, path = "/rollouts/{id}/approve", params(("id" = String, Path), IfMatchHeader), responses((status = 200, body = Rollout)))]
async fn approve(
    State(people): State<People>,
    caller: Caller,
    condition: Condition,
    InPath(id): InPath<String>,
) -> Result<Tagged<Rollout>, Problem> {
    act(&people, &caller, &condition, &id, Action::Approve).await
}

/// Server-sent events: the rollout now, and again whenever it changes.
#[utoipa::path(get, path = "/rollouts/{id}/stream", params(("id" = String, Path)), responses((status = 200, body = String, content_type = "text/event-stream")))]
async fn stream_changes(
    State(app): State<Arc<App>>,
    caller: Caller,
    InPath(id): InPath<String>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    find(&app.people, &caller, &id).await?;
    let moved = app.people.store.rollouts_moved();
    let (people, stop) = (app.people.clone(), app.stop.clone());
    let changes = Changes { people, stop, id, moved, last: None, ends: Instant::now() + STREAM_LIFE };
    let events = stream::unfold(changes, |mut changes| async move {
        let json = changes.next().await?;
        Some((Ok(Event::default().data(json)), changes))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::default()))
}

/// What one stream has told.
struct Changes {
    people: People,
    stop: CancellationToken,
    id: String,
    moved: watch::Receiver<u64>,
    last: Option<Rollout>,
    ends: Instant,
}

impl Changes {
    /// JSON of the rollout as soon as it is another one; `None` at the end of the stream.
    async fn next(&mut self) -> Option<String> {
        let stop = self.stop.clone();
        loop {
            if stop.is_cancelled() || Instant::now() >= self.ends {
                return None;
            }
            self.moved.mark_unchanged();
            let now = match read(&self.people, &self.id).await {
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
    people: &People,
    caller: &Caller,
    condition: &Condition,
    id: &str,
    action: Action,
) -> Result<Tagged<Rollout>, Problem> {
    find(people, caller, id).await?;
    let change = caller.change();
    people.store.act_on_rollout(id, action, &change, &condition.0).await?.done("rollout", id)??;
    tagged(people, id).await
}

async fn find(people: &People, caller: &Caller, id: &str) -> Result<RolloutRow, Problem> {
    let row = people.store.rollout(id).await?.filter(|row| caller.sees(&row.product));
    row.ok_or_else(|| Problem::NotFound { kind: "rollout", name: id.to_owned() })
}

async fn tagged(people: &People, id: &str) -> Result<Tagged<Rollout>, Problem> {
    let body = read(people, id).await?;
    Ok(Tagged { revision: body.revision, body })
}

async fn read(people: &People, id: &str) -> Result<Rollout, Problem> {
    let row = people.store.rollout(id).await?;
    let row = row.ok_or_else(|| Problem::NotFound { kind: "rollout", name: id.to_owned() })?;
    let waves = people.store.waves(id).await?;
    show_rollout(row, &waves, people.clock.now_ms())
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
    let waves = waves.iter().zip(&observed).enumerate().map(|(index, (wave, observed))| RolloutWave {
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
        release: RolloutRelease {
            sequence: row.sequence,
            version: row.version,
            digest: row.digest,
            requires: row.requires,
        },
        state,
        wave: open,
        plan,
        halt: halt.map(|halt| RolloutHalt {
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
