//! What all pages share: head, and how a failure looks.

use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use maud::{DOCTYPE, Markup, html};

use crate::api::Failed;
use crate::assets;

/// htmx as the content security policy wants it: no style of its own, no `eval`. It keeps no copy of a page in the
/// browser's storage, where a token that is shown once would stay.
/// A refusal takes the place of the page: by itself htmx would leave the old list standing, as if it were the answer.
const HTMX_CONFIG: &str = r##"{"includeIndicatorStyles":false,"allowEval":false,"historyCacheSize":0,"responseHandling":[
    {"code":"204","swap":false},{"code":"[23]..","swap":true},
    {"code":"[45]..","swap":true,"error":true,"target":"#main","select":"#main","swapOverride":"outerHTML"}]}"##;

/// A page without navigation: for whoever is not logged in.
pub(crate) fn bare(title: &str, body: &Markup) -> Markup {
    document(
        title,
        &html! {
            main #main.bare { p.brand { (mark()) span { "Pitstop" } } (body) }
        },
    )
}

/// A page that says one thing.
pub(crate) fn message(status: StatusCode, title: &str, text: &str) -> Response {
    let body = html! { h1 { (title) } p { (text) } p { a href="/" { "Fleet overview" } } };
    (status, bare(title, &body)).into_response()
}

/// A failure before it is known who asks.
pub(crate) fn failure_alone(failed: &Failed) -> Response {
    let title = title_of(failed);
    (failed.status(), bare(title, &html! { h1 { (title) } (problem(failed)) })).into_response()
}

/// What the API refused, in its own words.
pub(crate) fn problem(failed: &Failed) -> Markup {
    match failed {
        Failed::Refused(problem) => html! {
            div.problem role="alert" {
                p { strong { (problem.title) } }
                @if !problem.detail.is_empty() { p { (problem.detail) } }
            }
        },
        Failed::Unexpected { path, found } => {
            tracing::error!(path, found, "the API answered what the dashboard does not understand");
            html! {
                div.problem role="alert" {
                    p { strong { "The server failed" } }
                    p { "Its log says why. Load the page again; if that does not help, use " code { "pitstop" } "." }
                }
            }
        }
    }
}

pub(crate) fn title_of(failed: &Failed) -> &str {
    match failed {
        Failed::Refused(problem) => &problem.title,
        Failed::Unexpected { .. } => "The server failed",
    }
}

/// The mark: a wheel nut.
pub(crate) fn mark() -> Markup {
    html! {
        svg.mark viewBox="0 0 24 24" width="22" height="22" aria-hidden="true" {
            path d="M7 2.6h10l5 9.4-5 9.4H7L2 12z" {}
            circle cx="12" cy="12" r="4.2" {}
        }
    }
}

pub(crate) fn document(title: &str, body: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="htmx-config" content=(HTMX_CONFIG);
                title { (title) " · Pitstop" }
                link rel="icon" type="image/svg+xml" href=(assets::ICON.href());
                link rel="stylesheet" href=(assets::STYLE.href());
                script src=(assets::HTMX.href()) defer {}
                script src=(assets::HTMX_SSE.href()) defer {}
                script src=(assets::SCRIPT.href()) defer {}
            }
            body hx-ext="sse" { (body) }
        }
    }
}
