//! What happens without a request: waves open, rollouts halt or complete, devices become silent.
//!
//! Several instances may do this at once. Each step is written only over the revision that it was decided on, and each
//! device's move over the state that was read, so that what one has done the others find done.

use std::sync::Arc;
use std::time::Duration;

use rollout::{Attempt, Observed, Plan, Progress, Step, advance, lacking};
use serde_json::json;
use tokio::time::{MissedTickBehavior, interval};

use super::watch::{Look, Watch};
use crate::app::App;
use crate::clock;
use crate::store::{
    AttemptRow, AttemptWrite, Change, Counted, DeviceWrite, Move, OverdueRow, Record, RolloutRow, Said,
    StoreError, WaveRow,
};

/// How often the clock is looked at. Counters that move are judged at once.
const TICK: Duration = Duration::from_secs(1);

/// So often it is stored that somebody watches.
const WATCHED_PERIOD_MS: i64 = 10_000;

/// Devices that become silent in one transaction.
const SWEEP: i64 = 256;

/// Transactions of one sweep: 5,120 devices a second, and other writers get their turn.
const SWEEPS: usize = 20;

/// Goes on until the server stops.
pub(crate) async fn run(app: Arc<App>) {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut moved = app.store.rollouts_moved();
    let mut watch = None;
    loop {
        let looks_at_clock = tokio::select! {
            () = app.stop.cancelled() => return,
            _ = ticks.tick() => true,
            () = app.config.clock.moved() => true,
            changed = moved.changed() => {
                if changed.is_err() {
                    return;
                }
                false
            }
        };
        if let Err(error) = go(&app, &mut watch, looks_at_clock).await {
            tracing::error!("rollouts do not go on: {error}");
        }
    }
}

/// The watch, and when it was stored last.
struct Stored {
    watch: Watch,
    stored_ms: i64,
}

/// One round, all of it by one look at the clock.
async fn go(app: &App, stored: &mut Option<Stored>, looks_at_clock: bool) -> Result<(), StoreError> {
    let clock = &app.config.clock;
    let (machine_ms, now_ms) = (clock.machine_ms(), clock.now_ms());
    let Stored { watch, stored_ms } = match stored {
        Some(stored) => stored,
        None => {
            // What was counted and not judged when the server stopped.
            app.store.touch(app.store.rollouts_with_losses().await?);
            let watch = app.store.watch().await?.and_then(|stored| serde_json::from_str(&stored).ok());
            stored.insert(Stored { watch: watch.unwrap_or_else(|| Watch::begin(machine_ms)), stored_ms: 0 })
        }
    };
    let look = watch.look(machine_ms, now_ms);
    if let Look::Back { .. } = look {
        app.store.bring_back(now_ms).await?;
    }
    if looks_at_clock {
        tick(app, watch, now_ms).await?;
    } else {
        judge_touched(app, watch, now_ms).await?;
    }
    match look {
        // A tick asks the database, so that it was there.
        Look::Steady if !looks_at_clock => return Ok(()),
        Look::Steady => {}
        Look::Gap { gap_ms } => tracing::warn!(
            "nobody watched for {} s: the server was down or its database away, or the clock jumped to {}; devices and \
             waves get as much time more",
            gap_ms / 1000,
            clock::rfc3339(now_ms)
        ),
        Look::Back { by_ms } => tracing::error!(
            "the clock went back by {} s to {}; see that it is right, certificates and schedules go by it",
            by_ms / 1000,
            clock::rfc3339(now_ms)
        ),
    }
    watch.looked(machine_ms);
    if machine_ms.abs_diff(*stored_ms) >= WATCHED_PERIOD_MS.unsigned_abs() {
        app.store.set_watch(&json!(watch).to_string()).await?;
        *stored_ms = machine_ms;
    }
    Ok(())
}

async fn tick(app: &App, watch: &Watch, now_ms: i64) -> Result<(), StoreError> {
    app.store.look_again(now_ms).await?;
    sweep(app, watch, now_ms).await?;
    app.store.sweep_health(now_ms).await?;
    for row in app.store.rollouts_under_way().await? {
        go_on(app, watch, row, now_ms).await?;
    }
    judge_touched(app, watch, now_ms).await
}

/// Rollouts whose counters moved: completed ones too, whose limits still hold.
async fn judge_touched(app: &App, watch: &Watch, now_ms: i64) -> Result<(), StoreError> {
    let mut touched = app.store.take_touched();
    while let Some(id) = touched.pop_first() {
        let judged = match app.store.rollout(&id).await {
            Ok(Some(row)) => go_on(app, watch, row, now_ms).await,
            Ok(None) => Ok(()),
            Err(error) => Err(error),
        };
        if let Err(error) = judged {
            app.store.touch(touched.into_iter().chain([id]));
            return Err(error);
        }
    }
    Ok(())
}

