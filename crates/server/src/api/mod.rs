//! The admin API: JSON REST under `/api/v1`.

mod artifacts;
mod auth;
mod devices;
mod info;
mod page;
mod products;
mod releases;
mod request;

use std::sync::Arc;

use axum::Router;
use axum::middleware;
use axum::routing::{get, post, put};

use crate::app::App;
use crate::health;
use crate::problem::Problem;

/// The routes of the admin listener.
pub(crate) fn router(app: Arc<App>) -> Router {
    let api = Router::new()
        .route("/info", get(info::show))
        .route("/products", post(products::create).get(products::list))
        .route("/products/{name}", get(products::show))
        .route("/products/{name}/publisher-keys", post(products::add_key))
        .route("/products/{name}/releases", post(releases::publish).get(releases::list))
        .route("/products/{name}/releases/{sequence}", get(releases::show))
        .route("/products/{name}/releases/{sequence}/manifest", get(releases::manifest))
        .route("/devices", post(devices::create).get(devices::list))
        .route("/devices/{id}", get(devices::show))
        .route("/devices/{id}/revoke", post(devices::revoke))
        .route("/devices/{id}/enrollment-token", post(devices::renew_token))
        .route("/devices/{id}/events", get(devices::events))
        .route("/artifacts/{digest}", put(artifacts::upload))
        .fallback(|| async { Problem::NoSuchPath })
        .method_not_allowed_fallback(|| async { Problem::Method })
        // Around the fallbacks too: a stranger learns nothing, not even which paths there are.
        .layer(middleware::from_fn_with_state(app.clone(), auth::require_admin));
    Router::new()
        .nest("/api/v1", api)
        .route("/healthz", get(health::healthz))
        .route("/readyz", get(health::readyz))
        .route("/metrics", get(health::metrics))
        .fallback(|| async { Problem::NoSuchPath })
        .with_state(app)
}
