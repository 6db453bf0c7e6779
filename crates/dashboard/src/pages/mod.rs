//! The pages, one file for each section.

mod approvals;
mod audit;
mod devices;
mod fleet;
mod login;
mod products;
mod releases;
mod rollouts;
mod tokens;

use std::sync::Arc;

use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Router, middleware};
use maud::html;

use crate::page::{Page, Section};
use crate::session::Session;
use crate::{Dashboard, assets, guard, layout};

/// The largest form, in bytes: a plan of many waves takes 2 KB, a note of a device a few.
const MAX_FORM_BYTES: usize = 64 * 1024;

pub(crate) fn router(state: Arc<Dashboard>) -> Router {
    Router::new()
        .route("/", get(fleet::show))
        .route("/login", get(login::show).post(login::log_in))
        .route("/logout", post(login::log_out))
        .route("/devices", get(devices::list).post(devices::create))
        .route("/devices/{id}", get(devices::show).post(devices::edit))
        .route("/devices/{id}/{action}", post(devices::act))
        .route("/approvals", get(approvals::list).post(approvals::approve))
        .route("/approvals/ask", post(approvals::ask))
        .route("/products", get(products::list))
        .route("/products/{name}", get(products::show).post(products::edit))
        .route("/products/{name}/layout", post(products::edit_layout))
        .route("/products/{name}/channels", post(products::add_channel))
        .route("/products/{name}/publisher-keys", post(products::add_key))
        .route("/products/{name}/publisher-keys/{id}/revoke", post(products::revoke_key))
        .route("/releases", get(releases::list))
        .route("/releases/{product}/{sequence}", get(releases::show))
        .route("/rollouts", get(rollouts::list).post(rollouts::create))
        .route("/rollouts/new", get(rollouts::new))
        .route("/rollouts/{id}", get(rollouts::show))
        .route("/rollouts/{id}/live", get(rollouts::live))
        .route("/rollouts/{id}/{action}", post(rollouts::act))
        .route("/audit", get(audit::list))
        .route("/audit/export", get(audit::export))
        .route("/tokens", get(tokens::list).post(tokens::create))
        .route("/tokens/{id}/revoke", post(tokens::revoke))
        .route("/assets/{version}/{name}", get(assets::serve))
        .fallback(nowhere)
        .layer(DefaultBodyLimit::max(MAX_FORM_BYTES))
        .layer(middleware::from_fn(guard::guard))
        .with_state(state)
}

async fn nowhere(session: Result<Session, Response>) -> Response {
    let title = "There is no such page";
    let Ok(session) = session else {
        return layout::message(StatusCode::NOT_FOUND, title, "The address may be of an older version.");
    };
    let body = html! {
        h1 { (title) }
        p { "The address may be of an older version. " a href="/" { "Fleet overview" } }
    };
    let mut response = session.answer(Ok(Page { title: title.to_owned(), section: Section::None, body }));
    *response.status_mut() = StatusCode::NOT_FOUND;
    response
}
