//! How many devices the waves of a rollout have: evidence is a share of them.
//!
//! Which wave a device is in follows from its id and its tags, so somebody has to look at all devices of the channel. That
//! is done beside everything else, when a rollout starts, when a wave opens, and now and then.

use std::sync::Arc;
use std::time::Duration;

use rollout::{Census, Plan, StandIn};
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::app::App;
use crate::store::{Candidate, RolloutRow, StoreError, WaveRow};

/// Devices that were seen within this time before a rollout started, or since, count: 30 days.
const PRESENT_MS: i64 = 30 * 24 * 3_600_000;

/// A count is good for a minute, and for a millisecond more for each device: one takes a few microseconds.
const GOOD_FOR_MS: i64 = 60_000;

/// The shortest time between two looks at what there is to count.
const PACE: Duration = Duration::from_millis(100);

/// How often it is looked whether there is something to count, without anything that moved.
const LOOK: Duration = Duration::from_secs(1);

/// Goes on until the server stops.
pub(crate) async fn keep_counting(app: Arc<App>) {
    let mut looks = interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut moved = app.store.rollouts_moved();
    loop {
        tokio::select! {
            () = app.stop.cancelled() => return,
            _ = looks.tick() => {}
            () = app.config.clock.moved() => {}
            changed = moved.changed() => {
                if changed.is_err() {
                    return;
                }
            }
        }
        if let Err(error) = count_all(&app).await {
            tracing::error!("devices of rollouts are not counted: {error}");
        }
        if app.stop.run_until_cancelled(sleep(PACE)).await.is_none() {
            return;
        }
    }
}

async fn count_all(app: &App) -> Result<(), StoreError> {
    // Of before what is read: a wave that opens meanwhile is not in it, and is counted the next time.
    let now_ms = app.config.clock.now_ms();
    let rows = app.store.rollouts_under_way().await?;
    let waves = app.store.waves_of(&rows).await?;
    for row in rows {
        let waves = waves.get(&row.id).map(Vec::as_slice).unwrap_or_default();
        if is_due(&row, waves, now_ms) {
            let stand_ins = stand_ins(waves);
            let (present, waiting, stand_in) = count(app, &row, &row.plan()?, &stand_ins).await?;
            // Whoever stood in and went on to a newer release shows what there was to show: it is not one after the other.
            let was_offered = waves.get(row.wave()).is_some_and(|wave| wave.observed().counters.offered > 0);
            let stand_in = stand_in.filter(|_| !was_offered);
            if let Some(StandIn { wave, device }) = &stand_in {
                tracing::info!(rollout = row.id, wave = wave + 1, device, "nobody else is in this wave");
            }
            app.store.set_present(&row, &present, waiting, stand_in.as_ref(), now_ms).await?;
        }
    }
    Ok(())
}

fn is_due(row: &RolloutRow, waves: &[WaveRow], now_ms: i64) -> bool {
    let Some(counted_ms) = row.counted_at_ms else { return true };
    let devices: u64 = waves.iter().filter_map(|wave| wave.observed().present).sum();
    let good_for_ms = GOOD_FOR_MS.saturating_add(i64::try_from(devices).unwrap_or(i64::MAX));
    let is_of_now = (0..good_for_ms).contains(&now_ms.saturating_sub(counted_ms));
    !is_of_now || row.wave_started_at_ms.is_some_and(|started_ms| started_ms >= counted_ms)
}

async fn count(
    app: &App,
    row: &RolloutRow,
    plan: &Plan,
    stand_ins: &[StandIn],
) -> Result<(Vec<u64>, u64, Option<StandIn>), StoreError> {
    let started_ms = row.started_at_ms.unwrap_or(row.created_at_ms);
    let seen_since_ms = started_ms.saturating_sub(PRESENT_MS);
    let mut census = Census::new(plan, &row.id, row.wave(), stand_ins);
    let mut waiting = 0;
    let count = |device: Candidate| {
        // Tags are written by this server.
        let tags: Vec<String> = serde_json::from_str(&device.tags).unwrap_or_default();
        let (lacks, refuses) = (device.lacks != 0, device.refuses != 0);
        let is_open = census.add(&device.id, &tags, !lacks && !refuses);
        waiting += u64::from(is_open && lacks);
    };
    app.store.each_candidate(row, seen_since_ms, count).await?;
    let (present, stand_in) = census.finish();
    Ok((present, waiting, stand_in))
}

/// The devices that stand in for waves of one rollout, which are given in their order.
fn stand_ins(waves: &[WaveRow]) -> Vec<StandIn> {
    let stand_in = |(wave, row): (usize, &WaveRow)| Some(StandIn { wave, device: row.stand_in.clone()? });
    waves.iter().enumerate().filter_map(stand_in).collect()
}
