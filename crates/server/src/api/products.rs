//! `/api/v1/products`.

use std::sync::Arc;

use api::page::Page;
use api::product::{LayoutBody, NewProductBody, Product, ProductSettingsBody, SlotSize};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use flashfmt::image::HEADER_BYTES;
use flashfmt::layout::Places;
use flashfmt::{Chip, ImageHeader, Layout};
use manifest::Digest;
use serde_json::Value;
use tokio::io::AsyncReadExt as _;
use utoipa_axum::routes;

use super::auth::Caller;
use super::etag::{Condition, Tagged};
use super::page::PageParams;
use super::product;
use super::publisher_keys::{new_key, show_key};
use super::request::{Body, InPath, Params, check_product_name, check_text};
use super::routes::{IfMatchHeader, Routes};
use crate::app::App;
use crate::clock;
use crate::counted::counted_up_to;
use crate::problem::{Problem, Refused};
use crate::publish::check_chip;
use crate::store::{
    KeyRow, LayoutChange, MAX_COUNTED, NewProduct, ProductChange, ProductDeletion, ProductRow, SettingsChange,
};

/// Bounds of a deadline: a minute, ten years.
const MIN_DEADLINE_S: i64 = 60;
const MAX_DEADLINE_S: i64 = 10 * 365 * 24 * 60 * 60;

/// The longest time in which a run can be called short: a day.
const MAX_MIN_RUN_S: i64 = 24 * 60 * 60;

/// More failures of one release than anybody wants to see.
const MAX_FAILURES: i64 = 1000;

/// The most publisher keys that a product is made with; more can be added.
const MAX_KEYS: usize = 16;

/// The longest layout: a partition table has 95 entries at most.
const MAX_LAYOUT_CHARS: usize = 16 * 1024;

/// The newest images are looked at for what chips they are for, so many of them: of each the header is read.
const MAX_IMAGES: i64 = 200;

/// Releases that are in the way are named so far.
const MAX_NAMED: usize = 10;

pub(super) fn routes() -> Routes {
    Routes::of("products")
        .viewer(routes!(list))
        .viewer(routes!(show))
        .admin(routes!(create))
        .admin(routes!(change))
        .admin(routes!(remove))
}

/// Makes a product.
#[utoipa::path(post, path = "/products", request_body = NewProductBody, responses((status = 201, body = Product)))]
async fn create(
    State(app): State<Arc<App>>,
    caller: Caller,
    Body(body): Body<NewProductBody>,
) -> Result<(StatusCode, Tagged<Product>), Problem> {
    caller.require_unscoped()?;
    check_product_name(&body.name)?;
    let chip: Chip = body.chip.parse().map_err(|error| Problem::Unsuitable(format!("{error}")))?;
    check_chip_revision(body.chip_revision)?;
    check_min_run(body.min_run_s)?;
    let layout = check_layout(&body.layout, chip)?;
    if body.publisher_keys.len() > MAX_KEYS {
        let found = body.publisher_keys.len();
        return Err(Problem::Invalid(format!("expected at most {MAX_KEYS} publisher keys, found {found}")));
    }
    let slots = app_slots(&layout);
    let now_ms = app.config.clock.now_ms();
    let keys =
        body.publisher_keys.into_iter().map(|key| new_key(key, now_ms)).collect::<Result<Vec<_>, _>>()?;
    let row = ProductRow {
        name: body.name,
        chip: chip.name().to_owned(),
        layout_name: body.layout.name,
        layout_csv: body.layout.csv,
        strategy: strategy(&layout).to_owned(),
        slots: serde_json::to_string(&slots)?,
        silence_deadline_s: 7 * 24 * 60 * 60,
        quarantine_after: 3,
        enrollment_approval: 0,
        default_plan: None,
        chip_revision: body.chip_revision,
        min_run_s: body.min_run_s.unwrap_or(60),
        rotate_keys: body.rotate_keys.map_or(0, i64::from),
        created_at_ms: now_ms,
        revision: 1,
    };
    let product = NewProduct { row, keys };
    match app.people.store.add_product(&product, &caller.change()).await {
        Ok(()) => {
            let row = product::find(&app.people, &caller, product.row.name).await?;
            Ok((StatusCode::CREATED, tagged(&app, row).await?))
        }
        Err(error) if error.is_duplicate() => {
            // Either the name is taken, or the body names a key twice.
            let name = product.row.name;
            match app.people.store.product(&name).await? {
                Some(_) => Err(Problem::Exists { kind: "product", name }),
                None => {
                    Err(Problem::Unsuitable("expected each publisher key once, found one twice".to_owned()))
                }
            }
        }
        Err(error) => Err(error.into()),
    }
}

