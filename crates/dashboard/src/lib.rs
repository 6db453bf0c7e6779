//! Pitstop's dashboard: the admin API for people.
//!
//! [`router`] is given the admin API's router and calls it in the process, with the session of the person who is logged
//! in. It has no other access to anything, so that what a role may do is decided in one place.
//!
//! Pages are HTML made on the server. htmx searches while one types and keeps a rollout's page live; without JavaScript
//! every page and every action works all the same.
//!
//! | module | what |
//! | --- | --- |
//! | `pages` | one file for each section |
//! | `api` | the client of the admin API, in the process |
//! | `session`, `form` | who is logged in; forms that are theirs |
//! | `guard` | headers of every answer; where a change may come from |
//! | `layout`, `table`, `view`, `plot` | what all pages share |
//! | `assets` | style, scripts, icon: embedded |

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod api;
mod assets;
mod form;
mod guard;
mod layout;
mod page;
mod pages;
mod plot;
mod session;
mod table;
mod view;

use std::sync::Arc;

use axum::Router;

/// How browsers reach the dashboard. What a request says of it (`X-Forwarded-Proto`) is not trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Plain HTTP, on loopback.
    Http,
    /// HTTPS, from a proxy in front: the session's cookie is `Secure` and has the prefix `__Host-`.
    Https,
}

/// What every handler has at hand.
struct Dashboard {
    api: Router,
    transport: Transport,
}

/// The dashboard's routes, from `/` on. `api` answers `/api/v1/…`.
///
/// Errors are pages: what the API refuses is shown with its own words, and without a session every page leads to
/// `/login`.
pub fn router(api: Router, transport: Transport) -> Router {
    pages::router(Arc::new(Dashboard { api, transport }))
}
