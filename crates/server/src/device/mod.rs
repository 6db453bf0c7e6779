//! The device listener: EST, check-in, reports, artifacts.

mod artifacts;
mod attempt;
mod body;
mod check_in;
mod crl;
mod est;
mod evidence;
mod identity;
mod range;
mod reports;

use std::sync::Arc;

use axum::Router;
use axum::routing::{get, post};

use crate::app::App;
use crate::crl::{DER_PATH, PEM_PATH};
use crate::refusal::Refusal;

pub(crate) use check_in::reason_name;
pub(crate) use evidence::{Heard, Heeded, Unrelated, hear};
pub(crate) use identity::{Device, Renewer};

/// The routes of the device listener.
pub(crate) fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/.well-known/est/cacerts", get(est::ca_certificates))
        .route("/.well-known/est/csrattrs", get(est::csr_attributes))
        .route("/.well-known/est/simpleenroll", post(est::enroll))
        .route("/.well-known/est/simplereenroll", post(est::reenroll))
        .route(DER_PATH, get(crl::der))
        .route(PEM_PATH, get(crl::pem))
        .route(wire::CHECK_IN_PATH, post(check_in::check_in))
        .route(wire::REPORTS_PATH, post(reports::report))
        .route("/v1/artifacts/{digest}", get(artifacts::get))
        .fallback(|| async { Refusal::NotFound("no such path") })
        .method_not_allowed_fallback(|| async { Refusal::Method })
        .with_state(app)
}

/// The longest text of a device that is stored, in bytes: as long as texts of a manifest may be.
const MAX_TEXT_BYTES: usize = 64;

/// Text of a device as it is stored: its beginning, and nothing that a terminal would obey. Postgres takes no NUL either.
fn clean(text: &str) -> String {
    let printable = text.chars().filter(|char| wire::is_printable(*char));
    let mut clean = String::new();
    for char in printable {
        if clean.len() + char.len_utf8() > MAX_TEXT_BYTES {
            break;
        }
        clean.push(char);
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_devices_end_at_a_character_and_are_only_to_be_seen() {
        assert_eq!(clean("v1.2.0-rc1 (größer)"), "v1.2.0-rc1 (größer)");
        assert_eq!(clean("a\x1b[2Jb\u{202e}c\0d\ne"), "a[2Jbcde");
        assert_eq!(clean(&"x".repeat(65)), "x".repeat(64));
        assert_eq!(clean(&format!("{}ü", "x".repeat(63))), "x".repeat(63));
        assert_eq!(clean(&"漢".repeat(1000)), "漢".repeat(21));
    }
}
