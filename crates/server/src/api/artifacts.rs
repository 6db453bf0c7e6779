//! `/api/v1/artifacts`: uploads, and what becomes of them.

use std::sync::Arc;
use std::time::Duration;

use api::artifact::{Artifact, ListParams, UploadParams, Uploaded};
use api::page::Page;
use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use http_body_util::BodyExt as _;
use manifest::Digest;
use tokio::time::timeout;
use utoipa_axum::routes;

use super::auth::Caller;
use super::page::PageParams;
use super::product;
use super::request::{InPath, Params};
use super::routes::Routes;
use crate::MAX_ARTIFACT_BYTES;
use crate::app::{App, People};
use crate::artifact_store::{Upload, UploadError};
use crate::clock;
use crate::problem::{Problem, Refused};
use crate::store::{ArtifactDeletion, ArtifactFilter, ArtifactRow, Change, Noted, YOUNG_MS};

pub(super) fn routes() -> Routes {
    Routes::of("artifacts").viewer(routes!(list)).publisher(routes!(upload)).admin(routes!(remove))
}

/// Files and rows of the store are removed in this time, or the deletion is begun again.
const REMOVE_TIMEOUT: Duration = Duration::from_secs(60);

/// Lists artifacts by digest.
#[utoipa::path(
    get,
    path = "/artifacts",
    params(ListParams, PageParams),
    responses((status = 200, body = Page<Artifact>))
)]
async fn list(
    State(people): State<People>,
    caller: Caller,
    Params(params): Params<ListParams>,
    Params(page): Params<PageParams>,
) -> Result<Json<Page<Artifact>>, Problem> {
    product::require(&people, &caller, &params.product).await?;
    let filter =
        ArtifactFilter { product: params.product, scope: caller.scope().to_owned(), unused: params.unused };
    let rows = people.store.artifacts(&filter, page.after(), page.rows()?).await?;
    page.page(rows, |row| row.digest.clone(), |row| Ok(show(row))).map(Json)
}

/// Deletes an artifact that no release has, and that was uploaded more than a day ago.
#[utoipa::path(
    delete,
    path = "/artifacts/{sha256}",
    params(("sha256" = String, Path, pattern = "^[0-9a-f]{64}$")),
    responses((status = 200, body = Artifact))
)]
async fn remove(
    State(app): State<Arc<App>>,
    caller: Caller,
    InPath(digest): InPath<String>,
) -> Result<Json<Artifact>, Problem> {
    let digest = parse(&digest)?;
    let not_found = || Problem::NotFound { kind: "artifact", name: digest.to_string() };
    let row = app.people.store.artifact(digest).await?.filter(|row| caller.sees(&row.product));
    let row = row.ok_or_else(not_found)?;
    let refused = |kind, title, detail| {
        Err(Problem::Refused(Refused { status: StatusCode::CONFLICT, kind, title, detail }))
    };
    match app.people.store.begin_deleting(digest, &caller.change()).await? {
        ArtifactDeletion::Begun => {}
        ArtifactDeletion::NotFound => return Err(not_found()),
        ArtifactDeletion::BeingDeleted => return Err(being_deleted(digest)),
        ArtifactDeletion::Used { product, sequence } => {
            let detail = format!("artifact {digest} is that of release {sequence} of product {product}");
            return refused("artifact-used", "A release has the artifact", detail);
        }
        ArtifactDeletion::Young { until_ms } => {
            let until = clock::rfc3339(until_ms);
            let detail = format!(
                "artifact {digest} was uploaded less than a day ago, and may be about to be published; delete it after \
                 {until}"
            );
            return refused("artifact-young", "The artifact was uploaded lately", detail);
        }
    }
    // Also when the client does not wait for the answer.
    let removing = tokio::spawn(async move {
        let removed = timeout(REMOVE_TIMEOUT, app.artifacts.remove(digest)).await;
        removed.map_err(|_| being_deleted(digest))??;
        app.people.store.finish_deleting(digest).await?;
        Ok::<_, Problem>(())
    });
    removing.await.map_err(Problem::internal)??;
    Ok(Json(show(row)))
}

fn show(row: ArtifactRow) -> Artifact {
    Artifact {
        digest: row.digest,
        product: Some(row.product).filter(|product| !product.is_empty()),
        size_bytes: row.size_bytes,
        uploaded_at: clock::rfc3339(row.uploaded_at_ms),
        used: row.is_used != 0,
        deletable_at: (row.is_used == 0).then(|| clock::rfc3339(row.uploaded_at_ms.saturating_add(YOUNG_MS))),
    }
}

fn parse(digest: &str) -> Result<Digest, Problem> {
    digest.parse().map_err(|error| Problem::Invalid(format!("{error}")))
}

