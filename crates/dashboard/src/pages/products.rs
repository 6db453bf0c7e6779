//! `/products`, and one product: what it is, whom it trusts, and its settings.

use api::chip_revision;
use api::fleet::Summary;
use api::product::{Channel, NewChannel, Product, ProductSettingsBody};
use api::publisher_key::{Key, NewKey};
use axum::extract::{Path, Query as Params};
use axum::response::Response;
use maud::{Markup, html};
use serde::Serialize;
use serde_json::{Value, json};

use crate::api::{Failed, Query, segment};
use crate::form::{Fields, Form};
use crate::page::{Page, Section};
use crate::session::Session;
use crate::table::{self, Asked, By, Column};
use crate::view::{self, Tone, badge, number, when};

const COLUMNS: [Column; 5] =
    [("Product", ""), ("Chip", ""), ("Layout", ""), ("Enrollment", ""), ("Silent after", "")];
const KEYS: [Column; 5] = [("Name", ""), ("Key", "wrap"), ("State", ""), ("Added", ""), ("Revoke", "bare")];
/// Units of a time in a form, the largest first.
const UNITS: [(&str, i64); 3] = [("days", 86_400), ("hours", 3600), ("minutes", 60)];

/// What they are sorted by.
const BY: [By<Product>; 4] = [
    ("Product", "name", |a, b| a.name.cmp(&b.name)),
    ("Chip", "chip", |a, b| a.chip.cmp(&b.chip)),
    ("Layout", "layout", |a, b| a.layout.name.cmp(&b.layout.name)),
    ("Silent after", "silence", |a, b| a.silence_deadline_s.cmp(&b.silence_deadline_s)),
];

pub(super) async fn list(session: Session, Params(asked): Params<Asked>) -> Response {
    session.answer(list_page(&session, &asked).await)
}

pub(super) async fn show(session: Session, Path(name): Path<String>) -> Response {
    session.answer(page(&session, &name).await)
}

/// Deadline, approval, quarantine, shortest run, revision of the chips.
pub(super) async fn edit(Path(name): Path<String>, form: Form) -> Response {
    let Form { session, fields } = form;
    let path = format!("/products/{}", segment(&name));
    let change: Result<Value, _> = match settings(&fields) {
        Ok(body) => session.api().patch(&path, fields.filled("revision"), &body).await,
        Err(failed) => Err(failed),
    };
    session.answer_change(change, &path, page(&session, &name)).await
}

pub(super) async fn add_channel(Path(name): Path<String>, form: Form) -> Response {
    let body = NewChannel { name: form.fields.text("name").to_owned() };
    add(&form.session, &name, "channels", None, &body).await
}

pub(super) async fn add_key(Path(name): Path<String>, form: Form) -> Response {
    let body = NewKey { name: form.fields.text("name").to_owned(), key: form.fields.text("key").to_owned() };
    add(&form.session, &name, "publisher-keys", form.fields.filled("revision"), &body).await
}

pub(super) async fn revoke_key(Path((name, id)): Path<(String, String)>, form: Form) -> Response {
    let of = format!("publisher-keys/{}/revoke", segment(&id));
    let body = match form.fields.filled("force") {
        Some(_) => json!({ "force": true }),
        None => json!({}),
    };
    add(&form.session, &name, &of, form.fields.filled("revision"), &body).await
}

/// Another layout, for a product without devices.
pub(super) async fn edit_layout(Path(name): Path<String>, form: Form) -> Response {
    let Form { session, fields } = form;
    let path = format!("/products/{}", segment(&name));
    let body = json!({ "layout": { "name": fields.text("layout-name"), "csv": fields.text("layout-csv") } });
    let change: Result<Value, _> = session.api().patch(&path, fields.filled("revision"), &body).await;
    session.answer_change(change, &path, page(&session, &name)).await
}

async fn add(
    session: &Session,
    name: &str,
    of: &str,
    revision: Option<&str>,
    body: &impl Serialize,
) -> Response {
    let path = format!("/products/{}", segment(name));
    let change: Result<Value, _> = session.api().post(&format!("{path}/{of}"), revision, body).await;
    session.answer_change(change, &path, page(session, name)).await
}

