//! What is kept for a time only: events, certificates that have ended, lines of the audit log, keys of requests. And deletions of artifacts
//! that were broken off are ended.
//!
//! Every instance does all of it, in small batches with pauses in between: devices are not held up, and whoever comes second
//! finds nothing left.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::{sleep, timeout};

use crate::app::App;
use crate::artifact_store::ArtifactError;
use crate::clock::DAY_MS;
use crate::store::{Change, KEYS_KEPT_MS, StoreError};

/// Rows of one transaction, and the pause after it.
const BATCH: i64 = 500;
const PAUSE: Duration = Duration::from_millis(200);

/// From one round to the next the clock goes well within so much. After a jump a round is left out: a clock that was set ahead by
/// mistake would have everything deleted.
const JUMP_MS: u64 = 60_000;

/// Time for an artifact store to remove a file.
const REMOVE_TIMEOUT: Duration = Duration::from_secs(60);

/// Why a round ended early.
#[derive(Debug, thiserror::Error)]
enum RetentionError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Artifacts(#[from] ArtifactError),
    #[error("the artifact store does not answer")]
    Late,
    #[error("the server is shutting down")]
    Stopped,
}

/// Goes on until the server stops.
pub(crate) async fn keep_sweeping(app: Arc<App>) {
    let (mut last, mut last_ms) = (Instant::now(), app.config.clock.now_ms());
    while app.stop.run_until_cancelled(sleep(app.config.retention.period)).await.is_some() {
        let (now, now_ms) = (Instant::now(), app.config.clock.now_ms());
        let expected_ms = i64::try_from((now - last).as_millis()).unwrap_or(i64::MAX);
        let is_steady = (now_ms - last_ms).abs_diff(expected_ms) <= JUMP_MS;
        (last, last_ms) = (now, now_ms);
        if !is_steady {
            tracing::warn!("the clock jumped: what is kept for a time only is looked at later");
            continue;
        }
        match sweep(&app, now_ms).await {
            Ok(()) | Err(RetentionError::Stopped) => {}
            Err(error) => tracing::error!("what is kept for a time only is not deleted: {error}"),
        }
    }
}

async fn sweep(app: &App, now_ms: i64) -> Result<(), RetentionError> {
    let retention = app.config.retention;
    if let Some(before_ms) = before(now_ms, retention.events_days) {
        while more(app, "events", app.people.store.expire_events(before_ms, BATCH).await?).await? {}
    }
    if let Some(before_ms) = before(now_ms, retention.certificates_days) {
        let mut after = (i64::MIN, String::new());
        while let Some((last, count)) = app.people.store.expire_certificates(before_ms, &after, BATCH).await?
        {
            after = last;
            more(app, "certificates", count).await?;
        }
        let expire = async || app.people.store.expire_deleted_certificates(before_ms, BATCH).await;
        while more(app, "certificates", expire().await?).await? {}
    }
    if let Some(before_ms) = before(now_ms, retention.audit_days) {
        // By whole days, so that there is one line a day about it.
        let before_ms = before_ms - before_ms.rem_euclid(DAY_MS);
        if app.people.store.move_audit_horizon(before_ms, &Change::by_server(now_ms)).await? {
            while more(app, "audit", app.people.store.expire_audit(before_ms, BATCH).await?).await? {}
        }
    }
    while more(app, "idempotency-keys", app.people.store.expire_once(now_ms - KEYS_KEPT_MS, BATCH).await?)
        .await?
    {}
    for digest in app.people.store.broken_deletions(now_ms).await? {
        let Ok(digest) = digest.parse() else { continue };
        timeout(REMOVE_TIMEOUT, app.artifacts.remove(digest)).await.map_err(|_| RetentionError::Late)??;
        app.people.store.finish_deleting(digest).await?;
    }
    Ok(())
}

/// The moment before which nothing is kept; `None`: it is kept for ever.
fn before(now_ms: i64, days: u32) -> Option<i64> {
    (days > 0).then(|| now_ms.saturating_sub(i64::from(days) * DAY_MS))
}

/// Counts what was deleted, and waits a moment; whether there may be more.
async fn more(app: &App, kind: &'static str, count: u64) -> Result<bool, RetentionError> {
    app.metrics.expired_rows.add_many(kind, count);
    if count < BATCH.unsigned_abs() {
        return Ok(false);
    }
    app.stop.run_until_cancelled(sleep(PAUSE)).await.ok_or(RetentionError::Stopped)?;
    Ok(true)
}
