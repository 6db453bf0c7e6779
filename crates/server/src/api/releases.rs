//! `/api/v1/products/{name}/releases`.

use std::sync::Arc;

use api::page::Page;
use api::release::{PublishBody, Release, StartRollout};
use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use utoipa_axum::routes;

use super::auth::Caller;
use super::etag::Condition;
use super::page::PageParams;
use super::request::{Body, InPath, Params, check_text};
use super::routes::{IfMatchHeader, Routes};
use super::{channels, product};
use crate::app::{App, People};
use crate::clock;
use crate::problem::{Problem, Refused};
use crate::publish::{self, Publication, Published};
use crate::store::{ArchiveRefusal, ReleaseRow};

/// The longest notes.
const MAX_NOTES_CHARS: usize = 64 * 1024;

/// Devices that are pinned to a release are named so far.
const MAX_PINNED: i64 = 10;

pub(super) fn routes() -> Routes {
    Routes::of("releases")
        .viewer(routes!(list))
        .viewer(routes!(show))
        .viewer(routes!(manifest))
        .publisher(routes!(publish))
        .operator(routes!(archive))
        .operator(routes!(unarchive))
}

/// Checks a signed manifest and its artifact, and publishes the release. Read `warnings` of the answer. The same manifest
/// again, or the same image with nothing but another number, is answered with the release that it has (200), and nothing
/// changes.
#[utoipa::path(post, path = "/products/{product}/releases", params(("product" = String, Path)), request_body = PublishBody, responses((status = 201, body = Release), (status = 200, body = Release)))]
async fn publish(
    State(app): State<Arc<App>>,
    caller: Caller,
    InPath(name): InPath<String>,
    Body(body): Body<PublishBody>,
) -> Result<(StatusCode, Json<Release>), Problem> {
    let product = product::find(&app.people, &caller, name).await?;
    check_text("notes", &body.notes, 0, MAX_NOTES_CHARS)?;
    let channel = body.channel.unwrap_or_else(|| "stable".to_owned());
    channels::require(&app.people, &product.name, &channel).await?;
    let elf_digest = match body.elf_digest {
        Some(digest) => {
            Some(digest.parse().map_err(|error| Problem::Invalid(format!("elf_digest: {error}")))?)
        }
        None => None,
    };
    let publication = Publication {
        manifest_base64: body.manifest,
        notes: body.notes,
        channel,
        requires: body.requires,
        elf_digest,
        without_descriptor: body.without_descriptor,
        confirms_itself: body.confirms_itself,
        same_image: body.same_image,
        untrusted_key: body.untrusted_key,
        starts_rollout: body.rollout == StartRollout::Default,
    };
    let (status, release) = match publish::publish(&app, &product, publication, &caller.change()).await? {
        Published::New(release) => (StatusCode::CREATED, release),
        Published::Before(release) => (StatusCode::OK, release),
    };
    Ok((status, Json(show_release(release)?)))
}

/// Lists releases, newest first.
#[utoipa::path(get, path = "/products/{product}/releases", params(("product" = String, Path), PageParams), responses((status = 200, body = Page<Release>)))]
async fn list(
    State(people): State<People>,
    caller: Caller,
    InPath(name): InPath<String>,
    Params(params): Params<PageParams>,
) -> Result<Json<Page<Release>>, Problem> {
    let product = product::find(&people, &caller, name).await?;
    let up_to = match params.after() {
        "" => i64::MAX,
        cursor => {
            let last: i64 = cursor.parse().map_err(|_| Problem::cursor(cursor))?;
            last.saturating_sub(1)
        }
    };
    let rows = people.store.releases(&product.name, up_to, params.rows()?).await?;
    params.page(rows, |row| row.sequence.to_string(), show_release).map(Json)
}

/// Shows a release.
#[utoipa::path(get, path = "/products/{product}/releases/{sequence}", params(("product" = String, Path), ("sequence" = i64, Path)), responses((status = 200, body = Release)))]
async fn show(
    State(people): State<People>,
    caller: Caller,
    InPath((name, number)): InPath<(String, String)>,
) -> Result<Json<Release>, Problem> {
    with_pins(&people, show_release(find(&people, &caller, name, &number).await?)?).await.map(Json)
}

