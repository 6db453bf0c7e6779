//! `/audit`: who changed what.

use api::audit::Line;
use api::page::Page as Items;
use axum::extract::Query as Params;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use maud::{Markup, html};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::api::{Failed, Query, segment};
use crate::page::{Page, Section};
use crate::session::Session;
use crate::table;
use crate::view;

const PAGE: &str = "100";
const KINDS: [&str; 13] = [
    "artifact",
    "audit",
    "ca",
    "certificate",
    "channel",
    "device",
    "evidence",
    "product",
    "publisher-key",
    "release",
    "rollout",
    "token",
    "webhook",
];

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Filter {
    actor: String,
    kind: String,
    subject: String,
    product: String,
    since: String,
    until: String,
    order: String,
    cursor: String,
    before: String,
}

impl Filter {
    /// As the dashboard's own addresses have it.
    fn query(&self) -> Query {
        self.common()
            .maybe("since", Some(&self.since))
            .maybe("until", Some(&self.until))
            .maybe("order", Some(&self.order))
    }

    /// As the API has it: days become times, the last one as a whole.
    fn api_query(&self) -> Query {
        let since = (!self.since.is_empty()).then(|| format!("{}T00:00:00Z", self.since));
        let until = (!self.until.is_empty()).then(|| format!("{}T23:59:59Z", self.until));
        self.common().maybe("since", since.as_deref()).maybe("until", until.as_deref())
    }

    fn common(&self) -> Query {
        Query::new()
            .maybe("actor", Some(&self.actor))
            .maybe("kind", Some(&self.kind))
            .maybe("subject", Some(&self.subject))
            .maybe("product", Some(&self.product))
    }
}

pub(super) async fn list(session: Session, Params(filter): Params<Filter>) -> Response {
    session.answer(page(&session, &filter).await)
}

/// Passes the API's export on as it comes: one JSON document for each line, as long as the log is.
pub(super) async fn export(session: Session, Params(filter): Params<Filter>) -> Response {
    match session.api().open(&filter.api_query().on("/audit/export")).await {
        Ok(answer) => {
            let name = "attachment; filename=\"pitstop-audit.ndjson\"";
            let headers =
                [(header::CONTENT_TYPE, "application/x-ndjson"), (header::CONTENT_DISPOSITION, name)];
            (StatusCode::OK, headers, answer.into_body()).into_response()
        }
        Err(failed) => session.answer(Err(failed)),
    }
}

async fn page(session: &Session, filter: &Filter) -> Result<Page, Failed> {
    let query = filter.api_query().and("limit", PAGE).maybe("cursor", Some(&filter.cursor));
    let query = query.maybe("before", Some(&filter.before)).maybe("order", Some(&filter.order));
    let entries: Items<Line> = session.api().get(&query.on("/audit")).await?;
    let here = filter.query();
    let body = html! {
        div.head {
            h1 { "Audit" }
            div.actions { a.button href=(here.on("/audit/export")) download { "Export" } }
        }
        (filter_form(filter))
        div #audit {
            @if entries.items.is_empty() {
                @if here.is_empty() {
                    p.empty { "Nothing was changed yet. Every change through API, command line or dashboard is noted." }
                } @else {
                    p.empty { "No change matches. " a href="/audit" { "Show all changes" } }
                }
            } @else {
                (list_table(&entries.items))
                (view::pager(&entries, "/audit", &here, "change"))
            }
        }
    };
    Ok(Page { title: "Audit".to_owned(), section: Section::Audit, body })
}