/// Lists products by name.
#[utoipa::path(get, path = "/products", params(PageParams), responses((status = 200, body = Page<Product>)))]
async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    Params(params): Params<PageParams>,
) -> Result<Json<Page<Product>>, Problem> {
    let rows = app.people.store.products(caller.scope(), params.after(), params.rows()?).await?;
    let mut shown = Vec::with_capacity(rows.len());
    for row in rows {
        shown.push((beside(&app, &row.name).await?, row));
    }
    params.page(shown, |(_, row)| row.name.clone(), |(beside, row)| show_product(row, beside)).map(Json)
}

/// Shows a product.
#[utoipa::path(get, path = "/products/{product}", params(("product" = String, Path)), responses((status = 200, body = Product)))]
async fn show(
    State(app): State<Arc<App>>,
    caller: Caller,
    InPath(name): InPath<String>,
) -> Result<Tagged<Product>, Problem> {
    tagged(&app, product::find(&app.people, &caller, name).await?).await
}

/// Changes the settings of a product. What is absent stays as it is.
#[utoipa::path(
    patch,
    path = "/products/{product}",
    params(("product" = String, Path), IfMatchHeader),
    request_body = ProductSettingsBody,
    responses((status = 200, body = Product))
)]
async fn change(
    State(app): State<Arc<App>>,
    caller: Caller,
    condition: Condition,
    InPath(name): InPath<String>,
    Body(body): Body<ProductSettingsBody>,
) -> Result<Tagged<Product>, Problem> {
    let product = product::find(&app.people, &caller, name.clone()).await?;
    check_seconds("silence_deadline_s", body.silence_deadline_s)?;
    if let Some(found) = body.quarantine_after.filter(|count| !(1..=MAX_FAILURES).contains(count)) {
        return Err(Problem::Invalid(format!(
            "expected quarantine_after of 1 to {MAX_FAILURES}, found {found}"
        )));
    }
    check_chip_revision(body.chip_revision.flatten())?;
    if let Some(Some(revision)) = body.chip_revision
        && product.chip_revision.is_none_or(|before| revision < before)
    {
        check_releases(&app, &name, revision).await?;
    }
    check_min_run(body.min_run_s)?;
    let layout = match body.layout {
        Some(layout) => Some(layout_change(layout, product.chip.parse().map_err(Problem::internal)?)?),
        None => None,
    };
    let settings = SettingsChange {
        layout,
        silence_deadline_s: body.silence_deadline_s,
        quarantine_after: body.quarantine_after,
        enrollment_approval: body.enrollment_approval,
        default_plan: match body.default_plan {
            Some(Some(plan)) => Some(Some(serde_json::to_string(&plan_of(plan)?)?)),
            Some(None) => Some(None),
            None => None,
        },
        chip_revision: body.chip_revision,
        min_run_s: body.min_run_s,
        rotate_keys: body.rotate_keys,
    };
    let row = app.people.store.change_product(&name, settings, &caller.change(), &condition.0).await?;
    match row.done("product", &name)? {
        ProductChange::Done(row) => tagged(&app, *row).await,
        ProductChange::HasDevices { devices } => Err(Problem::Refused(Refused {
            status: StatusCode::CONFLICT,
            kind: "product-has-devices",
            title: "The product has devices",
            detail: format!(
                "expected a product without devices for another layout, found {name} with {}: what is on their flash \
                 would be another one; make a new product for the layout",
                counted_up_to(devices, MAX_COUNTED, "device")
            ),
        })),
        ProductChange::DoNotFit { releases, slot_bytes, strategy } => Err(Problem::Refused(Refused {
            status: StatusCode::CONFLICT,
            kind: "releases-do-not-fit",
            title: "Releases do not fit the layout",
            detail: format!(
                "expected releases for slots of {slot_bytes} bytes that are handed over to by {strategy}, found \
                 {releases}; archive them first, or take another layout",
                releases = releases.join(", ")
            ),
        })),
    }
}

