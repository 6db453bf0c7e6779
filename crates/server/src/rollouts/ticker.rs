//! What happens without a request: waves open, rollouts halt or complete, devices become silent.
//!
//! Several instances may do this at once. Each step is written only over the revision that it was decided on, and each
//! device's move over the state that was read, so that what one has done the others find done.

use std::sync::Arc;
use std::time::Duration;

use rollout::{Counters, Progress, Sign, Step, advance};
use serde_json::json;
use tokio::time::{MissedTickBehavior, interval};

use crate::app::App;
use crate::store::{AttemptRow, AttemptWrite, DeviceWrite, Move, OverdueRow, RolloutRow, Said, StoreError};

/// How often the clock is looked at. Counters that move are judged at once.
const TICK: Duration = Duration::from_secs(1);

/// Devices that become silent in one transaction.
const SWEEP: i64 = 256;

/// Transactions of one sweep: 5,120 devices a second, and other writers get their turn.
const SWEEPS: usize = 20;

/// Goes on until the server stops.
pub(crate) async fn run(app: Arc<App>) {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut moved = app.store.rollouts_moved();
    // What was counted and not judged when the server stopped.
    match app.store.rollouts_with_losses().await {
        Ok(ids) => app.store.touch(ids),
        Err(error) => tracing::error!("completed rollouts are not judged: {error}"),
    }
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
        let done = if looks_at_clock { tick(&app).await } else { judge_touched(&app).await };
        if let Err(error) = done {
            tracing::error!("rollouts do not go on: {error}");
        }
    }
}

async fn tick(app: &App) -> Result<(), StoreError> {
    sweep(app).await?;
    for row in app.store.rollouts_under_way().await? {
        go_on(app, row).await?;
    }
    judge_touched(app).await
}

/// Rollouts whose counters moved: completed ones too, whose limits still hold.
async fn judge_touched(app: &App) -> Result<(), StoreError> {
    let mut touched = app.store.take_touched();
    while let Some(id) = touched.pop_first() {
        let judged = match app.store.rollout(&id).await {
            Ok(Some(row)) => go_on(app, row).await,
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
async fn go_on(app: &App, mut row: RolloutRow) -> Result<(), StoreError> {
    loop {
        let waves = app.store.waves(&row.id).await?;
        let counters: Vec<Counters> = waves.iter().map(|wave| wave.counters_that_count()).collect();
        let (state, plan) = (row.state()?, row.plan()?);
        let progress = Progress {
            state,
            wave: row.wave(),
            wave_started_at_ms: row.wave_started_at_ms.unwrap_or(row.created_at_ms),
            counters: &counters,
        };
        let now_ms = app.config.clock.now_ms();
        let step = advance(&plan, &progress, now_ms);
        match &step {
            Step::Stay => return Ok(()),
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

/// Devices whose deadline passed. A few at a time, found by an index: nothing is scanned.
async fn sweep(app: &App) -> Result<(), StoreError> {
    for _ in 0..SWEEPS {
        let now_ms = app.config.clock.now_ms();
        let overdue = app.store.overdue(now_ms, SWEEP).await?;
        let is_last = overdue.len() < usize::try_from(SWEEP).unwrap_or(usize::MAX);
        let mut writes = tokio::task::JoinSet::new();
        for device in overdue {
            let Some(write) = silence(&device, now_ms) else { continue };
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

/// What to write of a device whose deadline passed: that it is silent, or the deadline that it has by now.
fn silence(device: &OverdueRow, now_ms: i64) -> Option<DeviceWrite> {
    let from = device.attempt()?;
    let deadline_ms = device.deadline_ms();
    let mut to = AttemptRow { deadline_ms: None, ..from.clone() };
    let mut moves = Vec::new();
    let mut event = None;
    if device.is_revoked() {
        // It will not come back, and nobody waits for it.
    } else if deadline_ms > now_ms {
        to.deadline_ms = Some(deadline_ms);
    } else {
        to.state = from.state.observe(Sign::Deadline, false);
        if to.state != from.state {
            to.at_ms = now_ms;
            let (rollout, wave) = (from.rollout.clone(), from.wave);
            moves.push(Move { rollout, wave, from: Some(from.state), to: to.state });
            event = Some(("silent", json!({ "rollout": from.rollout, "sequence": from.sequence })));
        }
    }
    Some(DeviceWrite {
        device: device.id.clone(),
        at_ms: now_ms,
        said: Said::Nothing,
        event,
        attempt: Some(AttemptWrite { from: Some(from), to: Some(to), moves }),
        failure: None,
    })
}