fn filter_form(filter: &Filter) -> Markup {
    let field = |name: &str, label: &str, kind: &str, value: &str| {
        html! {
            div.field {
                label for=(name) { (label) }
                input #(name) name=(name) type=(kind) value=(value) autocomplete="off" autocapitalize="none";
            }
        }
    };
    html! {
        form.filters role="search" method="get" action="/audit" hx-get="/audit" hx-target="#audit" hx-select="#audit"
            hx-swap="outerHTML" hx-push-url="true" hx-trigger="change, submit" {
            (field("actor", "Who (token id)", "text", &filter.actor))
            div.field {
                label for="kind" { "What" }
                select #kind name="kind" {
                    (view::option("", "any", filter.kind.is_empty()))
                    @for kind in KINDS { (view::option(kind, kind, kind == filter.kind)) }
                }
            }
            (field("subject", "Which", "text", &filter.subject))
            (field("product", "Product", "text", &filter.product))
            (field("since", "From", "date", &filter.since))
            (field("until", "To", "date", &filter.until))
            (view::order(&filter.order, [("", "newest first"), ("ascending", "oldest first")]))
            div.field.buttons {
                button type="submit" { "Search" }
                a href="/audit" { "Clear" }
            }
        }
    }
}

fn list_table(entries: &[Line]) -> Markup {
    let rows = entries.iter().map(|entry| {
        table::row([
            view::timestamp(&entry.at),
            html! { span title=(entry.actor.id) { (entry.actor.name) } },
            html! { code { (entry.action) } },
            subject(entry),
            change(entry.before.as_ref(), entry.after.as_ref()),
            html! { (entry.product.as_deref().unwrap_or_default()) },
        ])
    });
    let columns =
        [("When", ""), ("Who", ""), ("Did", ""), ("To", "wrap"), ("Change", "grow"), ("Product", "")];
    table::table("Changes", &columns, rows)
}

/// What was changed, as a link where there is a page.
fn subject(entry: &Line) -> Markup {
    let href = match entry.kind.as_str() {
        "device" => Some(format!("/devices/{}", segment(&entry.subject))),
        "rollout" => Some(format!("/rollouts/{}", segment(&entry.subject))),
        "product" => Some(format!("/products/{}", segment(&entry.subject))),
        _ => None,
    };
    html! {
        span.muted { (entry.kind) } " "
        @if let Some(href) = href { a.id href=(href) { (entry.subject) } } @else { span.id { (entry.subject) } }
    }
}

/// What differs between before and after.
fn change(before: Option<&Value>, after: Option<&Value>) -> Markup {
    let empty = Map::new();
    let [old, new] = [before, after].map(|side| side.and_then(Value::as_object).unwrap_or(&empty));
    let names = old.keys().chain(new.keys().filter(|name| !old.contains_key(*name)));
    let value = |map: &Map<String, Value>, name: &str| map.get(name).map_or(Value::Null, Clone::clone);
    html! {
        div.pairs {
            @for name in names {
                @let (from, to) = (value(old, name), value(new, name));
                @if from != to {
                    div.pair {
                        span.key { (name.replace('_', " ")) } " "
                        @if !from.is_null() { del { (view::folded(&from)) } " → " }
                        ins { (view::folded(&to)) }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_what_differs_is_shown() {
        let before = json!({ "state": "running", "wave": 1, "note": null });
        let after = json!({ "state": "<b>halted", "wave": 1, "note": "new" });
        let shown = change(Some(&before), Some(&after)).into_string();
        assert!(shown.contains("<del>running</del> → <ins>&lt;b&gt;halted</ins>"), "{shown}");
        assert!(shown.contains("<ins>new</ins>") && !shown.contains("wave"), "{shown}");
    }

    /// The API's document names them for the parameter `kind`.
    #[test]
    fn all_kinds_can_be_chosen() {
        let document = include_str!("../../../../docs/openapi.json");
        let line = document.lines().find(|line| line.contains("`artifact`")).unwrap();
        let named: Vec<_> = line.split('`').skip(1).step_by(2).collect();
        assert_eq!(named, KINDS);
    }

    #[test]
    fn days_become_times() {
        let filter = Filter { since: "2026-01-01".into(), until: "2026-01-02".into(), ..Filter::default() };
        let path = filter.api_query().on("/audit");
        assert_eq!(path, "/audit?since=2026-01-01T00%3A00%3A00Z&until=2026-01-02T23%3A59%3A59Z");
    }
}