/// The signed manifest as it is: COSE_Sign1 (RFC 9052 section 2).
#[utoipa::path(get, path = "/products/{product}/releases/{sequence}/manifest", params(("product" = String, Path), ("sequence" = i64, Path)), responses((status = 200, body = Vec<u8>, content_type = "application/cose")))]
async fn manifest(
    State(people): State<People>,
    caller: Caller,
    InPath((name, number)): InPath<(String, String)>,
) -> Result<Response, Problem> {
    let release = find(&people, &caller, name, &number).await?;
    let manifest = BASE64_STANDARD.decode(release.manifest_base64).map_err(Problem::internal)?;
    Ok(([(header::CONTENT_TYPE, "application/cose; cose-type=\"cose-sign1\"")], manifest).into_response())
}

/// Archives a release: it is offered to nobody, and not its channel's newest any more. Devices keep it. Refused while a rollout
/// of it is not finished, or another release that is not archived may return to it or requires it. `pinned` names devices that
/// are pinned to it: they are offered nothing from then on. `If-Match` is about the product.
#[utoipa::path(post, path = "/products/{product}/releases/{sequence}/archive", params(("product" = String, Path), ("sequence" = i64, Path), IfMatchHeader), responses((status = 200, body = Release)))]
async fn archive(
    State(people): State<People>,
    caller: Caller,
    condition: Condition,
    InPath((name, number)): InPath<(String, String)>,
) -> Result<Json<Release>, Problem> {
    let release = find(&people, &caller, name, &number).await?;
    let archived = people.store.archive_release(&release, &caller.change(), &condition.0).await?;
    with_pins(&people, show_release(archived.done("product", &release.product)??)?).await.map(Json)
}

/// Takes a release out of the archive: what brought it to devices before does so again. Refused while a release that it
/// requires or may return to is archived. `If-Match` is about the product.
#[utoipa::path(post, path = "/products/{product}/releases/{sequence}/unarchive", params(("product" = String, Path), ("sequence" = i64, Path), IfMatchHeader), responses((status = 200, body = Release)))]
async fn unarchive(
    State(people): State<People>,
    caller: Caller,
    condition: Condition,
    InPath((name, number)): InPath<(String, String)>,
) -> Result<Json<Release>, Problem> {
    let release = find(&people, &caller, name, &number).await?;
    let taken_out = people.store.unarchive_release(&release, &caller.change(), &condition.0).await?;
    show_release(taken_out.done("product", &release.product)??).map(Json)
}

impl From<ArchiveRefusal> for Problem {
    fn from(refusal: ArchiveRefusal) -> Self {
        let (kind, title) = match refusal {
            ArchiveRefusal::Rollout { .. } => ("rollout-unfinished", "The release has a rollout"),
            ArchiveRefusal::RevertTarget { .. } | ArchiveRefusal::Required { .. } => {
                ("release-needed", "Another release needs it")
            }
            ArchiveRefusal::NeedsArchived { .. } => ("release-archived", "The release is archived"),
            ArchiveRefusal::Layout { .. } => ("releases-do-not-fit", "Releases do not fit"),
        };
        Self::Refused(Refused { status: StatusCode::CONFLICT, kind, title, detail: refusal.to_string() })
    }
}

/// A release with the devices that are pinned to it.
async fn with_pins(people: &People, release: Release) -> Result<Release, Problem> {
    let pinned = people.store.pinned_to(&release.product, release.sequence, MAX_PINNED).await?;
    Ok(Release { pinned, ..release })
}

async fn find(people: &People, caller: &Caller, name: String, number: &str) -> Result<ReleaseRow, Problem> {
    let product = product::find(people, caller, name).await?;
    people
        .store
        .release(&product.name, sequence(number)?)
        .await?
        .ok_or_else(|| Problem::NotFound { kind: "release", name: format!("{} {number}", product.name) })
}

fn sequence(text: &str) -> Result<i64, Problem> {
    text.parse().map_err(|_| Problem::Invalid(format!("expected a sequence number, found {text:?}")))
}

fn show_release(row: ReleaseRow) -> Result<Release, Problem> {
    Ok(Release {
        product: row.product,
        sequence: row.sequence,
        version: row.version,
        digest: row.digest,
        size_bytes: row.size_bytes,
        chip: row.chip,
        app: row.app.map(|app| serde_json::from_str(&app)).transpose()?,
        channel: row.channel,
        min_slot_bytes: row.min_slot_bytes,
        revert_to: serde_json::from_str(&row.revert_to)?,
        requires: row.requires,
        elf_digest: row.elf_digest,
        warnings: serde_json::from_str(&row.warnings)?,
        notes: row.notes,
        created_at: clock::rfc3339(row.created_at_ms),
        archived_at: row.archived_at_ms.map(clock::rfc3339),
        pinned: Vec::new(),
    })
}
