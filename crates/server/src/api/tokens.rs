//! `/api/v1/tokens`: who may use the API. An admin whose token is for one product makes and sees none.

use api::access::{ApiToken, CreatedToken, NewApiToken};
use api::page::Page;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use utoipa_axum::routes;

use super::auth::Caller;
use super::page::PageParams;
use super::product;
use super::request::{Body, InPath, Params, check_text, parse_time};
use super::routes::Routes;
use crate::app::People;
use crate::clock;
use crate::problem::{Problem, Refused};
use crate::secret;
use crate::store::{Revocation, TokenDeletion, TokenRow};

pub(super) fn routes() -> Routes {
    Routes::of("tokens")
        .admin(routes!(list))
        .admin(routes!(create))
        .admin(routes!(revoke))
        .admin(routes!(remove))
}

/// Makes an API token, which is shown once.
#[utoipa::path(post, path = "/tokens", request_body = NewApiToken, responses((status = 201, body = CreatedToken)))]
async fn create(
    State(people): State<People>,
    caller: Caller,
    Body(body): Body<NewApiToken>,
) -> Result<(StatusCode, Json<CreatedToken>), Problem> {
    caller.require_unscoped()?;
    check_text("name", &body.name, 1, 64)?;
    let change = caller.change();
    let expires_at_ms = body.expires_at.as_deref().map(parse_time).transpose()?;
    if expires_at_ms.is_some_and(|at_ms| at_ms <= change.at_ms) {
        let found = body.expires_at.unwrap_or_default();
        return Err(Problem::Unsuitable(format!("expected expires_at in the future, found {found}")));
    }
    let product = match body.product {
        Some(name) => Some(product::find(&people, &caller, name).await?.name),
        None => None,
    };
    let token = secret::new_token();
    let row = TokenRow {
        id: secret::new_token_id(),
        name: body.name,
        role: body.role.name().to_owned(),
        product,
        created_at_ms: change.at_ms,
        expires_at_ms,
        revoked_at_ms: None,
    };
    people.store.add_token(&row, &secret::hash(&token), &change).await?;
    Ok((StatusCode::CREATED, Json(CreatedToken { description: show(row)?, token })))
}

/// Lists API tokens by id, those that are good no longer too.
#[utoipa::path(get, path = "/tokens", params(PageParams), responses((status = 200, body = Page<ApiToken>)))]
async fn list(
    State(people): State<People>,
    caller: Caller,
    Params(params): Params<PageParams>,
) -> Result<Json<Page<ApiToken>>, Problem> {
    caller.require_unscoped()?;
    let rows = people.store.tokens(params.after(), params.rows()?).await?;
    params.page(rows, |row| row.id.clone(), show).map(Json)
}

/// Revokes an API token: its next request is refused. The last admin token that is good cannot be revoked.
#[utoipa::path(
    post,
    path = "/tokens/{id}/revoke",
    params(("id" = String, Path)),
    responses((status = 200, body = ApiToken))
)]
async fn revoke(
    State(people): State<People>,
    caller: Caller,
    InPath(id): InPath<String>,
) -> Result<Json<ApiToken>, Problem> {
    caller.require_unscoped()?;
    match people.store.revoke_token(&id, &caller.change()).await? {
        Revocation::Done(row) => show(row).map(Json),
        Revocation::NotFound => Err(Problem::NotFound { kind: "token", name: id }),
        Revocation::Last => Err(Problem::LastAdmin { id }),
    }
}

/// Deletes an API token that is good no longer: it was revoked, or has expired. The audit log keeps its id and name.
#[utoipa::path(
    delete,
    path = "/tokens/{id}",
    params(("id" = String, Path)),
    responses((status = 200, body = ApiToken))
)]
async fn remove(
    State(people): State<People>,
    caller: Caller,
    InPath(id): InPath<String>,
) -> Result<Json<ApiToken>, Problem> {
    caller.require_unscoped()?;
    match people.store.delete_token(&id, &caller.change()).await? {
        TokenDeletion::Done(row) => show(row).map(Json),
        TokenDeletion::NotFound => Err(Problem::NotFound { kind: "token", name: id }),
        TokenDeletion::Good => Err(Problem::Refused(Refused {
            status: StatusCode::CONFLICT,
            kind: "token-good",
            title: "The API token is good",
            detail: format!(
                "expected a token that was revoked or has expired, found {id}, which is good; revoke it first, then \
                 delete it"
            ),
        })),
    }
}

fn show(row: TokenRow) -> Result<ApiToken, Problem> {
    Ok(ApiToken {
        id: row.id,
        name: row.name,
        role: row.role.parse().map_err(Problem::internal)?,
        product: row.product,
        created_at: clock::rfc3339(row.created_at_ms),
        expires_at: row.expires_at_ms.map(clock::rfc3339),
        revoked_at: row.revoked_at_ms.map(clock::rfc3339),
    })
}
