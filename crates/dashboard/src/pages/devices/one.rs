//! One device.

use api::device::{Device, DeviceSettingsBody, DeviceState, Event};
use api::page::Page as Items;
use api::product::Channel;
use api::release::Release;
use axum::extract::Path;
use axum::response::Response;
use maud::{Markup, html};
use serde_json::{Value, json};

use super::{running, tags};
use crate::api::{Failed, Query, segment};
use crate::form::{Fields, Form};
use crate::page::{Page, Section};
use crate::session::Session;
use crate::table;
use crate::view::{self, Tone, badge, some, when, when_or};

/// Events on a device's page, the newest.
const EVENTS: &str = "50";
pub(in crate::pages) async fn show(session: Session, Path(id): Path<String>) -> Response {
    session.answer(device_page(&session, &id).await)
}

/// Channel, tags, note and pin.
pub(in crate::pages) async fn edit(Path(id): Path<String>, form: Form) -> Response {
    let Form { session, fields } = form;
    let path = format!("/devices/{}", segment(&id));
    let change: Result<Value, _> = match settings(&fields) {
        Ok(body) => session.api().patch(&path, fields.filled("revision"), &body).await,
        Err(failed) => Err(failed),
    };
    session.answer_change(change, &path, device_page(&session, &id)).await
}

pub(in crate::pages) async fn act(Path((id, action)): Path<(String, String)>, form: Form) -> Response {
    let Form { session, fields } = form;
    let page = format!("/devices/{}", segment(&id));
    let body = match action.as_str() {
        "revoke" => json!({ "reason": fields.filled("reason").unwrap_or("revoked in the dashboard") }),
        "suspend" => json!({ "reason": fields.filled("reason").unwrap_or("suspended in the dashboard") }),
        _ => json!({}),
    };
    let path = format!("{page}/{}", segment(&action));
    let change: Result<Value, _> = session.api().post(&path, fields.filled("revision"), &body).await;
    session.answer_change(change, &page, device_page(&session, &id)).await
}

fn settings(fields: &Fields) -> Result<DeviceSettingsBody, Failed> {
    let pinned = match fields.filled("pinned_sequence") {
        None => None,
        Some(number) => match number.parse() {
            Ok(number) => Some(number),
            Err(_) => return Err(Failed::invalid(format!("expected a release's number, found {number:?}"))),
        },
    };
    Ok(DeviceSettingsBody {
        channel: Some(fields.text("channel").to_owned()),
        tags: Some(fields.words("tags").into_iter().map(ToOwned::to_owned).collect()),
        note: Some(fields.text("note").to_owned()),
        pinned_sequence: Some(pinned),
    })
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
            h1 { span.id { (device.id) } " " (view::health(device.health)) }
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
            @let (class, what) = if device.suspended { ("warn", "Suspended ") } else { ("bad", "Revoked ") };
            div class={ "callout " (class) } {
                p {
                    strong { (what) (when(at, session.now)) "." } " Every request of it is refused"
                    @if device.suspended { ", until somebody resumes it" }
                    "."
                    @if let Some(reason) = &device.revoked_reason { " Reason: " (reason) "." }
                }
            }
        }
        @if let Some(since) = &device.clone_suspected_since {
            div.callout.bad {
                p {
                    strong { "Two boards seem to have this identity since " (when(since, session.now)) "." }
                    " What is shown here is now of one of them, now of the other. A new token and a new vault for the \
                     board that is meant shut the other one out: "
                    code { "pitstop device token " (device.id) }
                    ". " a href="/devices?clone_suspected=true" { "All such devices" }
                }
            }
        }
        @if let Some(refused) = device.certificate_refused.as_ref().filter(|_| device.revoked_at.is_none()) {
            div.callout.bad {
                p {
                    strong { "It was refused " (when(&refused.at, session.now)) ", with a certificate that has ended." }
                    @if refused.cause == "certificate-ended" {
                        " Its updater may renew that, and has not; one of before may need a new token and a new vault: "
                    } @else {
                        " That cannot be renewed (" (refused.cause) "): it needs a new token and a new vault: "
                    }
                    code { "pitstop device token " (device.id) }
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
            @if device.state == DeviceState::New && device.approved_at.is_none() { (plain("approve", "Approve enrollment")) }
            @if device.quarantine.is_some() { (plain("clear-quarantine", "Clear quarantine")) }
            @if device.suspended {
                (view::confirm("resume", "Resume…", "", form("resume", html! {
                    p { strong { "Resume " (device.id) "?" } }
                    p {
                        "Its next request is answered. If its certificate has ended meanwhile, it renews it."
                    }
                    div.buttons { button type="submit" autofocus { "Resume" } (view::cancel("resume")) }
                })))
            } @else if device.revoked_at.is_none() {
                (view::confirm("suspend", "Suspend…", "", form("suspend", html! {
                    p { strong { "Suspend " (device.id) "?" } }
                    p { "Its next request is refused, and so is every one after it, until somebody resumes it." }
                    label for="suspend-reason" { "Reason, for the audit" }
                    input #suspend-reason name="reason" maxlength="200" autofocus;
                    div.buttons { button type="submit" { "Suspend" } (view::cancel("suspend")) }
                })))
            }
            @if device.revoked_at.is_none() || device.suspended {
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
        ("Product", Some(html! { a href={ "/products/" (segment(&device.product)) } { (device.product) } })),
        ("State", some(if device.suspended { "suspended" } else { device.state.name() })),
        ("Created", Some(when(&device.created_at, now))),
        ("Waits for approval", device.waiting_since.as_deref().map(|at| html! { "since " (when(at, now)) })),
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
    let rows = device.slots.iter().map(|slot| {
        table::row([
            html! { code { (slot.label) } },
            html! { (view::bytes(slot.size_bytes)) },
            html! { @if slot.bootable { "yes" } @else { "no" } },
        ])
    });
    table::table("Slots", &[("Slot", ""), ("Size", "num"), ("Bootable", "")], rows)
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
        "enrolled"
        | "certificate-renewed"
        | "ended-certificate-renewed"
        | "approved"
        | "healthy"
        | "clone-cleared"
        | "resumed" => Tone::Good,
        "offered" | "installed" => Tone::Busy,
        "enrollment-refused" | "events-left-out" | "quarantined" | "failed" | "silent" => Tone::Warn,
        "suspended" => Tone::Warn,
        "crashed" | "revoked" | "clone-suspected" => Tone::Bad,
        _ => Tone::Plain,
    };
    let mut text = event.kind.replace('-', " ").replace("check in", "check-in");
    if let Some(first) = text.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    (tone, text)
}
