//! The admin API: JSON REST under `/api/v1`. How an endpoint is added is in `routes.rs`.

mod artifacts;
mod audit;
mod auth;
mod ca;
mod channels;
mod crl;
mod device_bulk;
mod devices;
mod etag;
mod events;
mod evidence;
mod fleet;
mod idempotency;
mod info;
mod ndjson;
mod page;
mod product;
mod products;
mod publisher_keys;
mod releases;
mod request;
mod rollouts;
mod routes;
mod sessions;
mod tokens;
mod webhooks;
mod whoami;

use std::sync::Arc;

use axum::Router;
use axum::http::{HeaderValue, header};
use axum::middleware;
use axum::response::Response;
use axum::routing::get;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;

use crate::app::App;
use crate::crl::{DER_PATH, PEM_PATH};
use crate::health;
use crate::problem::Problem;

/// Where the API is.
const PREFIX: &str = "/api/v1";

/// The routes of the admin listener.
pub(crate) fn router(app: Arc<App>) -> Router {
    let (api, document) = describe().split_for_parts();
    let api = api
        .fallback(|| async { Problem::NoSuchPath })
        .method_not_allowed_fallback(|| async { Problem::Method })
        .layer(middleware::from_fn_with_state(app.clone(), idempotency::once))
        // Around the fallbacks too: a stranger learns nothing, not even which paths there are.
        .layer(middleware::from_fn_with_state(app.clone(), auth::authenticate));
    let document = open_api_json(document);
    Router::new()
        // Before the prefix: it needs no token.
        .route(
            "/api/v1/openapi.json",
            get(move || async move { ([(header::CONTENT_TYPE, "application/json")], document) }),
        )
        .nest(PREFIX, api)
        // Of those two: tokens and what they show are not for caches (RFC 9111 section 5.2.2.5).
        .layer(middleware::map_response(not_stored))
        .route("/healthz", get(health::healthz))
        .route(DER_PATH, get(crl::der))
        .route(PEM_PATH, get(crl::pem))
        .route("/readyz", get(health::readyz))
        .route("/metrics", get(health::metrics))
        .fallback(|| async { Problem::NoSuchPath })
        .with_state(app)
}

async fn not_stored(mut response: Response) -> Response {
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// The endpoints and the document about them, without the prefix.
fn describe() -> OpenApiRouter<Arc<App>> {
    [
        info::routes(),
        ca::routes(),
        whoami::routes(),
        products::routes(),
        channels::routes(),
        publisher_keys::routes(),
        releases::routes(),
        devices::routes(),
        events::routes(),
        device_bulk::routes(),
        rollouts::routes(),
        evidence::routes(),
        artifacts::routes(),
        tokens::routes(),
        webhooks::routes(),
        sessions::routes(),
        audit::routes(),
        fleet::routes(),
    ]
    .into_iter()
    .fold(OpenApiRouter::with_openapi(routes::document()), |router, routes| {
        router.merge(routes.into_router())
    })
}

/// The OpenAPI document, with paths from the root of the listener.
fn open_api_json(mut document: OpenApi) -> String {
    let paths = std::mem::take(&mut document.paths.paths);
    document.paths.paths = paths.into_iter().map(|(path, item)| (format!("{PREFIX}{path}"), item)).collect();
    // Writing a document of plain data cannot fail.
    let mut json = document.to_pretty_json().unwrap_or_default();
    json.push('\n');
    json
}
