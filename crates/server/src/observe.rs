//! Around every request of both listeners: a span for the log, and what the metrics count.

use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue};
use axum::middleware::{self, Next};
use axum::response::Response;
use tracing::Instrument as _;

use crate::metrics::{ADMIN, Metrics};

/// The id of a request, in the answers of the admin listener and in every line of the log that the request causes.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

#[derive(Clone)]
struct Observer {
    metrics: Arc<Metrics>,
    listener: &'static str,
}

/// Puts the observer around all routes and fallbacks of a listener.
pub(crate) fn observed(router: Router, metrics: Arc<Metrics>, listener: &'static str) -> Router {
    router.layer(middleware::from_fn_with_state(Observer { metrics, listener }, observe))
}

async fn observe(State(observer): State<Observer>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let Observer { metrics, listener } = observer;
    let id = format!("{:016x}", rand::random::<u64>());
    let method = request.method().clone();
    // As it was declared, `/v1/artifacts/{digest}`: few values, and nothing of a client's in the log.
    let route = request.extensions().get::<MatchedPath>().cloned();
    let route = route.as_ref().map_or("other", MatchedPath::as_str);
    let span = tracing::info_span!("request", id, listener, %method, route, status = tracing::field::Empty);
    let mut response = next.run(request).instrument(span.clone()).await;
    let status = response.status().as_u16();
    let took = started.elapsed();
    metrics.request(listener, &method, route, status, took);
    span.record("status", status);
    span.in_scope(|| tracing::debug!(took_us = took.as_micros(), "answered"));
    if listener == ADMIN
        && let Ok(id) = HeaderValue::from_str(&id)
    {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    response
}