fn settings(fields: &Fields) -> Result<ProductSettingsBody, Failed> {
    let whole = |name: &str, label: &str| {
        let text = fields.text(name);
        text.parse::<i64>()
            .map_err(|_| Failed::invalid(format!("{label}: expected a whole number, found {text:?}")))
    };
    let unit = fields.text("silence_unit");
    let unit_s =
        UNITS.iter().find(|(name, _)| *name == unit).map(|(_, unit_s)| *unit_s).ok_or_else(|| {
            Failed::invalid(format!("Silent after: expected days, hours or minutes, found {unit:?}"))
        })?;
    let chip_revision = match fields.filled("chip_revision") {
        None => None,
        Some(text) => Some(chip_revision::parse(text).map_err(|error| {
            Failed::invalid(format!("Chip revision: {error}, or nothing for any, found {text:?}"))
        })?),
    };
    Ok(ProductSettingsBody {
        silence_deadline_s: Some(whole("silence", "Silent after")?.saturating_mul(unit_s)),
        enrollment_approval: Some(fields.text("approval") == "manual"),
        quarantine_after: Some(whole("quarantine_after", "Quarantine after")?),
        min_run_s: Some(whole("min_run_s", "Shortest run")?),
        rotate_keys: Some(fields.text("rotate_keys") == "rotated"),
        chip_revision: Some(chip_revision),
        ..ProductSettingsBody::default()
    })
}

async fn list_page(session: &Session, asked: &Asked) -> Result<Page, Failed> {
    let mut products: Vec<Product> = session.api().all("/products", &Query::new()).await?;
    let filter = Query::new();
    let sorting = asked.sort(&mut products, &BY, ("name", false), "/products", &filter);
    let rows = products.iter().map(|product| {
        table::row([
            html! { a href={ "/products/" (segment(&product.name)) } { (product.name) } },
            html! { (product.chip) },
            html! { (product.layout.name) },
            html! { (enrollment(product)) },
            html! { (view::exact_duration(product.silence_deadline_s)) },
        ])
    });
    let body = html! {
        h1 { "Products" }
        @if products.is_empty() {
            (view::empty(
                "No product yet",
                "A product is a kind of device: its chip, its flash layout, and who may publish for it.",
                &["pitstop keys new", "pitstop product new lamp --chip esp32c3 --layout 4mb --key publisher.key"],
            ))
        } @else {
            (table::sorted("Products", &COLUMNS, Some(&sorting), rows))
        }
    };
    Ok(Page { title: "Products".to_owned(), section: Section::Products, body })
}

fn enrollment(product: &Product) -> &'static str {
    if product.enrollment_approval { "waits for approval" } else { "by token alone" }
}

async fn page(session: &Session, name: &str) -> Result<Page, Failed> {
    let path = format!("/products/{}", segment(name));
    let product: Product = session.api().get(&path).await?;
    let channels: Vec<Channel> = session.api().all(&format!("{path}/channels"), &Query::new()).await?;
    let keys: Vec<Key> = session.api().all(&format!("{path}/publisher-keys"), &Query::new()).await?;
    let of_this = Query::new().and("product", name);
    let summary: Summary = session.api().get(&of_this.on("/fleet/summary")).await?;
    let waiting = super::approvals::how_many(session, &of_this).await?;
    let changes = session.role().administers();
    let body = html! {
        p.crumbs { a href="/products" { "Products" } }
        div.head {
            h1 { (product.name) " " span.muted { (product.chip) } }
            div.actions {
                a.button href=(of_this.on("/devices")) { (view::count(summary.devices, "device")) }
                a.button href=(of_this.on("/releases")) { "Releases" }
                a.button href=(of_this.on("/rollouts")) { "Rollouts" }
            }
        }
        @if let Some(waiting) = waiting {
            div.callout.warn {
                p { (waiting) " for approval. " a href=(of_this.on("/approvals")) { "Look at them" } }
            }
        }
        div.columns {
            section { h2 { "Settings" } (facts(session, &product)) }
            section {
                h2 { "Layout " (product.layout.name) }
                (layout(&product))
                @if changes && summary.devices == 0 { (layout_form(session, &product)) }
            }
        }
        @if changes { section { h2 { "Change settings" } (settings_form(session, &product)) } }
        section {
            h2 { "Publisher keys" }
            p.muted { "A release is published when one of these has signed it. The server never has the secret half." }
            (key_table(session, &product, &keys))
            @if changes { (key_form(session, &product)) }
        }
        section {
            h2 { "Channels" }
            (table::table("Channels", &[("Channel", ""), ("Added", ""), ("Devices", "")], channels.iter().map(|channel| {
                let devices = of_this.clone().and("channel", &channel.name).on("/devices");
                table::row([
                    html! { (channel.name) },
                    when(&channel.created_at, session.now),
                    html! { a href=(devices) { "devices of " (channel.name) } },
                ])
            })))
            @if changes { (channel_form(session, &product)) }
        }
        @if let Some(plan) = &product.default_plan {
            section {
                h2 { "Default plan" }
                p.muted { "A published release starts with it. It is changed by " code { "pitstop product set" } "." }
                div { (view::folded(&json!(plan))) }
            }
        }
    };
    Ok(Page { title: product.name, section: Section::Products, body })
}

