//! `/healthz`, `/readyz` and `/metrics`: for whoever watches the server. No token, and nothing secret.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tokio::time::timeout;

use crate::app::App;
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
}

/// 200 when database and artifact store answer in time, else 503 and which of them does not. The log says why.
pub(crate) async fn readyz(State(app): State<Arc<App>>) -> Response {
    let database = check("database", async { app.store.ping().await.map_err(|error| error.to_string()) });
    let artifacts =
        check("artifact store", async { app.artifacts.ping().await.map_err(|error| error.to_string()) });
    let (database, artifacts) = tokio::join!(database, artifacts);
    let ready = database == OK && artifacts == OK;
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(Readiness { ready, database, artifacts })).into_response()
}

const OK: &str = "ok";

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