fn being_deleted(digest: Digest) -> Problem {
    Problem::Refused(Refused {
        status: StatusCode::SERVICE_UNAVAILABLE,
        kind: "artifact-deleting",
        title: "The artifact is being deleted",
        detail: format!("artifact {digest} is being deleted just now; try again in a few seconds"),
    })
}

/// Takes an artifact under its own digest: 201, or 200 when it was there. One that is damaged is mended so.
#[utoipa::path(
    put,
    path = "/artifacts/{sha256}",
    params(("sha256" = String, Path, pattern = "^[0-9a-f]{64}$"), UploadParams),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses((status = 200, body = Uploaded), (status = 201, body = Uploaded))
)]
async fn upload(
    State(app): State<Arc<App>>,
    caller: Caller,
    InPath(digest): InPath<String>,
    Params(params): Params<UploadParams>,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<Uploaded>), Problem> {
    let product = match params.product {
        product if product.is_empty() => caller.scope().to_owned(),
        product => product::find(&app.people, &caller, product).await?.name,
    };
    let digest = parse(&digest)?;
    if app.artifacts.is_whole(digest).await? == Some(true)
        && let Some(size_bytes) = app.artifacts.size_bytes(digest).await?
    {
        let change = caller.change();
        // The server may have been stopped before it was noted.
        if !app.people.store.touch_artifact(digest, change.at_ms).await? {
            note(&app.people, digest, &product, size_bytes, &change).await?;
        }
        // Nobody deletes what is noted by now. Before, somebody may have.
        if app.artifacts.size_bytes(digest).await?.is_none() {
            return Err(being_deleted(digest));
        }
        app.damaged.note(digest, false, &app.metrics);
        return Ok((StatusCode::OK, Json(Uploaded { digest: digest.to_string(), size_bytes })));
    }
    let announced_bytes =
        headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    if announced_bytes.is_some_and(|bytes: u64| bytes > MAX_ARTIFACT_BYTES) {
        return Err(UploadError::TooLarge.into());
    }
    let reserved = app.uploads.reserve(&product, announced_bytes.unwrap_or(MAX_ARTIFACT_BYTES));
    reserved.check(app.people.store.uploaded_bytes(&product).await?, app.config.artifact_quota_bytes)?;
    let upload = app.artifacts.upload(digest).await?;
    let (upload, size_bytes) = receive(upload, body).await?;
    // All of it is here: it is stored and noted also when the client does not wait for the answer.
    let change = caller.change();
    let keeping = tokio::spawn(async move {
        keep(&app, digest, upload).await?;
        note(&app.people, digest, &product, size_bytes, &change).await?;
        // Nobody deletes what is noted by now. Before, somebody may have.
        if app.artifacts.size_bytes(digest).await?.is_none() {
            return Err(being_deleted(digest));
        }
        drop(reserved);
        Ok::<_, Problem>(())
    });
    keeping.await.map_err(Problem::internal)??;
    Ok((StatusCode::CREATED, Json(Uploaded { digest: digest.to_string(), size_bytes })))
}

async fn note(
    people: &People,
    digest: Digest,
    product: &str,
    size_bytes: u64,
    change: &Change,
) -> Result<(), Problem> {
    match people.store.add_artifact(digest, product, size_bytes, change).await? {
        Noted::Done => Ok(()),
        Noted::BeingDeleted => Err(being_deleted(digest)),
    }
}

async fn receive(mut upload: Upload, mut body: Body) -> Result<(Upload, u64), Problem> {
    let mut size_bytes = 0;
    while let Some(frame) = body.frame().await {
        // Trailers are of no use here.
        if let Ok(data) = frame.map_err(|error| Problem::BrokenBody(error.to_string()))?.into_data() {
            size_bytes += data.len() as u64;
            upload.write(&data).await?;
        }
    }
    Ok((upload, size_bytes))
}

async fn keep(app: &App, digest: Digest, upload: Upload) -> Result<(), Problem> {
    upload.finish().await?;
    // What was damaged before may have been sent to somebody.
    app.chunks.forget();
    if app.artifacts.is_whole(digest).await? != Some(true) {
        return Err(Problem::NotKept { digest });
    }
    app.damaged.note(digest, false, &app.metrics);
    Ok(())
}

impl From<UploadError> for Problem {
    fn from(error: UploadError) -> Self {
        let detail = error.to_string();
        let (status, kind, title) = match error {
            UploadError::Store(error) => return error.into(),
            UploadError::Digest { .. } => {
                (StatusCode::UNPROCESSABLE_ENTITY, "digest-mismatch", "Another digest")
            }
            UploadError::TooLarge => {
                (StatusCode::PAYLOAD_TOO_LARGE, "artifact-too-large", "Artifact too large")
            }
        };
        Self::Refused(Refused { status, kind, title, detail })
    }
}
