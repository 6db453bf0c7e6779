//! A new device: the question, and the page that shows its enrollment token.

use api::device::{NewDeviceBody, NewToken};
use api::product::Product;
use axum::http::StatusCode;
use axum::response::Response;
use maud::{Markup, html};

use super::{Filter, list_page};
use crate::api::segment;
use crate::form::{Fields, Form};
use crate::page::{Page, Section};
use crate::session::Session;
use crate::view;

/// The token is on the page that answers, and on no other: the API keeps its hash only.
pub(in crate::pages) async fn create(form: Form) -> Response {
    let Form { session, fields } = form;
    match session.api().post::<NewToken>("/devices", None, &request(&fields)).await {
        Ok(device) => {
            let mut response = session.answer(Ok(shown_once(&device)));
            *response.status_mut() = StatusCode::CREATED;
            response
        }
        Err(failed) => {
            let list = Filter::default();
            session.answer_change(Err::<(), _>(failed), "/devices", list_page(&session, &list)).await
        }
    }
}

fn request(fields: &Fields) -> NewDeviceBody {
    NewDeviceBody {
        id: fields.filled("id").map(ToOwned::to_owned),
        product: fields.text("product").to_owned(),
        note: fields.text("note").to_owned(),
        channel: fields.filled("channel").map(ToOwned::to_owned),
        tags: fields.words("tags").into_iter().map(ToOwned::to_owned).collect(),
    }
}

/// A button, and the form behind it.
pub(super) fn dialog(session: &Session, products: &[Product]) -> Markup {
    let text = |name: &str, label: &str| {
        html! {
            div.field {
                label for={ "new-" (name) } { (label) }
                input id={ "new-" (name) } name=(name) autocomplete="off" spellcheck="false" autocapitalize="none";
            }
        }
    };
    view::confirm(
        "new-device",
        "New device…",
        "primary",
        html! {
            form method="post" action="/devices" {
                (session.csrf_field())
                p { strong { "New device" } }
                div.field {
                    label for="new-product" { "Product" }
                    select #new-product name="product" autofocus {
                        @for product in products { (view::option(&product.name, &product.name, false)) }
                    }
                }
                (text("id", "Id; empty: the server makes one"))
                (text("channel", "Channel; empty: stable"))
                (text("tags", "Tags, with commas"))
                (text("note", "Note"))
                div.buttons { button.primary type="submit" { "Make device" } (view::cancel("new-device")) }
            }
        },
    )
}

fn shown_once(device: &NewToken) -> Page {
    let body = html! {
        p.crumbs { a href="/devices" { "Devices" } }
        h1 { "New device " span.id { (device.id) } }
        div.callout.good role="status" {
            p { strong { "It enrolls with this token, once." } " Copy it now: it is not shown again." }
            p { code.secret.breaks tabindex="0" { (device.enrollment_token) } }
        }
        p {
            "It goes into the device's vault: " code { "pitstop flash" } " and " code { "pitstop provision" }
            " take it. The server keeps no more than its hash."
        }
        p { a href={ "/devices/" (segment(&device.id)) } { "To the device" } }
    };
    Page { title: format!("New device {}", device.id), section: Section::Devices, body }
}
