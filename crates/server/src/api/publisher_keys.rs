//! `/api/v1/products/{product}/publisher-keys`: whose signatures a product trusts.

use api::page::Page;
use api::publisher_key::{Key, NewKey, RevokeKey};
use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use manifest::{Manifest, PublisherKeys, Signed};
use utoipa_axum::routes;

use super::auth::Caller;
use super::etag::Condition;
use super::page::PageParams;
use super::product;
use super::request::{Body, InPath, Params, check_text, optional_body};
use super::routes::{IfMatchHeader, Routes};
use crate::app::People;
use crate::clock;
use crate::problem::Problem;
use crate::publish::parse_key;
use crate::store::{KeyRow, Trust};

/// So many rollouts are looked at for whose releases they bring: a signature takes part of a millisecond.
const MAX_ROLLOUTS: i64 = 100;

pub(super) fn routes() -> Routes {
    Routes::of("publisher-keys").viewer(routes!(list)).admin(routes!(add)).admin(routes!(revoke))
}

/// Lists the publisher keys of a product, oldest first, revoked ones too. There are few: one page has them all.
#[utoipa::path(
    get,
    path = "/products/{product}/publisher-keys",
    params(("product" = String, Path), PageParams),
    responses((status = 200, body = Page<Key>))
)]
async fn list(
    State(people): State<People>,
    caller: Caller,
    InPath(name): InPath<String>,
    Params(params): Params<PageParams>,
) -> Result<Json<Page<Key>>, Problem> {
    let product = product::find(&people, &caller, name).await?;
    params.rows()?;
    let rows = people.store.publisher_keys(&product.name).await?;
    let keys = rows.into_iter().map(show_key).collect::<Result<_, _>>()?;
    Ok(Json(Page::whole(with_rollouts(&people, &product.name, keys).await?)))
}

/// Lets a product trust one more publisher key. It is a change of the product.
#[utoipa::path(
    post,
    path = "/products/{product}/publisher-keys",
    params(("product" = String, Path), IfMatchHeader),
    request_body = NewKey,
    responses((status = 201, body = Key))
)]
async fn add(
    State(people): State<People>,
    caller: Caller,
    condition: Condition,
    InPath(name): InPath<String>,
    Body(body): Body<NewKey>,
) -> Result<(StatusCode, Json<Key>), Problem> {
    let product = product::find(&people, &caller, name).await?.name;
    let change = caller.change();
    let key = new_key(body, change.at_ms)?;
    match people.store.add_publisher_key(&product, &key, &change, &condition.0).await {
        Ok(changed) => {
            changed.done("product", &product)?;
            Ok((StatusCode::CREATED, Json(show_key(key)?)))
        }
        Err(error) if error.is_duplicate() => {
            Err(Problem::Exists { kind: "publisher key", name: key.key_hex })
        }
        Err(error) => Err(error.into()),
    }
}

/// Revokes a publisher key, which is final: what it signed is not published any more. Releases of before stay, and a
/// device trusts the keys in its vault until it is provisioned again: the answer names the rollouts that go on to bring devices
/// what it signed. It is a change of the product. The body may be absent;
/// the last key that is good is revoked with `force` alone.
#[utoipa::path(
    post,
    path = "/products/{product}/publisher-keys/{id}/revoke",
    params(("product" = String, Path), ("id" = String, Path), IfMatchHeader),
    request_body = Option<RevokeKey>,
    responses((status = 200, body = Key))
)]
async fn revoke(
    State(people): State<People>,
    caller: Caller,
    condition: Condition,
    InPath((name, id)): InPath<(String, String)>,
    body: Bytes,
) -> Result<Json<Key>, Problem> {
    let RevokeKey { force } = optional_body(&body, "{\"force\": true}")?;
    let product = product::find(&people, &caller, name).await?.name;
    let key = find(&people, &product, &id).await?;
    let revoked =
        people.store.revoke_publisher_key(&product, &key, force, &caller.change(), &condition.0).await?;
    if !revoked.done("product", &product)? {
        let Trust { trusting, others, in_part } = people.store.trust(&product, &id).await?;
        let key = format!("{} ({id})", key.name);
        return Err(Problem::LastPublisherKey { product, key, trusting, others, in_part });
    }
    let key = show_key(find(&people, &product, &id).await?)?;
    with_rollouts(&people, &product, vec![key])
        .await?
        .pop()
        .map(Json)
        .ok_or(Problem::NotFound { kind: "publisher key", name: id })
}

/// The keys with the rollouts that bring devices what they signed.
async fn with_rollouts(people: &People, product: &str, mut keys: Vec<Key>) -> Result<Vec<Key>, Problem> {
    let known: Vec<PublisherKeys> = keys
        .iter()
        .map(|key| parse_key(&key.key).map(|key| [key].into_iter().collect()).map_err(Problem::Invalid))
        .collect::<Result<_, _>>()?;
    for (rollout, manifest_base64) in people.store.rollouts_that_bring(product, MAX_ROLLOUTS).await? {
        let manifest = BASE64_STANDARD.decode(manifest_base64).map_err(Problem::internal)?;
        let signed = Signed::<Manifest>::from_bytes(manifest);
        let signer = known.iter().position(|known| signed.verify(known).is_ok());
        if let Some(key) = signer.and_then(|signer| keys.get_mut(signer)) {
            key.rollouts.push(rollout);
        }
    }
    Ok(keys)
}

async fn find(people: &People, product: &str, id: &str) -> Result<KeyRow, Problem> {
    for row in people.store.publisher_keys(product).await? {
        if key_id(&row)? == id {
            return Ok(row);
        }
    }
    Err(Problem::NotFound { kind: "publisher key", name: id.to_owned() })
}

/// Checks a key that is to be trusted.
pub(super) fn new_key(body: NewKey, now_ms: i64) -> Result<KeyRow, Problem> {
    check_text("name of a publisher key", &body.name, 1, 64)?;
    let key = parse_key(&body.key)
        .map_err(|reason| Problem::Unsuitable(format!("publisher key {}: {reason}", body.name)))?;
    let key_hex = hex::encode(key.to_sec1());
    Ok(KeyRow { name: body.name, key_hex, created_at_ms: now_ms, revoked_at_ms: None })
}

pub(super) fn show_key(row: KeyRow) -> Result<Key, Problem> {
    Ok(Key {
        id: key_id(&row)?,
        name: row.name,
        key: row.key_hex,
        created_at: clock::rfc3339(row.created_at_ms),
        revoked_at: row.revoked_at_ms.map(clock::rfc3339),
        rollouts: Vec::new(),
    })
}

fn key_id(row: &KeyRow) -> Result<String, Problem> {
    Ok(hex::encode(parse_key(&row.key_hex).map_err(Problem::Invalid)?.id()))
}
