//! What all pages share: head, navigation, and how a failure looks.

use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Redirect, Response};
use maud::{DOCTYPE, Markup, html};

use crate::api::{Api, Failed};
use crate::assets;
use crate::form::CSRF_FIELD;
use crate::model::{Role, Whoami};
use crate::session::Session;

/// htmx as the content security policy wants it: no style of its own, no `eval`. It keeps no copy of a page in the
/// browser's storage, where a token that is shown once would stay.
/// A refusal takes the place of the page: by itself htmx would leave the old list standing, as if it were the answer.
const HTMX_CONFIG: &str = r##"{"includeIndicatorStyles":false,"allowEval":false,"historyCacheSize":0,"responseHandling":[
    {"code":"204","swap":false},{"code":"[23]..","swap":true},
    {"code":"[45]..","swap":true,"error":true,"target":"#main","select":"#main","swapOverride":"outerHTML"}]}"##;

/// A page within the navigation.
pub(crate) struct Page {
    pub(crate) title: String,
    pub(crate) section: Section,
    pub(crate) body: Markup,
}

/// An entry of the navigation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Section {
    Fleet,
    Devices,
    Releases,
    Rollouts,
    Audit,
    Tokens,
    /// In no entry: what does not exist.
    None,
}

impl Section {
    const ENTRIES: [(Self, &'static str, &'static str); 6] = [
        (Self::Fleet, "Fleet", "/"),
        (Self::Devices, "Devices", "/devices"),
        (Self::Releases, "Releases", "/releases"),
        (Self::Rollouts, "Rollouts", "/rollouts"),
        (Self::Audit, "Audit", "/audit"),
        (Self::Tokens, "Tokens", "/tokens"),
    ];

    fn is_for(self, role: Role) -> bool {
        match self {
            Self::Fleet | Self::Devices | Self::Releases | Self::Rollouts | Self::Audit | Self::None => true,
            Self::Tokens => role.administers(),
        }
    }
}

impl Session {
    /// The API's client.
    pub(crate) fn api(&self) -> &Api {
        &self.api
    }

    pub(crate) fn role(&self) -> Role {
        self.who.role
    }

    /// The page, or what failed as a page.
    pub(crate) fn answer(&self, page: Result<Page, Failed>) -> Response {
        match page {
            Ok(page) => document(&page.title, &self.frame(page.section, &page.body)).into_response(),
            Err(failed) if failed.status() == StatusCode::UNAUTHORIZED => {
                Redirect::to("/login").into_response()
            }
            Err(failed) => {
                let body = html! { h1 { (title_of(&failed)) } (problem(&failed)) };
                let page = document(title_of(&failed), &self.frame(Section::None, &body));
                (failed.status(), page).into_response()
            }
        }
    }

    /// After a change: on to `to`, or the page again with what the API had against it.
    pub(crate) async fn answer_change<T>(
        &self,
        change: Result<T, Failed>,
        to: &str,
        again: impl Future<Output = Result<Page, Failed>>,
    ) -> Response {
        let failed = match change {
            Ok(_) => return Redirect::to(to).into_response(),
            Err(failed) => failed,
        };
        match again.await {
            Ok(page) => {
                let body = html! { (problem(&failed)) (page.body) };
                let page = document(&page.title, &self.frame(page.section, &body));
                (failed.status(), page).into_response()
            }
            Err(_) => self.answer(Err(failed)),
        }
    }

    /// The hidden field that makes a form this session's.
    pub(crate) fn csrf_field(&self) -> Markup {
        html! { input type="hidden" name=(CSRF_FIELD) value=(self.csrf_token()); }
    }

    fn frame(&self, section: Section, body: &Markup) -> Markup {
        html! {
            a.skip href="#main" { "Skip to content" }
            header.bar {
                div.bar-in {
                    a.brand href="/" aria-label="Pitstop, fleet overview" { (mark()) span { "Pitstop" } }
                    nav aria-label="Sections" {
                        @for (entry, name, href) in Section::ENTRIES {
                            @if entry.is_for(self.role()) {
                                a href=(href) aria-current=[(entry == section).then_some("page")] { (name) }
                            }
                        }
                    }
                    (person(&self.who))
                    form.logout method="post" action="/logout" {
                        (self.csrf_field())
                        button.quiet type="submit" { "Log out" }
                    }
                }
            }
            main #main tabindex="-1" { (body) }
        }
    }
}

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

fn title_of(failed: &Failed) -> &str {
    match failed {
        Failed::Refused(problem) => &problem.title,
        Failed::Unexpected { .. } => "The server failed",
    }
}

fn person(who: &Whoami) -> Markup {
    html! {
        p.who title={ "Token " (who.id) } {
            span { (who.name) }
            span.role { (who.role.name()) @if let Some(product) = &who.product { " · " (product) } }
        }
    }
}

/// The mark: a wheel nut.
fn mark() -> Markup {
    html! {
        svg.mark viewBox="0 0 24 24" width="22" height="22" aria-hidden="true" {
            path d="M7 2.6h10l5 9.4-5 9.4H7L2 12z" {}
            circle cx="12" cy="12" r="4.2" {}
        }
    }
}

fn document(title: &str, body: &Markup) -> Markup {
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
            }
            body hx-ext="sse" { (body) }
        }
    }
}
