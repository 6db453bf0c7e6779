//! `/api/v1/products`.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use flashfmt::{Chip, Layout};
use serde::{Deserialize, Serialize};

use super::page::{Page, PageParams};
use super::request::{Body, Params, check_product_name};
use crate::app::App;
use crate::clock;
use crate::problem::Problem;
use crate::publish::{SlotSize, parse_key};
use crate::store::{KeyRow, NewProduct, ProductRow};

#[derive(Deserialize)]
pub(super) struct NewProductBody {
    name: String,
    chip: String,
    layout: LayoutBody,
    #[serde(default)]
    publisher_keys: Vec<NewKeyBody>,
}

#[derive(Deserialize)]
pub(super) struct NewKeyBody {
    name: String,
    key: String,
}

#[derive(Serialize, Deserialize)]
pub(super) struct LayoutBody {
    name: String,
    csv: String,
}

#[derive(Serialize)]
pub(super) struct Product {
    name: String,
    chip: String,
    layout: LayoutBody,
    strategy: String,
    slots: Vec<SlotSize>,
    publisher_keys: Vec<Key>,
    created_at: String,
}

#[derive(Serialize)]
pub(super) struct Key {
    name: String,
    key: String,
    id: String,
}

pub(super) async fn create(
    State(app): State<Arc<App>>,
    Body(body): Body<NewProductBody>,
) -> Result<(StatusCode, Json<Product>), Problem> {
    check_product_name(&body.name)?;
    let chip: Chip = body.chip.parse().map_err(invalid)?;
    let layout = Layout::parse_csv(&body.layout.csv)
        .map_err(|error| Problem::Invalid(format!("layout {}: {error}", body.layout.name)))?;
    let slots = app_slots(&layout);
    if slots.is_empty() {
        return Err(Problem::Invalid(format!(
            "layout {}: expected a slot for the application (such as ota_0), found none",
            body.layout.name
        )));
    }
    let keys = body.publisher_keys.into_iter().map(new_key).collect::<Result<Vec<_>, _>>()?;
    let row = ProductRow {
        name: body.name,
        chip: chip.name().to_owned(),
        layout_name: body.layout.name,
        layout_csv: body.layout.csv,
        strategy: strategy(&layout).to_owned(),
        slots: serde_json::to_string(&slots)?,
        created_at_ms: clock::now_ms(),
    };
    let product = NewProduct { row, keys };
    match app.store.add_product(&product).await {
        Ok(()) => Ok((StatusCode::CREATED, Json(show_product(product.row, product.keys)?))),
        Err(error) if error.is_duplicate() => {
            // Either the name is taken, or the body names a key twice.
            let name = product.row.name;
            match app.store.product(&name).await? {
                Some(_) => Err(Problem::Exists { kind: "product", name }),
                None => Err(Problem::Invalid("expected each publisher key once, found one twice".to_owned())),
            }
        }
        Err(error) => Err(error.into()),
    }
}

pub(super) async fn list(
    State(app): State<Arc<App>>,
    Params(params): Params<PageParams>,
) -> Result<Json<Page<Product>>, Problem> {
    let rows = app.store.products(params.after(), params.rows()?).await?;
    let mut with_keys = Vec::with_capacity(rows.len());
    for row in rows {
        let keys = app.store.publisher_keys(&row.name).await?;
        with_keys.push((row, keys));
    }
    params.page(with_keys, |(row, _)| row.name.clone(), |(row, keys)| show_product(row, keys)).map(Json)
}

pub(super) async fn show(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
) -> Result<Json<Product>, Problem> {
    let row = find(&app, name).await?;
    let keys = app.store.publisher_keys(&row.name).await?;
    show_product(row, keys).map(Json)
}

pub(super) async fn add_key(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    Body(body): Body<NewKeyBody>,
) -> Result<(StatusCode, Json<Key>), Problem> {
    let product = find(&app, name).await?;
    let key = new_key(body)?;
    match app.store.add_publisher_key(&product.name, &key, clock::now_ms()).await {
        Ok(()) => Ok((StatusCode::CREATED, Json(show_key(key)?))),
        Err(error) if error.is_duplicate() => {
            Err(Problem::Exists { kind: "publisher key", name: key.key_hex })
        }
        Err(error) => Err(error.into()),
    }
}

/// The product of this name.
pub(super) async fn find(app: &App, name: String) -> Result<ProductRow, Problem> {
    app.store.product(&name).await?.ok_or(Problem::NotFound { kind: "product", name })
}

/// How devices with this layout hand over (DESIGN section 3).
fn strategy(layout: &Layout) -> &'static str {
    if layout.hands_over_by_otadata() { "otadata-rollback" } else { "chain-load" }
}

/// The slots that applications go to.
fn app_slots(layout: &Layout) -> Vec<SlotSize> {
    layout.slots().map(|slot| SlotSize { label: slot.label.to_string(), size_bytes: slot.size }).collect()
}

fn new_key(body: NewKeyBody) -> Result<KeyRow, Problem> {
    let key = parse_key(&body.key)
        .map_err(|reason| Problem::Invalid(format!("publisher key {}: {reason}", body.name)))?;
    Ok(KeyRow { name: body.name, key_hex: hex::encode(key.to_sec1()) })
}

fn show_product(row: ProductRow, keys: Vec<KeyRow>) -> Result<Product, Problem> {
    Ok(Product {
        name: row.name,
        chip: row.chip,
        layout: LayoutBody { name: row.layout_name, csv: row.layout_csv },
        strategy: row.strategy,
        slots: serde_json::from_str(&row.slots)?,
        publisher_keys: keys.into_iter().map(show_key).collect::<Result<_, _>>()?,
        created_at: clock::rfc3339(row.created_at_ms),
    })
}

fn show_key(row: KeyRow) -> Result<Key, Problem> {
    let key = parse_key(&row.key_hex).map_err(Problem::Invalid)?;
    Ok(Key { name: row.name, key: row.key_hex, id: hex::encode(key.id()) })
}

fn invalid(error: impl std::fmt::Display) -> Problem {
    Problem::Invalid(error.to_string())
}
