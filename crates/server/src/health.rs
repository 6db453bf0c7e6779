//! `/healthz`, `/readyz` and `/metrics`: for whoever watches the server. No token, and nothing secret.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tokio::time::timeout;

use crate::app::App;
use crate::clock::EARLIEST;
use crate::counted::counted;
use crate::endings;
use crate::metrics;
use crate::problem::Problem;

/// Time for database and artifact store to answer: less than the 3 s that probes commonly wait.
const READY_DEADLINE: Duration = Duration::from_secs(2);

/// The process lives. It says nothing of what it depends on: a restart would not mend that.
pub(crate) async fn healthz() -> &'static str {
    "ok\n"
}

/// Whether requests can be served now.
#[derive(Serialize)]
struct Readiness {
    ready: bool,
    database: &'static str,
    artifacts: &'static str,
    /// Whether files can be written where the server keeps its data.
    room: &'static str,
    clock: &'static str,
    /// What somebody should see to before it keeps the server from serving.
    notices: Vec<String>,
}

/// 200 when database and artifact store answer in time and there is room, else 503 and which of them is to blame. The log
/// says why. A clock that cannot be right, and what is about to end, is told beside: devices go on.
pub(crate) async fn readyz(State(app): State<Arc<App>>) -> Response {
    let database = check("database", async { app.store.ping().await.map_err(|error| error.to_string()) });
    let artifacts =
        check("artifact store", async { app.artifacts.ping().await.map_err(|error| error.to_string()) });
    let room = check("data directory", try_to_write(app.config.data_dir.join(PROBE)));
    let (database, artifacts, room) = tokio::join!(database, artifacts, room);
    let ready = [database, artifacts, room] == [OK; 3];
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let now = app.config.clock.now_utc();
    let clock = if now < EARLIEST { "shows a time before 2026: set it" } else { OK };
    let mut notices = endings::notices(&app, now);
    notices.extend(app.damaged.first().map(|(count, first)| {
        format!(
            "{} damaged or missing, such as {first}: upload again what is",
            counted(i64::try_from(count).unwrap_or(i64::MAX), "artifact")
        )
    }));
    (status, Json(Readiness { ready, database, artifacts, room, clock, notices })).into_response()
}

/// Writes a file and removes it: less room than this is no room.
async fn try_to_write(path: PathBuf) -> Result<(), String> {
    const BYTES: usize = 64 * 1024;
    let written = tokio::task::spawn_blocking(move || {
        let written = std::fs::write(&path, vec![0; BYTES]);
        // A part of it may be there.
        let removed = std::fs::remove_file(&path);
        written.and(removed)
    });
    written.await.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
}

const OK: &str = "ok";

/// The file by which it is tried whether there is room; there for a moment.
pub(crate) const PROBE: &str = "ready.probe";

async fn check(what: &'static str, answer: impl Future<Output = Result<(), String>>) -> &'static str {
    match timeout(READY_DEADLINE, answer).await {
        Ok(Ok(())) => OK,
        Ok(Err(error)) => {
            tracing::error!("the {what} fails: {error}");
            "failed"
        }
        Err(_) => {
            tracing::error!("the {what} did not answer within {} s", READY_DEADLINE.as_secs());
            "no answer in time"
        }
    }
}

/// The metrics, as OpenMetrics text.
pub(crate) async fn metrics(State(app): State<Arc<App>>) -> Result<Response, Problem> {
    let text = app.metrics.encode().map_err(Problem::internal)?;
    Ok(([(header::CONTENT_TYPE, metrics::MEDIA_TYPE)], text).into_response())
}
