//! `/devices`, and one device.

use axum::extract::{Path, Query as Params};
use axum::response::Response;
use maud::{Markup, html};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::api::{Failed, Page as Items, Query, segment};
use crate::form::{Fields, Form};
use crate::model::{Channel, Device, Event, Product, Release};
use crate::page::{Page, Section};
use crate::session::Session;
use crate::view::{self, HEALTHS, Tone, badge, some, when, when_or};

/// Devices on a page of the list.
const PAGE: &str = "50";
/// Events on a device's page, the newest.
const EVENTS: &str = "50";
const STATES: [&str; 3] = ["new", "enrolled", "revoked"];

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
    cursor: String,
}

impl Filter {
    fn query(&self) -> Query {
        Query::new()
            .maybe("q", Some(&self.q))
            .maybe("product", Some(&self.product))
            .maybe("channel", Some(&self.channel))
            .maybe("tag", Some(&self.tag))
            .maybe("state", Some(&self.state))
            .maybe("health", Some(&self.health))
            .maybe("sequence", Some(&self.sequence))
    }
}

pub(super) async fn list(session: Session, Params(filter): Params<Filter>) -> Response {
    session.answer(list_page(&session, &filter).await)
}

pub(super) async fn show(session: Session, Path(id): Path<String>) -> Response {
    session.answer(device_page(&session, &id).await)
}

/// Channel, tags, note and pin.
pub(super) async fn edit(Path(id): Path<String>, form: Form) -> Response {
    let Form { session, fields } = form;
    let path = format!("/devices/{}", segment(&id));
    let change: Result<Value, _> = match settings(&fields) {
        Ok(body) => session.api().patch(&path, fields.filled("revision"), &body).await,
        Err(failed) => Err(failed),
    };
    session.answer_change(change, &path, device_page(&session, &id)).await
}

pub(super) async fn act(Path((id, action)): Path<(String, String)>, form: Form) -> Response {
    let Form { session, fields } = form;
    let page = format!("/devices/{}", segment(&id));
    let body = match action.as_str() {
        "revoke" => json!({ "reason": fields.filled("reason").unwrap_or("revoked in the dashboard") }),
        _ => json!({}),
    };
    let path = format!("{page}/{}", segment(&action));
    let change: Result<Value, _> = session.api().post(&path, fields.filled("revision"), &body).await;
    session.answer_change(change, &page, device_page(&session, &id)).await
}

fn settings(fields: &Fields) -> Result<Value, Failed> {
    let pinned = match fields.filled("pinned_sequence") {
        None => Value::Null,
        Some(number) => match number.parse::<i64>() {
            Ok(number) => number.into(),
            Err(_) => return Err(Failed::invalid(format!("expected a release's number, found {number:?}"))),
        },
    };
    let tags = fields.text("tags").split([',', ' ']).filter(|tag| !tag.is_empty()).collect::<Vec<_>>();
    Ok(json!({
        "channel": fields.text("channel"),
        "tags": tags,
        "note": fields.text("note"),
        "pinned_sequence": pinned,
    }))
}

async fn list_page(session: &Session, filter: &Filter) -> Result<Page, Failed> {
    let products: Vec<Product> = session.api().all("/products", &Query::new()).await?;
    let query = filter.query().and("limit", PAGE).maybe("cursor", Some(&filter.cursor));
    let devices: Items<Device> = session.api().get(&query.on("/devices")).await?;
    let here = filter.query();
    let body = html! {
        h1 { "Devices" }
        (filter_form(&products, filter))
        div #devices aria-live="polite" {
            @if devices.items.is_empty() {
                (none(&products, filter))
            } @else {
                (table(session, &devices.items))
                (view::pager(
                    (!filter.cursor.is_empty()).then(|| here.on("/devices")),
                    devices.next_cursor.map(|cursor| here.clone().and("cursor", &cursor).on("/devices")),
                ))
            }
        }
    };
    Ok(Page { title: "Devices".to_owned(), section: Section::Devices, body })
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
    html! {
        form.filters role="search" method="get" action="/devices" hx-get="/devices" hx-target="#devices"
            hx-select="#devices" hx-swap="outerHTML" hx-push-url="true" hx-trigger="change, input delay:250ms, submit" {
            (text("q", "Id contains", &filter.q))
            (choice("product", "Product", &filter.product, &names))
            (choice("health", "Health", &filter.health, &HEALTHS.map(|(health, _, _)| health)))
            (choice("state", "State", &filter.state, &STATES))
            (text("channel", "Channel", &filter.channel))
            (text("tag", "Tag", &filter.tag))
            (text("sequence", "Runs number", &filter.sequence))
            div.field.buttons {
                button type="submit" { "Search" }
                a href="/devices" { "Clear" }
            }
        }
    }
}

