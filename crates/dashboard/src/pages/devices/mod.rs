//! `/devices`: the list, a new device, and one device.

mod new;
mod one;

pub(super) use new::create;
pub(super) use one::{act, edit, show};

use ::rollout::Attempt;
use api::device::{Device, DeviceState};
use api::page::Page as Items;
use api::product::Product;
use api::rollout::Rollout;
use axum::extract::Query as Params;
use axum::response::Response;
use maud::{Markup, html};
use serde::Deserialize;

use crate::api::{Failed, Query, segment};
use crate::page::{Page, Section};
use crate::session::Session;
use crate::table::{self, Column, Sorting};
use crate::view::{self, HEALTHS, when_or};

/// Devices on a page of the list.
const PAGE: &str = "50";
const COLUMNS: [Column; 9] = [
    ("Device", ""),
    ("Health", ""),
    ("Runs", ""),
    ("Last seen", ""),
    ("Made", ""),
    ("Product", ""),
    ("Channel", ""),
    ("Tags", ""),
    ("Note", "note"),
];

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Filter {
    q: String,
    product: String,
    channel: String,
    tag: String,
    state: String,
    health: String,
    sequence: String,
    rollout: String,
    wave: String,
    attempt: String,
    epoch: String,
    clone_suspected: String,
    certificate_refused: String,
    certificate_ends_within_days: String,
    sort: String,
    order: String,
    cursor: String,
    before: String,
}

impl Filter {
    /// With the order.
    fn query(&self) -> Query {
        self.narrowing().maybe("sort", Some(&self.sort)).maybe("order", Some(&self.order))
    }

    /// Which devices.
    fn narrowing(&self) -> Query {
        Query::new()
            .maybe("q", Some(&self.q))
            .maybe("product", Some(&self.product))
            .maybe("channel", Some(&self.channel))
            .maybe("tag", Some(&self.tag))
            .maybe("state", Some(&self.state))
            .maybe("health", Some(&self.health))
            .maybe("sequence", Some(&self.sequence))
            .maybe("rollout", Some(&self.rollout))
            .maybe("wave", Some(&self.wave))
            .maybe("attempt", Some(&self.attempt))
            .maybe("epoch", Some(&self.epoch))
            .maybe("clone_suspected", Some(&self.clone_suspected))
            .maybe("certificate_refused", Some(&self.certificate_refused))
            .maybe("certificate_ends_within_days", Some(&self.certificate_ends_within_days))
    }
}

pub(super) async fn list(session: Session, Params(filter): Params<Filter>) -> Response {
    session.answer(list_page(&session, &filter).await)
}

async fn list_page(session: &Session, filter: &Filter) -> Result<Page, Failed> {
    let products: Vec<Product> = session.api().all("/products", &Query::new()).await?;
    let here = filter.query();
    let query = here.clone().and("limit", PAGE);
    // To count the ids that have a part looks at all of them, as the search itself does.
    let query = if filter.q.is_empty() { query.and("total", "true") } else { query };
    let query = query.maybe("cursor", Some(&filter.cursor)).maybe("before", Some(&filter.before));
    let devices: Items<Device> = session.api().get(&query.on("/devices")).await?;
    let rollout: Option<Rollout> = match filter.rollout.as_str() {
        "" => None,
        id => Some(session.api().get(&format!("/rollouts/{}", segment(id))).await?),
    };
    let waiting = super::approvals::how_many(session, &Query::new()).await?;
    let body = html! {
        div.head {
            h1 { "Devices" }
            div.actions {
                @if let Some(waiting) = waiting { a.button href="/approvals" { (waiting) " for approval" } }
                @if session.role().operates() && !products.is_empty() { (new::dialog(session, &products)) }
            }
        }
        @if let Some(rollout) = &rollout { (of_rollout(rollout, filter)) }
        (filter_form(&products, filter))
        div #devices aria-live="polite" {
            @if devices.items.is_empty() {
                (none(&products, filter))
            } @else {
                (list_table(session, &devices.items, filter))
                (view::pager(&devices, "/devices", &here, "device"))
            }
        }
    };
    Ok(Page { title: "Devices".to_owned(), section: Section::Devices, body })
}

/// Which devices of a rollout are on the page.
fn of_rollout(rollout: &Rollout, filter: &Filter) -> Markup {
    let wave = filter.wave.parse::<usize>().ok().map(|wave| format!("wave {} of ", wave + 1));
    html! {
        div.callout {
            p {
                "Devices whose newest offer is of " (wave.unwrap_or_default()) "the rollout of "
                a href={ "/rollouts/" (segment(&rollout.id)) } {
                    (rollout.product) " " (rollout.release.version)
                }
                @if !filter.attempt.is_empty() { "; how they do with it: " strong { (filter.attempt) } }
                ". " a href="/devices" { "Show all devices" }
            }
        }
    }
}