/// A layout that was found good for the chip, as it is stored.
fn layout_change(body: LayoutBody, chip: Chip) -> Result<LayoutChange, Problem> {
    let layout = check_layout(&body, chip)?;
    let slots = app_slots(&layout);
    Ok(LayoutChange {
        strategy: strategy(&layout),
        slot_bytes: slots.iter().map(|slot| i64::from(slot.size_bytes)).min().unwrap_or_default(),
        slots: serde_json::to_string(&slots)?,
        name: body.name,
        csv: body.csv,
    })
}

/// Refuses a layout that is none, that lacks what an updater needs, or that is not for the chip.
fn check_layout(body: &LayoutBody, chip: Chip) -> Result<Layout, Problem> {
    check_text("layout name", &body.name, 1, 64)?;
    check_text("layout", &body.csv, 1, MAX_LAYOUT_CHARS)?;
    let of =
        |problem: &dyn std::fmt::Display| Problem::Unsuitable(format!("layout {}: {problem}", body.name));
    let layout = Layout::parse_csv(&body.csv).map_err(|error| of(&error))?;
    Places::find(&layout).map_err(|problem| of(&problem))?;
    check_chip(chip, &layout).map_err(|problem| Problem::Unsuitable(problem.to_string()))?;
    Ok(layout)
}

/// Deletes a product without devices and releases. Its channels, publisher keys, API tokens and webhooks go with it; its
/// artifacts are those of no product then.
#[utoipa::path(
    delete,
    path = "/products/{product}",
    params(("product" = String, Path), IfMatchHeader),
    responses((status = 200, body = Product))
)]
async fn remove(
    State(app): State<Arc<App>>,
    caller: Caller,
    condition: Condition,
    InPath(name): InPath<String>,
) -> Result<Json<Product>, Problem> {
    caller.require_unscoped()?;
    let row = product::find(&app.people, &caller, name.clone()).await?;
    let shown = show_product(row, beside(&app, &name).await?)?;
    match app
        .people
        .store
        .delete_product(&name, &caller.change(), &condition.0)
        .await?
        .done("product", &name)?
    {
        ProductDeletion::Done => Ok(Json(shown)),
        ProductDeletion::InUse { devices, releases } => {
            let devices = counted_up_to(devices, MAX_COUNTED, "device");
            let releases = counted_up_to(releases, MAX_COUNTED, "release");
            Err(Problem::Refused(Refused {
                status: StatusCode::CONFLICT,
                kind: "product-in-use",
                title: "The product is in use",
                detail: format!(
                    "expected a product without devices and releases, found {name} with {devices} and {releases}; its \
                     devices can be deleted, and what was released is kept for good"
                ),
            }))
        }
    }
}

/// A product with its keys and its entity tag.
async fn tagged(app: &App, row: ProductRow) -> Result<Tagged<Product>, Problem> {
    let beside = beside(app, &row.name).await?;
    Ok(Tagged { revision: row.revision, body: show_product(row, beside)? })
}

/// What is told of a product beside its row.
struct Beside {
    keys: Vec<KeyRow>,
    artifact_bytes: u64,
    artifact_quota_bytes: u64,
}

async fn beside(app: &App, product: &str) -> Result<Beside, Problem> {
    Ok(Beside {
        keys: app.people.store.publisher_keys(product).await?,
        artifact_bytes: app.people.store.uploaded_bytes(product).await?,
        artifact_quota_bytes: app.config.artifact_quota_bytes,
    })
}

/// Refuses times that no deadline can have: below a minute nothing is decided in time, and after ten years by nobody.
fn check_seconds(name: &str, seconds: Option<i64>) -> Result<(), Problem> {
    match seconds.filter(|seconds| !(MIN_DEADLINE_S..=MAX_DEADLINE_S).contains(seconds)) {
        None => Ok(()),
        Some(found) => Err(Problem::Invalid(format!(
            "expected {name} of {MIN_DEADLINE_S} to {MAX_DEADLINE_S} seconds, found {found}"
        ))),
    }
}

