//! `PUT /api/v1/artifacts/{sha256}`: uploads.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use http_body_util::BodyExt as _;
use manifest::Digest;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::routes;

use super::request::InPath;
use super::routes::Routes;
use crate::MAX_ARTIFACT_BYTES;
use crate::app::App;
use crate::artifact_store::{UploadError, note};
use crate::problem::Problem;

pub(super) fn routes() -> Routes {
    Routes::of("artifacts").publisher(routes!(upload))
}

#[derive(Serialize, ToSchema)]
struct Uploaded {
    digest: String,
    size_bytes: u64,
}

/// Takes an artifact under its own digest: 201, or 200 when it was there. One that is damaged is mended so.
#[utoipa::path(
    put,
    path = "/artifacts/{sha256}",
    params(("sha256" = String, Path, pattern = "^[0-9a-f]{64}$")),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses((status = 200, body = Uploaded), (status = 201, body = Uploaded))
)]
async fn upload(
    State(app): State<Arc<App>>,
    InPath(digest): InPath<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<Uploaded>), Problem> {
    let digest: Digest = digest.parse().map_err(|error| Problem::Invalid(format!("{error}")))?;
    if app.artifacts.is_whole(digest).await? == Some(true)
        && let Some(size_bytes) = app.artifacts.size_bytes(digest).await?
    {
        note(&app, digest, false);
        return Ok((StatusCode::OK, Json(Uploaded { digest: digest.to_string(), size_bytes })));
    }
    let announced_bytes =
        headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    if announced_bytes.is_some_and(|bytes: u64| bytes > MAX_ARTIFACT_BYTES) {
        return Err(UploadError::TooLarge.into());
    }
    let size_bytes = receive(&app, digest, body).await?;
    Ok((StatusCode::CREATED, Json(Uploaded { digest: digest.to_string(), size_bytes })))
}

async fn receive(app: &App, digest: Digest, mut body: Body) -> Result<u64, Problem> {
    let mut upload = app.artifacts.upload(digest).await?;
    let mut size_bytes = 0;
    while let Some(frame) = body.frame().await {
        // Trailers are of no use here.
        if let Ok(data) = frame.map_err(|error| Problem::BrokenBody(error.to_string()))?.into_data() {
            size_bytes += data.len() as u64;
            upload.write(&data).await?;
        }
    }
    upload.finish().await?;
    // What was damaged before may have been sent to somebody.
    app.chunks.forget();
    if app.artifacts.is_whole(digest).await? != Some(true) {
        return Err(Problem::NotKept { digest });
    }
    note(app, digest, false);
    Ok(size_bytes)
}