fn table(session: &Session, devices: &[Device]) -> Markup {
    view::table(
        "Devices",
        html! {
            thead {
                tr {
                    th { "Device" } th { "Health" } th { "Runs" } th { "Last seen" } th.wide { "Product" }
                    th.wide { "Channel" } th.wide { "Tags" } th.wide { "Note" }
                }
            }
            tbody {
                @for device in devices {
                    tr {
                        td { a.id href={ "/devices/" (segment(&device.id)) } { (device.id) } }
                        td { (view::health(&device.health)) }
                        td { (running(device)) }
                        td { (when_or(device.last_seen_at.as_deref(), session.now, "never")) }
                        td.wide { (device.product) }
                        td.wide { (device.channel) }
                        td.wide { (tags(&device.tags)) }
                        td.wide.note { (device.note) }
                    }
                }
            }
        },
    )
}

fn none(products: &[Product], filter: &Filter) -> Markup {
    if !filter.query().is_empty() {
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

async fn device_page(session: &Session, id: &str) -> Result<Page, Failed> {
    let path = format!("/devices/{}", segment(id));
    let device: Device = session.api().get(&path).await?;
    let events: Items<Event> =
        session.api().get(&Query::new().and("limit", EVENTS).on(&format!("{path}/events"))).await?;
    let settings = if session.role().operates() && device.revoked_at.is_none() {
        let product = format!("/products/{}", segment(&device.product));
        let channels: Vec<Channel> = session.api().all(&format!("{product}/channels"), &Query::new()).await?;
        let releases: Vec<Release> = session.api().all(&format!("{product}/releases"), &Query::new()).await?;
        Some(settings_form(session, &device, &channels, &releases))
    } else {
        None
    };
    let body = html! {
        p.crumbs { a href="/devices" { "Devices" } }
        div.head {
            h1 { span.id { (device.id) } " " (view::health(&device.health)) }
            @if session.role().operates() { (actions(session, &device)) }
        }
        @if !device.note.is_empty() { p.note { (device.note) } }
        (warnings(session, &device))
        div.columns {
            section { h2 { "Application" } (application(session, &device)) }
            section { h2 { "Identity" } (identity(session, &device)) }
            section { h2 { "Slots" } (slots(&device)) }
            section { h2 { "Health" } (vitals(session, &device)) }
        }
        @if let Some(settings) = settings { section { h2 { "Settings" } (settings) } }
        section { h2 { "Timeline" } (timeline(&events.items, session)) }
    };
    Ok(Page { title: device.id, section: Section::Devices, body })
}

/// What needs somebody's attention, before everything else.
fn warnings(session: &Session, device: &Device) -> Markup {
    html! {
        @if let Some(at) = &device.revoked_at {
            div.callout.bad {
                p {
                    strong { "Revoked " (when(at, session.now)) "." } " Every request of it is refused."
                    @if let Some(reason) = &device.revoked_reason { " Reason: " (reason) "." }
                }
            }
        }
        @if let Some(quarantine) = &device.quarantine {
            div.callout.warn {
                p {
                    strong {
                        "Release " (number_or_unknown(quarantine.sequence)) " is quarantined here since "
                        (when(&quarantine.since, session.now)) "."
                    }
                    " It failed"
                    @if let Some(failures) = &device.failures { " " (view::count(failures.count, "time")) }
                    " and is not offered again until somebody clears that, or a newer release comes."
                }
            }
        }
    }
}

fn number_or_unknown(sequence: Option<i64>) -> String {
    sequence.map_or_else(|| "unknown".to_owned(), |sequence| sequence.to_string())
}

fn actions(session: &Session, device: &Device) -> Markup {
    let form = |action: &str, content: Markup| {
        html! {
            form method="post" action={ "/devices/" (segment(&device.id)) "/" (action) } {
                (session.csrf_field())
                input type="hidden" name="revision" value=(device.revision);
                (content)
            }
        }
    };
    let plain = |action: &str, button: &str| form(action, html! { button type="submit" { (button) } });
    html! {
        div.actions {
            @if device.state == "new" && device.approved_at.is_none() { (plain("approve", "Approve enrollment")) }
            @if device.quarantine.is_some() { (plain("clear-quarantine", "Clear quarantine")) }
            @if device.revoked_at.is_none() {
                (view::confirm("revoke", "Revoke…", "danger", form("revoke", html! {
                    p { strong { "Revoke " (device.id) "?" } }
                    p { "Its next request is refused, and so is every one after it. This is final." }
                    label for="reason" { "Reason, for the audit" }
                    input #reason name="reason" maxlength="200" autofocus;
                    div.buttons { button.danger type="submit" { "Revoke" } (view::cancel("revoke")) }
                })))
            }
        }
    }
}

fn application(session: &Session, device: &Device) -> Markup {
    let attempt = device.attempt.as_ref().map(|attempt| {
        html! {
            (badge(attempt_tone(&attempt.state), &attempt.state))
            " number " (number_or_unknown(attempt.sequence))
            @if let (Some(rollout), Some(wave)) = (&attempt.rollout, attempt.wave) {
                " in " a href={ "/rollouts/" (segment(rollout)) } { "wave " (wave + 1) " of a rollout" }
            }
            @if let Some(at) = &attempt.at { ", " (when(at, session.now)) }
        }
    });
    let outcome = device.last_outcome.as_ref().map(|outcome| {
        html! {
            code { (outcome.reason) } " (" (outcome.code) ")"
            @if let Some(sequence) = outcome.sequence { ", number " (sequence) }
            ", " (when(&outcome.at, session.now))
        }
    });
    view::facts([
        ("Runs", Some(running(device))),
        ("Digest", device.running.as_ref().map(|running| view::digest(&running.digest))),
        ("Channel", some(&device.channel)),
        ("Pinned to", device.pinned_sequence.map(|sequence| html! { "number " (sequence) })),
        ("Last attempt", attempt),
        ("Last outcome", outcome),
        ("Tags", (!device.tags.is_empty()).then(|| tags(&device.tags))),
    ])
}

fn attempt_tone(state: &str) -> Tone {
    match state {
        "healthy" => Tone::Good,
        "offered" | "installed" => Tone::Busy,
        "silent" | "failed" => Tone::Warn,
        "crashed" => Tone::Bad,
        _ => Tone::Plain,
    }
}

fn identity(session: &Session, device: &Device) -> Markup {
    let now = session.now;
    view::facts([
        ("Product", some(&device.product)),
        ("State", some(&device.state)),
        ("Created", Some(when(&device.created_at, now))),
        ("Approved", device.approved_at.as_deref().map(|at| when(at, now))),
        ("Enrolled", Some(when_or(device.enrolled_at.as_deref(), now, "not yet"))),
        (
            "Certificate",
            device.certificate.as_ref().map(|certificate| html! { code { (certificate.serial) } }),
        ),
        (
            "Valid",
            device.certificate.as_ref().map(|certificate| {
                html! {
                    "from " (when(&certificate.not_before, now)) ", ends " (when(&certificate.not_after, now))
                }
            }),
        ),
    ])
}

fn slots(device: &Device) -> Markup {
    if device.slots.is_empty() {
        return html! { p.muted { "Known after its first check-in." } };
    }
    html! {
        table {
            thead { tr { th { "Slot" } th.num { "Size" } th { "Bootable" } } }
            tbody {
                @for slot in &device.slots {
                    tr {
                        td { code { (slot.label) } }
                        td.num { (view::bytes(slot.size_bytes)) }
                        td { @if slot.bootable { "yes" } @else { "no" } }
                    }
                }
            }
        }
    }
}

fn vitals(session: &Session, device: &Device) -> Markup {
    view::facts([
        ("Last seen", Some(when_or(device.last_seen_at.as_deref(), session.now, "never"))),
        ("Updater", device.updater_version.as_deref().and_then(some)),
        ("Hand-over", device.strategy.as_deref().and_then(some)),
        ("Last reset", device.reset_cause.as_deref().and_then(some)),
        ("Starts", device.starts.map(|starts| html! { (view::number(starts)) })),
        ("Free heap", device.free_heap_bytes.map(|bytes| html! { (view::bytes(bytes)) })),
        ("Critical errors", device.critical_errors.map(|errors| html! { (view::number(errors)) })),
    ])
}

fn settings_form(session: &Session, device: &Device, channels: &[Channel], releases: &[Release]) -> Markup {
    html! {
        form.grid method="post" action={ "/devices/" (segment(&device.id)) } {
            (session.csrf_field())
            input type="hidden" name="revision" value=(device.revision);
            div.field {
                label for="channel" { "Channel" }
                select #channel name="channel" {
                    @for channel in channels {
                        (view::option(&channel.name, &channel.name, channel.name == device.channel))
                    }
                }
            }
            div.field {
                label for="pinned" { "Pinned to" }
                select #pinned name="pinned_sequence" {
                    (view::option("", "nothing: rollouts decide", device.pinned_sequence.is_none()))
                    @for release in releases {
                        (view::option(
                            &release.sequence.to_string(),
                            &format!("{} (number {})", release.version, release.sequence),
                            device.pinned_sequence == Some(release.sequence),
                        ))
                    }
                }
            }
            div.field {
                label for="tags" { "Tags, with commas" }
                input #tags name="tags" value=(device.tags.join(", ")) autocomplete="off" autocapitalize="none";
            }
            div.field {
                label for="note" { "Note" }
                input #note name="note" value=(device.note) autocomplete="off";
            }
            div.field.buttons { button.primary type="submit" { "Save" } }
        }
    }
}