/// Takes every step that a rollout takes now.
async fn go_on(app: &App, watch: &Watch, mut row: RolloutRow, now_ms: i64) -> Result<(), StoreError> {
    loop {
        let waves = app.store.waves(&row.id).await?;
        let observed: Vec<Observed> = waves.iter().map(WaveRow::observed).collect();
        let (state, plan) = (row.state()?, row.plan()?);
        let progress = Progress {
            state,
            wave: row.wave(),
            wave_started_at_ms: started_ms(watch, &plan, &row),
            waves: &observed,
        };
        let step = advance(&plan, &progress, now_ms);
        match &step {
            Step::Stay => return tell_what_lacks(app, &row, &plan, &progress, now_ms).await,
            Step::Halt(excess) => tracing::warn!(
                rollout = row.id,
                "halted: {} in wave {}: {} of {} devices, {} are tolerated",
                excess.cause.name(),
                excess.wave + 1,
                excess.observed,
                excess.sample,
                excess.limit
            ),
            Step::Open { .. } | Step::AwaitApproval { .. } | Step::Complete => {
                tracing::info!(rollout = row.id, ?step, "a rollout goes on");
            }
        }
        let taken = app.store.step_rollout(&row, &step, now_ms).await?;
        if let Step::Halt(excess) = &step
            && taken
        {
            app.metrics.halts.add(excess.cause.name());
        }
        // Taken, or another instance was faster: either way it is another one now.
        match app.store.rollout(&row.id).await? {
            Some(now) => row = now,
            None => return Ok(()),
        }
    }
}

/// Notes once for each wave that it has soaked and waits for evidence: somebody may have to look at its devices.
async fn tell_what_lacks(
    app: &App,
    row: &RolloutRow,
    plan: &Plan,
    progress: &Progress<'_>,
    now_ms: i64,
) -> Result<(), StoreError> {
    let Some(lack) = lacking(plan, progress, now_ms) else { return Ok(()) };
    // Devices are counted within moments.
    if progress.waves.get(progress.wave).is_none_or(|wave| wave.present.is_none()) {
        return Ok(());
    }
    let record = Record {
        action: "rollout.wait",
        kind: "rollout",
        subject: &row.id,
        product: Some(&row.product),
        before: None,
        after: Some(json!({ "wave": progress.wave, "lack": lack })),
    };
    let key = format!("wait {} {} {}", row.id, progress.wave, row.epoch);
    app.store.tell_once(&key, record, &Change::by_server(now_ms)).await?;
    Ok(())
}

/// When the newest wave began to soak, as if nobody had been away meanwhile.
fn started_ms(watch: &Watch, plan: &Plan, row: &RolloutRow) -> i64 {
    let started_ms = row.wave_started_at_ms.unwrap_or(row.created_at_ms);
    let soak_s = plan.waves().get(row.wave()).map_or(0, |wave| wave.soak_s);
    let soak_ms = i64::try_from(soak_s).unwrap_or(i64::MAX).saturating_mul(1000);
    watch.ends_ms(started_ms.saturating_add(soak_ms), soak_ms).saturating_sub(soak_ms)
}

/// Devices whose deadline passed. A few at a time, found by an index: nothing is scanned.
async fn sweep(app: &App, watch: &Watch, now_ms: i64) -> Result<(), StoreError> {
    for _ in 0..SWEEPS {
        let overdue = app.store.overdue(now_ms, SWEEP).await?;
        let is_last = overdue.len() < usize::try_from(SWEEP).unwrap_or(usize::MAX);
        let mut writes = tokio::task::JoinSet::new();
        for device in overdue {
            let Some(write) = silence(&device, watch, now_ms) else { continue };
            let store = app.store.clone();
            writes.spawn(async move { store.write(write).await });
        }
        while let Some(written) = writes.join_next().await {
            written.unwrap_or(Err(StoreError::Closed))?;
        }
        if is_last {
            break;
        }
    }
    Ok(())
}

/// What to write of a device whose deadline passed: that it is silent or unheard, or the deadline that it has by now.
fn silence(device: &OverdueRow, watch: &Watch, now_ms: i64) -> Option<DeviceWrite> {
    let from = device.attempt()?;
    let deadline_ms = watch.ends_ms(device.deadline_ms(now_ms), device.patience_ms());
    let mut to = AttemptRow { deadline_ms: None, ..from.clone() };
    let mut moves = Vec::new();
    let mut event = None;
    if device.is_revoked() {
        // It will not come back, and nobody waits for it.
    } else if deadline_ms > now_ms {
        to.deadline_ms = Some(deadline_ms);
    } else {
        to.state = from.state.observe(device.sign(), false);
        if to.state != from.state {
            (to.at_ms, to.epoch) = (now_ms, device.epoch);
            let counted = |row: &AttemptRow| Counted { epoch: row.epoch, state: row.state };
            let (rollout, wave) = (from.rollout.clone(), from.wave);
            moves.push(Move { rollout, wave, from: Some(counted(&from)), to: counted(&to) });
            let kind = if to.state == Attempt::Silent { "silent" } else { "unheard" };
            event = Some((kind, json!({ "rollout": from.rollout, "sequence": from.sequence })));
        }
    }
    Some(DeviceWrite {
        device: device.id.clone(),
        at_ms: now_ms,
        said: Said::Nothing,
        event,
        attempt: Some(AttemptWrite { from: Some(from), to: Some(to), moves }),
        failure: None,
        is_cloned: None,
    })
}