fn facts(session: &Session, product: &Product) -> Markup {
    view::facts([
        ("Enrollment", view::some(enrollment(product))),
        ("Silent after", Some(html! { (view::exact_duration(product.silence_deadline_s)) " unseen" })),
        (
            "Quarantine",
            Some(html! { "after " (view::count(product.quarantine_after, "failure")) " of a release" }),
        ),
        ("Shortest run", view::some(view::exact_duration(product.min_run_s))),
        ("Device keys", view::some(if product.rotate_keys { "new at each renewal" } else { "kept" })),
        (
            "Chip revision",
            product.chip_revision.map(|revision| html! { (chip_revision::text(revision)) " and up" }),
        ),
        (
            "Artifacts",
            Some(html! {
                (view::bytes(product.artifact_bytes)) " of " (view::bytes(product.artifact_quota_bytes))
            }),
        ),
        ("Made", Some(when(&product.created_at, session.now))),
    ])
}

fn layout(product: &Product) -> Markup {
    html! {
        (view::facts([("Hand-over", view::some(&product.strategy))]))
        (table::table("Slots", &[("Slot", ""), ("Size", "num")], product.slots.iter().map(|slot| {
            table::row([
                html! { code { (slot.label) } },
                html! { (view::bytes(slot.size_bytes)) " (" (number(slot.size_bytes)) " B)" },
            ])
        })))
        details {
            summary { "Partition table" }
            pre tabindex="0" aria-label="Partition table as CSV" { (product.layout.csv) }
        }
    }
}

fn layout_form(session: &Session, product: &Product) -> Markup {
    html! {
        details {
            summary { "Change the layout" }
            p.muted { "While there are no devices. Releases that would not fit are archived first." }
            form method="post" action={ "/products/" (segment(&product.name)) "/layout" } {
                (session.csrf_field())
                input type="hidden" name="revision" value=(product.revision);
                div.field {
                    label for="layout-name" { "Name" }
                    input #layout-name name="layout-name" value=(product.layout.name) required maxlength="64" autocomplete="off";
                }
                div.field {
                    label for="layout-csv" { "Partition table as CSV" }
                    textarea #layout-csv name="layout-csv" rows="12" required maxlength="16384" spellcheck="false"
                        autocapitalize="none" { (product.layout.csv) }
                }
                div.field.buttons { button type="submit" { "Change layout" } }
            }
        }
    }
}

fn settings_form(session: &Session, product: &Product) -> Markup {
    let seconds = product.silence_deadline_s;
    let (unit, unit_s) = UNITS.into_iter().find(|(_, unit)| seconds % unit == 0).unwrap_or(("minutes", 60));
    let whole = |name: &str, label: &str, value: &str| {
        html! {
            div.field {
                label for=(name) { (label) }
                input #(name) name=(name) value=(value) inputmode="numeric" autocomplete="off";
            }
        }
    };
    let lowest_revision = product.chip_revision.map(chip_revision::text).unwrap_or_default();
    html! {
        form.grid method="post" action={ "/products/" (segment(&product.name)) } {
            (session.csrf_field())
            input type="hidden" name="revision" value=(product.revision);
            div.field {
                label for="approval" { "Enrollment" }
                select #approval name="approval" {
                    (view::option("automatic", "by token alone", !product.enrollment_approval))
                    (view::option("manual", "waits for approval", product.enrollment_approval))
                }
            }
            div.field {
                label for="rotate_keys" { "Device keys" }
                select #rotate_keys name="rotate_keys" {
                    (view::option("kept", "kept", !product.rotate_keys))
                    (view::option("rotated", "new at each renewal", product.rotate_keys))
                }
            }
            (whole("silence", "Silent after", &(seconds / unit_s).to_string()))
            div.field {
                label for="silence_unit" { "Unit" }
                select #silence_unit name="silence_unit" {
                    @for (name, _) in UNITS { (view::option(name, name, name == unit)) }
                }
            }
            (whole("quarantine_after", "Quarantine after failures", &product.quarantine_after.to_string()))
            (whole("min_run_s", "Shortest run, seconds", &product.min_run_s.to_string()))
            div.field {
                label for="chip_revision" { "Chip revision, such as v0.4; empty: any" }
                input #chip_revision name="chip_revision" value=(lowest_revision) autocomplete="off";
            }
            div.field.buttons { button.primary type="submit" { "Save" } }
        }
    }
}

