//! `/tokens`: who may use the API.

use api::access::{ApiToken, CreatedToken, NewApiToken, Role};
use api::product::Product;
use axum::extract::{Path, Query as Params};
use axum::http::StatusCode;
use axum::response::Response;
use maud::{Markup, html};
use serde_json::{Value, json};
use time::format_description::well_known::Rfc3339;

use crate::api::{Failed, Query, segment};
use crate::form::{Fields, Form};
use crate::page::{Page, Section};
use crate::session::Session;
use crate::table::{self, Asked, By, Column};
use crate::view::{self, Tone, badge, when, when_or};

const COLUMNS: [Column; 7] = [
    ("Name", ""),
    ("Role", ""),
    ("Product", ""),
    ("State", ""),
    ("Created", ""),
    ("Ends", ""),
    ("Revoke", "bare"),
];

/// What they are sorted by.
const BY: [By<ApiToken>; 5] = [
    ("Name", "name", |a, b| a.name.cmp(&b.name)),
    ("Role", "role", |a, b| a.role.name().cmp(b.role.name())),
    ("Product", "product", |a, b| a.product.cmp(&b.product)),
    ("Created", "created", |a, b| a.created_at.cmp(&b.created_at)),
    ("Ends", "ends", |a, b| a.expires_at.cmp(&b.expires_at)),
];

pub(super) async fn list(session: Session, Params(asked): Params<Asked>) -> Response {
    session.answer(page(&session, None, &asked).await)
}

/// The new token is on the page that answers, and on no other: the API keeps its hash only.
pub(super) async fn create(form: Form) -> Response {
    let Form { session, fields } = form;
    let made: Result<CreatedToken, Failed> = match request(&fields) {
        Ok(body) => session.api().post("/tokens", None, &body).await,
        Err(failed) => Err(failed),
    };
    match made {
        Ok(token) => {
            let mut response = session.answer(page(&session, Some(&token), &Asked::default()).await);
            *response.status_mut() = StatusCode::CREATED;
            response
        }
        Err(failed) => {
            session
                .answer_change(Err::<(), _>(failed), "/tokens", page(&session, None, &Asked::default()))
                .await
        }
    }
}

pub(super) async fn revoke(Path(id): Path<String>, form: Form) -> Response {
    let path = format!("/tokens/{}/revoke", segment(&id));
    let change: Result<Value, _> = form.session.api().post(&path, None, &json!({})).await;
    form.session.answer_change(change, "/tokens", page(&form.session, None, &Asked::default())).await
}

fn request(fields: &Fields) -> Result<NewApiToken, Failed> {
    let expires_at = fields.filled("expires").map(|day| {
        let end = format!("{day}T23:59:59Z");
        match view::parse(&end).and_then(|end| end.format(&Rfc3339).ok()) {
            Some(_) => Ok(end),
            None => Err(Failed::invalid(format!("expected a day such as 2030-12-31, found {day:?}"))),
        }
    });
    Ok(NewApiToken {
        name: fields.text("name").to_owned(),
        role: fields.text("role").parse().map_err(|error| Failed::invalid(format!("Role: {error}")))?,
        product: fields.filled("product").map(ToOwned::to_owned),
        expires_at: expires_at.transpose()?,
    })
}

async fn page(session: &Session, made: Option<&CreatedToken>, asked: &Asked) -> Result<Page, Failed> {
    let mut tokens: Vec<ApiToken> = session.api().all("/tokens", &Query::new()).await?;
    let filter = Query::new();
    let sorting = asked.sort(&mut tokens, &BY, ("", false), "/tokens", &filter);
    let products: Vec<Product> = session.api().all("/products", &Query::new()).await?;
    let body = html! {
        h1 { "Tokens" }
        @if let Some(made) = made { (shown_once(made)) }
        (table::sorted("Tokens", &COLUMNS, Some(&sorting), tokens.iter().map(|token| row(session, token))))
        section { h2 { "New token" } (form(session, &products)) }
    };
    Ok(Page { title: "Tokens".to_owned(), section: Section::Tokens, body })
}

fn shown_once(made: &CreatedToken) -> Markup {
    html! {
        div.callout.good role="status" {
            p { strong { "Token " (made.description.name) " is made." } " Copy it now: it is not shown again." }
            p { code.secret.breaks tabindex="0" { (made.token) } }
            p.muted { "The command line takes it by " code { "--token" } " or " code { "PITSTOP_TOKEN" } "." }
        }
    }
}

fn row(session: &Session, token: &ApiToken) -> table::Row {
    let expired = token.expires_at.as_deref().and_then(view::parse).is_some_and(|end| end <= session.now);
    let state = match (&token.revoked_at, expired) {
        (Some(_), _) => badge(Tone::Plain, "revoked"),
        (None, true) => badge(Tone::Plain, "expired"),
        (None, false) => badge(Tone::Good, "good"),
    };
    let question = format!("revoke-{}", token.id);
    let revoke = view::confirm(
        &question,
        "Revoke…",
        "danger small",
        html! {
            form method="post" action={ "/tokens/" (segment(&token.id)) "/revoke" } {
                (session.csrf_field())
                p { strong { "Revoke " (token.name) "?" } }
                p { "Whoever uses it is refused from now on. This is final." }
                div.buttons {
                    button.danger type="submit" autofocus { "Revoke" }
                    (view::cancel(&question))
                }
            }
        },
    );
    table::row([
        html! { (token.name) @if token.id == session.who.id { " " span.muted { "(this session)" } } },
        html! { (token.role.name()) },
        html! { (token.product.as_deref().unwrap_or("all")) },
        state,
        when(&token.created_at, session.now),
        when_or(token.expires_at.as_deref(), session.now, "never"),
        html! { @if token.revoked_at.is_none() && !expired { (revoke) } },
    ])
}

fn form(session: &Session, products: &[Product]) -> Markup {
    html! {
        form.grid method="post" action="/tokens" {
            (session.csrf_field())
            div.field {
                label for="name" { "Name: who or what it is for" }
                input #name name="name" required maxlength="64" autocomplete="off";
            }
            div.field {
                label for="role" { "Role" }
                select #role name="role" {
                    @for role in Role::ALL { (view::option(role.name(), may(role), role == Role::Viewer)) }
                }
            }
            div.field {
                label for="product" { "Product" }
                select #product name="product" {
                    (view::option("", "all", true))
                    @for product in products { (view::option(&product.name, &product.name, false)) }
                }
            }
            div.field {
                label for="expires" { "Last day; empty: no end" }
                input #expires name="expires" type="date";
            }
            div.field.buttons { button.primary type="submit" { "Make token" } }
        }
    }
}

fn may(role: Role) -> &'static str {
    match role {
        Role::Viewer => "viewer: sees everything but tokens",
        Role::Operator => "operator: devices and rollouts too",
        Role::Publisher => "publisher: artifacts and releases too",
        Role::Admin => "admin: everything",
    }
}
