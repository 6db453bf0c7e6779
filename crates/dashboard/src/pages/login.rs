//! Logging in and out.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Redirect, Response};
use maud::{Markup, html};
use serde::Deserialize;

use crate::form::{Fields, Form};
use crate::{Dashboard, layout, session};

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Params {
    next: String,
    ended: String,
}

pub(super) async fn show(Query(params): Query<Params>) -> Markup {
    let ended = html! {
        p.notice role="status" {
            "The session is over: somebody logged out, it lasted for its 12 hours, or its token expired, was revoked or is of "
            "another server."
        }
    };
    page(&params.next, (!params.ended.is_empty()).then_some(ended))
}

pub(super) async fn log_in(State(state): State<Arc<Dashboard>>, body: Bytes) -> Response {
    let fields = Fields::parse(&body);
    let next = local(fields.text("next")).to_owned();
    match session::log_in(&state, fields.text("token")).await {
        Ok(cookie) => ([(header::SET_COOKIE, cookie)], Redirect::to(&next)).into_response(),
        Err(failed) if failed.status() == StatusCode::UNAUTHORIZED => {
            let wrong = html! {
                p.problem role="alert" #wrong {
                    "The server does not know this token, or it expired or was revoked. "
                    "Nothing says which; ask an admin for a new one."
                }
            };
            (StatusCode::UNAUTHORIZED, page(&next, Some(wrong))).into_response()
        }
        Err(failed) => (failed.status(), page(&next, Some(layout::problem(&failed)))).into_response(),
    }
}

pub(super) async fn log_out(State(state): State<Arc<Dashboard>>, form: Form) -> Response {
    match session::log_out(&form.session, state.transport).await {
        Ok(cookie) => ([(header::SET_COOKIE, cookie)], Redirect::to("/login")).into_response(),
        Err(failed) => layout::failure_alone(&failed),
    }
}

fn page(next: &str, notice: Option<Markup>) -> Markup {
    layout::bare(
        "Log in",
        &html! {
            h1 { "Log in" }
            @if let Some(notice) = notice { (notice) }
            form.stack method="post" action="/login" {
                input type="hidden" name="next" value=(next);
                label for="token" { "API token" }
                input #token name="token" type="password" required autofocus autocomplete="current-password"
                    spellcheck="false" autocapitalize="none" aria-describedby="token-help";
                button.primary type="submit" { "Log in" }
            }
            p.muted #token-help {
                "The first token is in the file " code { "admin.token" } " of the server's data directory. An admin "
                "makes others under Tokens."
            }
        },
    )
}

/// A path on this server, and nothing that a browser takes for another host.
fn local(next: &str) -> &str {
    let is_local = next.starts_with('/')
        && !next.starts_with("//")
        && next.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    if is_local { next } else { "/" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn login_leads_nowhere_else() {
        assert_eq!(local("/devices?q=a&health=ok"), "/devices?q=a&health=ok");
        for hostile in
            ["", "//evil.example", "https://evil.example", "/\\evil.example", "/a\nb", "/ä", "devices"]
        {
            assert_eq!(local(hostile), "/", "{hostile:?}");
        }
    }
}