/// Rollouts that a revoked key leaves are named so far.
const NAMED_ROLLOUTS: usize = 10;

fn key_table(session: &Session, product: &Product, keys: &[Key]) -> Markup {
    let good = keys.iter().filter(|key| key.revoked_at.is_none()).count();
    let rows = keys.iter().map(|key| {
        let question = format!("revoke-{}", key.id);
        let revoke = view::confirm(&question, "Revoke…", "danger small", html! {
            form method="post" action={
                "/products/" (segment(&product.name)) "/publisher-keys/" (segment(&key.id)) "/revoke"
            } {
                (session.csrf_field())
                input type="hidden" name="revision" value=(product.revision);
                p { strong { "Revoke the key " (key.name) "?" } }
                p {
                    "What it signs is not published any more. This is final. Devices that are provisioned already trust it "
                    "until they are provisioned again."
                }
                @if !key.rollouts.is_empty() {
                    p {
                        "Rollouts that go on to bring devices what it signed: "
                        @for (index, id) in key.rollouts.iter().take(NAMED_ROLLOUTS).enumerate() {
                            @if index > 0 { ", " }
                            a href={ "/rollouts/" (segment(id)) } { (id) }
                        }
                        @if key.rollouts.len() > NAMED_ROLLOUTS { " and others" }
                        ". Abort them to end that."
                    }
                }
                @if good == 1 {
                    p {
                        strong { "It is the last key of " (product.name) ":" }
                        " nothing can be published for it until there is another one."
                    }
                    label {
                        input type="checkbox" name="force" value="yes" required;
                        " Revoke it although it is the last one"
                    }
                }
                div.buttons {
                    button.danger type="submit" autofocus { "Revoke" }
                    (view::cancel(&question))
                }
            }
        });
        let state = match key.revoked_at {
            None => badge(Tone::Good, "trusted"),
            Some(_) => badge(Tone::Plain, "revoked"),
        };
        table::row([
            html! { (key.name) },
            html! { code { (key.key) } },
            state,
            when(&key.created_at, session.now),
            html! { @if key.revoked_at.is_none() && session.role().administers() { (revoke) } },
        ])
    });
    html! {
        @if keys.is_empty() {
            p.empty { "None: nothing can be published for it yet." }
        } @else {
            (table::table("Publisher keys", &KEYS, rows))
        }
    }
}

fn key_form(session: &Session, product: &Product) -> Markup {
    html! {
        form.grid method="post" action={ "/products/" (segment(&product.name)) "/publisher-keys" } {
            (session.csrf_field())
            input type="hidden" name="revision" value=(product.revision);
            div.field {
                label for="key-name" { "Name: whose it is" }
                input #key-name name="name" required maxlength="64" autocomplete="off";
            }
            div.field {
                label for="key" { "Public key, 66 digits" }
                input #key name="key" required minlength="66" maxlength="66" autocomplete="off" spellcheck="false"
                    autocapitalize="none";
            }
            div.field.buttons { button type="submit" { "Add key" } }
        }
    }
}

fn channel_form(session: &Session, product: &Product) -> Markup {
    html! {
        form.grid method="post" action={ "/products/" (segment(&product.name)) "/channels" } {
            (session.csrf_field())
            div.field {
                label for="channel-name" { "New channel" }
                input #channel-name name="name" required maxlength="64" autocomplete="off" spellcheck="false"
                    autocapitalize="none";
            }
            div.field.buttons { button type="submit" { "Add channel" } }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_whole_numbers_with_units() {
        let form = "silence=36&silence_unit=hours&approval=manual&quarantine_after=2&min_run_s=0&rotate_keys=rotated\
             &chip_revision=";
        let body = settings(&Fields::parse(form.as_bytes())).unwrap();
        assert_eq!(
            json!(body),
            json!({
                "silence_deadline_s": 129_600, "enrollment_approval": true, "quarantine_after": 2, "min_run_s": 0,
                "rotate_keys": true, "chip_revision": null,
            })
        );
        for wrong in ["silence=1.5", "silence=", "silence=36&silence_unit=years", "silence=soon"] {
            assert!(settings(&Fields::parse(format!("{wrong}&{form}").as_bytes())).is_err(), "{wrong}");
        }
    }
}
