//! `/api/v1/products/{product}/channels`: names for the groups of devices that releases go to.

use api::page::Page;
use api::product::{Channel, NewChannel};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use utoipa_axum::routes;

use super::auth::Caller;
use super::page::PageParams;
use super::product;
use super::request::{Body, InPath, Params, check_channel_name};
use super::routes::Routes;
use crate::app::People;
use crate::clock;
use crate::problem::Problem;
use crate::store::ChannelRow;

pub(super) fn routes() -> Routes {
    Routes::of("channels").viewer(routes!(list)).admin(routes!(create))
}

/// Lists the channels of a product by name.
#[utoipa::path(
    get,
    path = "/products/{product}/channels",
    params(("product" = String, Path), PageParams),
    responses((status = 200, body = Page<Channel>))
)]
async fn list(
    State(people): State<People>,
    caller: Caller,
    InPath(name): InPath<String>,
    Params(params): Params<PageParams>,
) -> Result<Json<Page<Channel>>, Problem> {
    let product = product::find(&people, &caller, name).await?.name;
    let rows = people.store.channels(&product, params.after(), params.rows()?).await?;
    params.page(rows, |row| row.name.clone(), |row| Ok(show(row))).map(Json)
}

/// Adds a channel to a product.
#[utoipa::path(
    post,
    path = "/products/{product}/channels",
    params(("product" = String, Path)),
    request_body = NewChannel,
    responses((status = 201, body = Channel))
)]
async fn create(
    State(people): State<People>,
    caller: Caller,
    InPath(name): InPath<String>,
    Body(body): Body<NewChannel>,
) -> Result<(StatusCode, Json<Channel>), Problem> {
    let product = product::find(&people, &caller, name).await?.name;
    check_channel_name(&body.name)?;
    let change = caller.change();
    match people.store.add_channel(&product, &body.name, &change).await {
        Ok(()) => {
            let row = ChannelRow { name: body.name, created_at_ms: change.at_ms };
            Ok((StatusCode::CREATED, Json(show(row))))
        }
        Err(error) if error.is_duplicate() => Err(Problem::Exists { kind: "channel", name: body.name }),
        Err(error) => Err(error.into()),
    }
}

/// Refuses a channel that the product does not have.
pub(super) async fn require(people: &People, product: &str, channel: &str) -> Result<(), Problem> {
    if people.store.has_channel(product, channel).await? {
        return Ok(());
    }
    Err(Problem::Unsuitable(format!(
        "expected a channel of product {product}, found {channel:?}; make it first"
    )))
}

fn show(row: ChannelRow) -> Channel {
    Channel { name: row.name, created_at: clock::rfc3339(row.created_at_ms) }
}
