//! The device listener: EST, check-in, reports, artifacts.

mod artifacts;
mod attempt;
mod body;
mod check_in;
mod chunks;
mod evidence;
mod identity;
mod range;
mod refusal;
mod reports;

use std::sync::Arc;

use axum::Router;
use axum::routing::{get, post};

use crate::app::App;
use crate::crl;
use crate::est;

pub(crate) use body::{read_body, require_media_type};
pub(crate) use check_in::reason_name;
pub(crate) use chunks::Chunks;
pub(crate) use evidence::{Heard, hear};
pub(crate) use identity::Device;
pub(crate) use refusal::Refusal;

/// The routes of the device listener.
pub(crate) fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/.well-known/est/cacerts", get(est::ca_certificates))
        .route("/.well-known/est/csrattrs", get(est::csr_attributes))
        .route("/.well-known/est/simpleenroll", post(est::enroll))
        .route("/.well-known/est/simplereenroll", post(est::reenroll))
        .route(crl::DER_PATH, get(crl::device::der))
        .route(crl::PEM_PATH, get(crl::device::pem))
        .route(wire::CHECK_IN_PATH, post(check_in::check_in))
        .route(wire::REPORTS_PATH, post(reports::report))
        .route("/v1/artifacts/{digest}", get(artifacts::get))
        .fallback(|| async { Refusal::NotFound("no such path") })
        .method_not_allowed_fallback(|| async { Refusal::Method })
        .with_state(app)
}

/// Text of a device as it is stored: without NUL, which Postgres does not take.
fn clean(text: &str) -> String {
    text.replace('\0', "\u{FFFD}")
}
