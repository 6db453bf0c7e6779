//! `/api/v1/webhooks`: where a team's own backend is told what happens.

use std::net::IpAddr;

use api::page::Page;
use api::webhook::{CreatedWebhook, Delivery, ListedWebhook, NewWebhook, Webhook};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use reqwest::Url;
use utoipa_axum::routes;

use super::auth::Caller;
use super::page::PageParams;
use super::product;
use super::request::{Body, InPath, Params};
use super::routes::Routes;
use crate::app::People;
use crate::clock;
use crate::problem::Problem;
use crate::secret;
use crate::store::{DeliveryRow, WebhookRow};
use crate::webhooks::{self, EVENTS};

/// The longest URL, in bytes.
const MAX_URL_BYTES: usize = 1000;

pub(super) fn routes() -> Routes {
    Routes::of("webhooks")
        .admin(routes!(list))
        .admin(routes!(create))
        .admin(routes!(remove))
        .admin(routes!(deliveries))
        .admin(routes!(test))
}

/// Lists webhooks.
#[utoipa::path(get, path = "/webhooks", responses((status = 200, body = Page<ListedWebhook>)))]
async fn list(State(people): State<People>, caller: Caller) -> Result<Json<Page<ListedWebhook>>, Problem> {
    caller.require_unscoped()?;
    let webhooks = people.store.webhooks().await?;
    let waiting = people.store.waiting_deliveries().await?;
    let listed = |row: WebhookRow| {
        let waits = waiting.iter().find(|(webhook, ..)| *webhook == row.id);
        ListedWebhook {
            waiting: waits.map_or(0, |(_, count, _)| *count),
            next_try_at: waits.map(|(.., try_at_ms)| clock::rfc3339(*try_at_ms)),
            webhook: show(row),
        }
    };
    Ok(Json(Page::whole(webhooks.into_iter().map(listed).collect())))
}

/// Adds a webhook: it is told what happens from now on. Its secret is shown once.
#[utoipa::path(
    post,
    path = "/webhooks",
    request_body = NewWebhook,
    responses((status = 201, body = CreatedWebhook))
)]
async fn create(
    State(people): State<People>,
    caller: Caller,
    Body(body): Body<NewWebhook>,
) -> Result<(StatusCode, Json<CreatedWebhook>), Problem> {
    caller.require_unscoped()?;
    check_url(&body.url, body.allow_http)?;
    let names = || EVENTS.iter().map(|(name, _)| *name);
    if let Some(unknown) = body.events.iter().find(|event| !names().any(|name| name == *event)) {
        let names: Vec<_> = names().collect();
        return Err(Problem::Unsuitable(format!("expected events of {}, found {unknown}", names.join(", "))));
    }
    // None stands for all, those of later versions too.
    let mut events = body.events;
    events.sort();
    events.dedup();
    let product = match body.product {
        Some(name) => Some(product::find(&people, &caller, name).await?.name),
        None => None,
    };
    let change = caller.change();
    let row = WebhookRow {
        id: format!("wh-{}", hex::encode(secret::random::<6>())),
        url: body.url,
        secret: webhooks::new_secret(),
        product,
        events: serde_json::to_string(&events)?,
        created_at_ms: change.at_ms,
        told_until: String::new(),
    };
    people.store.add_webhook(&row, &change).await?;
    let secret = row.secret.clone();
    Ok((StatusCode::CREATED, Json(CreatedWebhook { webhook: show(row), secret })))
}

fn check_url(text: &str, allow_http: bool) -> Result<(), Problem> {
    let url = Url::parse(text).ok().filter(|_| text.len() <= MAX_URL_BYTES);
    match url.filter(|url| matches!(url.scheme(), "https" | "http") && url.host().is_some()) {
        Some(url) if url.scheme() == "http" && !allow_http && !is_here(&url) => {
            Err(Problem::Unsuitable(format!(
                "expected https for a backend on another machine, found {text:?}: the signature shows whose a request is, \
                 and hides nothing of it; where the way there is safe, say so with allow_http"
            )))
        }
        Some(_) => Ok(()),
        None => Err(Problem::Unsuitable(format!(
            "expected a URL such as https://backend.example/pitstop of at most {MAX_URL_BYTES} bytes, found {text:?}"
        ))),
    }
}

/// Whether a URL leads to the server's own machine.
fn is_here(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}

/// Removes a webhook. What has not been delivered is not sent any more.
#[utoipa::path(delete, path = "/webhooks/{id}", params(("id" = String, Path)), responses((status = 200, body = Webhook)))]
async fn remove(
    State(people): State<People>,
    caller: Caller,
    InPath(id): InPath<String>,
) -> Result<Json<Webhook>, Problem> {
    caller.require_unscoped()?;
    let webhook = find(&people, id).await?;
    if people.store.remove_webhook(&webhook.id, &caller.change()).await? {
        Ok(Json(show(webhook)))
    } else {
        Err(not_found(webhook.id))
    }
}

/// Lists what was sent to a webhook within 30 days, and what is still to be sent, newest first.
#[utoipa::path(
    get,
    path = "/webhooks/{id}/deliveries",
    params(("id" = String, Path), PageParams),
    responses((status = 200, body = Page<Delivery>))
)]
async fn deliveries(
    State(people): State<People>,
    caller: Caller,
    InPath(id): InPath<String>,
    Params(params): Params<PageParams>,
) -> Result<Json<Page<Delivery>>, Problem> {
    caller.require_unscoped()?;
    let webhook = find(&people, id).await?;
    let rows = people.store.deliveries(&webhook.id, params.after(), params.rows()?).await?;
    params.page(rows, |row| row.id.clone(), |row| Ok(delivery(row))).map(Json)
}

/// Sends a webhook an event `webhook.test`, as soon as it can be.
#[utoipa::path(post, path = "/webhooks/{id}/test", params(("id" = String, Path)), responses((status = 202, body = Webhook)))]
async fn test(
    State(people): State<People>,
    caller: Caller,
    InPath(id): InPath<String>,
) -> Result<(StatusCode, Json<Webhook>), Problem> {
    caller.require_unscoped()?;
    let webhook = find(&people, id).await?;
    webhooks::test(&people, &webhook).await?;
    Ok((StatusCode::ACCEPTED, Json(show(webhook))))
}

async fn find(people: &People, id: String) -> Result<WebhookRow, Problem> {
    let found = people.store.webhooks().await?.into_iter().find(|webhook| webhook.id == id);
    found.ok_or_else(|| not_found(id))
}

fn not_found(id: String) -> Problem {
    Problem::NotFound { kind: "webhook", name: id }
}

fn show(row: WebhookRow) -> Webhook {
    Webhook {
        events: webhooks::events_of(&row),
        id: row.id,
        url: row.url,
        product: row.product,
        created_at: clock::rfc3339(row.created_at_ms),
    }
}

fn delivery(row: DeliveryRow) -> Delivery {
    let next_try_at = (row.state == "waiting").then(|| clock::rfc3339(row.try_at_ms));
    Delivery {
        id: row.id,
        event: row.event,
        at: clock::rfc3339(row.at_ms),
        state: row.state,
        tries: row.tries,
        next_try_at,
        status: row.status,
        error: row.error,
    }
}