fn filter_form(products: &[Product], filter: &Filter) -> Markup {
    let text = |name: &str, label: &str, value: &str| {
        html! {
            div.field {
                label for=(name) { (label) }
                input #(name) name=(name) value=(value) autocomplete="off" spellcheck="false" autocapitalize="none";
            }
        }
    };
    let choice = |name: &str, label: &str, value: &str, options: &[&str]| {
        html! {
            div.field {
                label for=(name) { (label) }
                select #(name) name=(name) {
                    (view::option("", "any", value.is_empty()))
                    @for option in options { (view::option(option, option, *option == value)) }
                }
            }
        }
    };
    let names = products.iter().map(|product| product.name.as_str()).collect::<Vec<_>>();
    let ends_within = match filter.certificate_ends_within_days.as_str() {
        "0" => "ended".to_owned(),
        days => format!("ends within {days} days"),
    };
    // What few devices are: asked for by a link, and shown then.
    let rare = [
        ("clone_suspected", "Two boards", &filter.clone_suspected, "suspected".to_owned()),
        ("certificate_refused", "Ended certificate", &filter.certificate_refused, "refused".to_owned()),
        ("certificate_ends_within_days", "Certificate", &filter.certificate_ends_within_days, ends_within),
    ];
    html! {
        form.filters role="search" method="get" action="/devices" hx-get="/devices" hx-target="#devices"
            hx-select="#devices" hx-swap="outerHTML" hx-push-url="true" hx-trigger="change, input delay:250ms, submit" {
            (text("q", "Id contains", &filter.q))
            (choice("product", "Product", &filter.product, &names))
            (choice("health", "Health", &filter.health, &HEALTHS.map(|(health, _, _)| health.name())))
            (choice("state", "State", &filter.state, &DeviceState::ALL.map(DeviceState::name)))
            (text("channel", "Channel", &filter.channel))
            (text("tag", "Tag", &filter.tag))
            (text("sequence", "Runs number", &filter.sequence))
            @for (name, label, value, meaning) in rare {
                @if !value.is_empty() {
                    div.field {
                        label for=(name) { (label) }
                        select #(name) name=(name) {
                            (view::option(value, &meaning, true))
                            (view::option("", "any", false))
                        }
                    }
                }
            }
            div.field {
                label for="sort" { "Sorted by" }
                select #sort name="sort" {
                    @for (value, text) in [("", "id"), ("last-seen", "last seen"), ("created", "made")] {
                        (view::option(value, text, value == filter.sort))
                    }
                }
            }
            (view::order(&filter.order, [("", "ascending"), ("descending", "descending")]))
            @if !filter.rollout.is_empty() {
                @if !filter.wave.is_empty() {
                    (choice("attempt", "With the rollout", &filter.attempt, &Attempt::ALL.map(Attempt::name)))
                }
                @for (name, value) in
                    [("rollout", &filter.rollout), ("wave", &filter.wave), ("epoch", &filter.epoch)] {
                    @if !value.is_empty() { input type="hidden" name=(name) value=(value); }
                }
            }
            div.field.buttons {
                button type="submit" { "Search" }
                a href="/devices" { "Clear" }
            }
        }
    }
}

fn list_table(session: &Session, devices: &[Device], filter: &Filter) -> Markup {
    let rows = devices.iter().map(|device| {
        table::row([
            html! { a.id href={ "/devices/" (segment(&device.id)) } { (device.id) } },
            view::health(device.health),
            running(device),
            when_or(device.last_seen_at.as_deref(), session.now, "never"),
            view::when(&device.created_at, session.now),
            html! { (device.product) },
            html! { (device.channel) },
            tags(&device.tags),
            html! { (device.note) },
        ])
    });
    let sorting = Sorting {
        columns: vec![("Device", "id"), ("Last seen", "last-seen"), ("Made", "created")],
        usual: "id",
        sort: if filter.sort.is_empty() { "id" } else { &filter.sort },
        is_descending: filter.order == "descending",
        path: "/devices",
        filter: &filter.narrowing(),
    };
    table::sorted("Devices", &COLUMNS, Some(&sorting), rows)
}

fn none(products: &[Product], filter: &Filter) -> Markup {
    if !filter.narrowing().is_empty() {
        return html! { p.empty { "No device matches. " a href="/devices" { "Show all devices" } } };
    }
    let name = products.first().map(|product| product.name.as_str());
    match name {
        Some(name) => view::empty(
            "No device yet",
            "A device enrolls with a token that is good for one time:",
            &[&format!("pitstop device new --product {name}")],
        ),
        None => view::empty(
            "No product yet",
            "A device is of a product. Make one first:",
            &["pitstop product new lamp --chip esp32c3 --layout 4mb --key publisher.key"],
        ),
    }
}

fn running(device: &Device) -> Markup {
    let Some(running) = &device.running else { return html! { span.muted { "nothing known" } } };
    let version = running.version.as_deref();
    match running.sequence {
        Some(sequence) => html! {
            a href={ "/releases/" (segment(&device.product)) "/" (sequence) } {
                (version.map_or_else(|| format!("number {sequence}"), ToOwned::to_owned))
            }
        },
        None => html! { @if let Some(version) = version { (version) " " } (view::digest(&running.digest)) },
    }
}

fn tags(tags: &[String]) -> Markup {
    html! {
        @for tag in tags {
            a.tag href=(Query::new().and("tag", tag).on("/devices")) { (tag) } " "
        }
    }
}
