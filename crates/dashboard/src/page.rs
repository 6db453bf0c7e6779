//! A page of somebody who is logged in: the navigation around it, and what an answer becomes.

use api::access::{Role, Whoami};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Redirect, Response};
use maud::{Markup, html};

use crate::api::{Api, Failed};
use crate::layout::{document, mark, problem, title_of};
use crate::session::{CSRF_FIELD, Session};

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
    Products,
    Releases,
    Rollouts,
    Audit,
    Tokens,
    /// In no entry: what does not exist.
    None,
}

impl Section {
    const ENTRIES: [(Self, &'static str, &'static str); 7] = [
        (Self::Fleet, "Fleet", "/"),
        (Self::Devices, "Devices", "/devices"),
        (Self::Products, "Products", "/products"),
        (Self::Releases, "Releases", "/releases"),
        (Self::Rollouts, "Rollouts", "/rollouts"),
        (Self::Audit, "Audit", "/audit"),
        (Self::Tokens, "Tokens", "/tokens"),
    ];

    fn is_for(self, role: Role) -> bool {
        match self {
            Self::Fleet
            | Self::Devices
            | Self::Products
            | Self::Releases
            | Self::Rollouts
            | Self::Audit
            | Self::None => true,
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

fn person(who: &Whoami) -> Markup {
    html! {
        p.who title={ "Token " (who.id) } {
            span { (who.name) }
            span.role { (who.role.name()) @if let Some(product) = &who.product { " · " (product) } }
        }
    }
}