fn timeline(events: &[Event], session: &Session) -> Markup {
    if events.is_empty() {
        return html! { p.muted { "Nothing happened yet." } };
    }
    html! {
        ol.timeline {
            @for event in events {
                @let (tone, text) = describe(event);
                li class=(tone_class(tone)) {
                    (when(&event.at, session.now))
                    div { strong { (text) } " " (view::pairs(&event.detail)) }
                }
            }
        }
    }
}

fn tone_class(tone: Tone) -> &'static str {
    match tone {
        Tone::Good => "good",
        Tone::Busy => "busy",
        Tone::Plain => "plain",
        Tone::Warn => "warn",
        Tone::Bad => "bad",
    }
}

/// An event in words. What the server learns to tell later is shown by the name that it gives it.
fn describe(event: &Event) -> (Tone, String) {
    let detail = |name: &str| event.detail.get(name).and_then(Value::as_str);
    let tone = match event.kind.as_str() {
        "report" if detail("reason") == Some("installed") => return (Tone::Good, "Installed".to_owned()),
        "report" => return (Tone::Warn, "Reported a failure".to_owned()),
        "check-in" => match detail("reset_cause") {
            Some("panic" | "watchdog" | "brownout") => {
                return (Tone::Bad, "Check-in after a crash".to_owned());
            }
            Some("updater-crash") => return (Tone::Bad, "Check-in after a crash of the updater".to_owned()),
            Some(_) | None => Tone::Plain,
        },
        "enrolled" | "certificate-renewed" | "approved" | "healthy" => Tone::Good,
        "offered" | "installed" => Tone::Busy,
        "enrollment-refused" | "events-left-out" | "quarantined" | "failed" | "silent" => Tone::Warn,
        "crashed" | "revoked" => Tone::Bad,
        _ => Tone::Plain,
    };
    let mut text = event.kind.replace('-', " ").replace("check in", "check-in");
    if let Some(first) = text.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    (tone, text)
}
