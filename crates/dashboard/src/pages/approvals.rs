//! `/approvals`: devices whose enrollment waits for approval, and their approval, many at once.

use api::device::Device;
use api::page::Page as Items;
use axum::extract::Query as Params;
use axum::response::Response;
use maud::{Markup, html};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::api::{Failed, Query, segment};
use crate::form::{Fields, Form};
use crate::page::{Page, Section};
use crate::session::Session;
use crate::table::{self, Column};
use crate::view::{self, when_or};

/// Devices on a page: what one form can approve.
const PAGE: &str = "200";
const COLUMNS: [Column; 6] = [
    ("Approve", "check"),
    ("Device", ""),
    ("Waits since", ""),
    ("Product", ""),
    ("Tags", ""),
    ("Note", "note"),
];

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Filter {
    product: String,
    cursor: String,
    before: String,
    /// How many were approved just now.
    approved: Option<i64>,
}

impl Filter {
    fn query(&self) -> Query {
        Query::new().maybe("product", Some(&self.product))
    }
}

/// How many devices wait, in words, if one does.
pub(super) async fn how_many(session: &Session, query: &Query) -> Result<Option<String>, Failed> {
    let query = query.clone().and("waiting", "true").and("total", "true").and("limit", "1");
    let waiting: Items<Device> = session.api().get(&query.on("/devices")).await?;
    Ok(waiting.total.filter(|total| total.count > 0).map(|total| {
        let more = if total.has_more { "More than " } else { "" };
        let wait = if total.count == 1 { "waits" } else { "wait" };
        format!("{more}{} {wait}", view::count(total.count, "device"))
    }))
}

pub(super) async fn list(session: Session, Params(filter): Params<Filter>) -> Response {
    session.answer(page(&session, &filter).await)
}

/// Asks before it approves: the number of those that were chosen is known here.
pub(super) async fn ask(form: Form) -> Response {
    let Form { session, fields } = form;
    let chosen = fields.each("device").collect::<Vec<_>>();
    if chosen.is_empty() {
        let failed = Failed::invalid("expected at least one device to approve, found none; choose some");
        let filter = filter_of(&fields);
        return session.answer_change(Err::<(), _>(failed), "/approvals", page(&session, &filter)).await;
    }
    session.answer(Ok(question(&session, &chosen, fields.text("product"))))
}

pub(super) async fn approve(form: Form) -> Response {
    let Form { session, fields } = form;
    let filter = filter_of(&fields);
    let (mut approved, mut refused) = (0, None);
    for id in fields.each("device") {
        let path = format!("/devices/{}/approve", segment(id));
        match session.api().post::<Value>(&path, None, &json!({})).await {
            Ok(_) => approved += 1,
            // The others are approved all the same.
            Err(failed) => refused = refused.or(Some(failed)),
        }
    }
    let to = filter.query().and("approved", &approved.to_string()).on("/approvals");
    let again = Filter { approved: Some(approved), ..filter };
    session.answer_change(refused.map_or(Ok(()), Err), &to, page(&session, &again)).await
}

fn filter_of(fields: &Fields) -> Filter {
    Filter { product: fields.text("product").to_owned(), ..Filter::default() }
}

async fn page(session: &Session, filter: &Filter) -> Result<Page, Failed> {
    let here = filter.query();
    let query = here.clone().and("waiting", "true").and("total", "true").and("limit", PAGE);
    let query = query.maybe("cursor", Some(&filter.cursor)).maybe("before", Some(&filter.before));
    let devices: Items<Device> = session.api().get(&query.on("/devices")).await?;
    let body = html! {
        p.crumbs { a href="/devices" { "Devices" } }
        h1 { "Waiting for approval" @if !filter.product.is_empty() { ": " (filter.product) } }
        @if let Some(approved) = filter.approved {
            div.callout.good role="status" {
                p { (view::count(approved, "device")) @if approved == 1 { " was" } @else { " were" } " approved." }
            }
        }
        @if devices.items.is_empty() {
            p.empty { "No device waits. " a href="/devices" { "All devices" } }
        } @else {
            p.muted {
                "These devices asked to be enrolled with a token of theirs. Whom you approve gets its certificate when it "
                "asks next; the others go on waiting."
            }
            @if session.role().operates() {
                form.stack method="post" action="/approvals/ask" {
                    (session.csrf_field())
                    input type="hidden" name="product" value=(filter.product);
                    (list_table(session, &devices.items, true))
                    div.buttons { button.primary type="submit" { "Approve chosen…" } }
                }
            } @else {
                (list_table(session, &devices.items, false))
            }
            (view::pager(&devices, "/approvals", &here, "device"))
        }
    };
    Ok(Page { title: "Waiting for approval".to_owned(), section: Section::Devices, body })
}

fn list_table(session: &Session, devices: &[Device], can_choose: bool) -> Markup {
    let skipped = usize::from(!can_choose);
    let rows = devices.iter().map(|device| {
        let choose = html! {
            input type="checkbox" name="device" value=(device.id) checked aria-label={ "Approve " (device.id) };
        };
        let mut cells = vec![
            choose,
            html! { a.id href={ "/devices/" (segment(&device.id)) } { (device.id) } },
            when_or(device.waiting_since.as_deref(), session.now, "unknown"),
            html! { (device.product) },
            html! { (device.tags.join(", ")) },
            html! { (device.note) },
        ];
        cells.drain(..skipped);
        table::row(cells)
    });
    table::table("Devices that wait", &COLUMNS[skipped..], rows)
}

fn question(session: &Session, chosen: &[&str], product: &str) -> Page {
    let number = view::count(i64::try_from(chosen.len()).unwrap_or(i64::MAX), "device");
    let back = Query::new().maybe("product", Some(product)).on("/approvals");
    let body = html! {
        p.crumbs { a href=(back) { "Waiting for approval" } }
        h1 { "Approve " (number) "?" }
        p { "Each of them gets a certificate when it asks next. To take that back, revoke the device." }
        form.stack method="post" action="/approvals" {
            (session.csrf_field())
            input type="hidden" name="product" value=(product);
            @for id in chosen { input type="hidden" name="device" value=(id); }
            ul.chips aria-label="Devices to approve" { @for id in chosen { li { span.id { (id) } } } }
            div.buttons {
                button.primary type="submit" { "Approve " (number) }
                a.button href=(back) { "Cancel" }
            }
        }
    };
    Page { title: format!("Approve {number}"), section: Section::Devices, body }
}
