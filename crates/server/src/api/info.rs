//! `GET /api/v1/info`: where devices connect, and what they are to trust.

use std::sync::Arc;

use api::info::Info;
use axum::Json;
use axum::extract::State;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use utoipa_axum::routes;

use super::routes::Routes;
use crate::app::App;
use crate::clock;

pub(super) fn routes() -> Routes {
    Routes::of("info").viewer(routes!(show))
}

/// Tells where devices connect and what they are to trust.
#[utoipa::path(get, path = "/info", responses((status = 200, body = Info)))]
async fn show(State(app): State<Arc<App>>) -> Json<Info> {
    let authorities = app.ca.get();
    Json(Info {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        device_url: app.device_url.clone(),
        ca_pem: authorities.pem(),
        ca_der_base64: BASE64_STANDARD.encode(authorities.for_server().der()),
        server_name: app.config.server_names.first().cloned().unwrap_or_default(),
        time: clock::rfc3339(app.config.clock.now_ms()),
    })
}