fn check_min_run(min_run_s: Option<i64>) -> Result<(), Problem> {
    match min_run_s.filter(|seconds| !(0..=MAX_MIN_RUN_S).contains(seconds)) {
        None => Ok(()),
        Some(found) => {
            Err(Problem::Invalid(format!("expected min_run_s of 0 to {MAX_MIN_RUN_S}, found {found}")))
        }
    }
}

fn plan_of(plan: Value) -> Result<rollout::Plan, Problem> {
    serde_json::from_value(plan).map_err(|error| Problem::Unsuitable(format!("default_plan: {error}")))
}

fn check_chip_revision(revision: Option<i64>) -> Result<(), Problem> {
    match revision.filter(|revision| !(0..=i64::from(u16::MAX)).contains(revision)) {
        None => Ok(()),
        Some(found) => Err(Problem::Invalid(format!(
            "expected a chip_revision of 0 to {} (major * 100 + minor, such as 4 for v0.4), found {found}",
            u16::MAX
        ))),
    }
}

/// Refuses a lower chip revision while there are releases that chips of it do not start.
async fn check_releases(app: &App, product: &str, revision: i64) -> Result<(), Problem> {
    let mut unfit = Vec::new();
    for (version, sequence, digest) in app.people.store.images(product, MAX_IMAGES).await? {
        let needed = min_chip_revision(app, digest.parse().map_err(Problem::internal)?).await?;
        if let Some(needed) = needed.filter(|needed| i64::from(*needed) > revision) {
            unfit.push(format!("{version} (number {sequence}, for {needed} and up)"));
        }
    }
    if unfit.is_empty() {
        return Ok(());
    }
    let others = unfit.len().saturating_sub(MAX_NAMED);
    unfit.truncate(MAX_NAMED);
    unfit.extend((others > 0).then(|| format!("and {others} more")));
    Err(Problem::Refused(Refused {
        status: StatusCode::CONFLICT,
        kind: "releases-need-newer-chips",
        title: "Releases are for newer chips",
        detail: format!(
            "expected releases that chips of chip_revision {revision} start, found {}; archive them first, or leave \
             chip_revision higher",
            unfit.join(", ")
        ),
    }))
}

/// The lowest chip revision that the header of an artifact asks for; `None` when it is not there or has no header.
async fn min_chip_revision(app: &App, digest: Digest) -> Result<Option<u16>, Problem> {
    let Some(mut reader) = app.artifacts.read(digest, 0, HEADER_BYTES as u64).await? else { return Ok(None) };
    let mut header = [0; HEADER_BYTES];
    match reader.read_exact(&mut header).await {
        Ok(_) => Ok(ImageHeader::parse(&header).ok().map(|header| header.min_chip_rev_full)),
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(app.artifacts.body_error(error).into()),
    }
}

/// How devices with this layout hand over (docs/handover.md).
fn strategy(layout: &Layout) -> &'static str {
    if layout.hands_over_by_otadata() { crate::OTADATA_ROLLBACK } else { "chain-load" }
}

/// The slots that applications go to.
fn app_slots(layout: &Layout) -> Vec<SlotSize> {
    layout.slots().map(|slot| SlotSize { label: slot.label.to_string(), size_bytes: slot.size }).collect()
}

fn show_product(row: ProductRow, beside: Beside) -> Result<Product, Problem> {
    let Beside { keys, artifact_bytes, artifact_quota_bytes } = beside;
    Ok(Product {
        artifact_bytes,
        artifact_quota_bytes,
        name: row.name,
        chip: row.chip,
        layout: LayoutBody { name: row.layout_name, csv: row.layout_csv },
        strategy: row.strategy,
        slots: serde_json::from_str(&row.slots)?,
        publisher_keys: keys
            .into_iter()
            .filter(|key| key.revoked_at_ms.is_none())
            .map(show_key)
            .collect::<Result<_, _>>()?,
        silence_deadline_s: row.silence_deadline_s,
        quarantine_after: row.quarantine_after,
        enrollment_approval: row.enrollment_approval != 0,
        min_run_s: row.min_run_s,
        rotate_keys: row.rotate_keys != 0,
        default_plan: row.default_plan.map(|plan| serde_json::from_str(&plan)).transpose()?,
        chip_revision: row.chip_revision,
        created_at: clock::rfc3339(row.created_at_ms),
        revision: row.revision,
    })
}
