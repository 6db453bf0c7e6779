//! `PUT /api/v1/artifacts/{sha256}`: uploads.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use http_body_util::BodyExt as _;
use manifest::Digest;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::routes;

use super::auth::Caller;
use super::product;
use super::request::{InPath, Params};
use super::routes::Routes;
use crate::MAX_ARTIFACT_BYTES;
use crate::app::App;
use crate::artifact_store::{Upload, UploadError};
use crate::problem::{Problem, Refused};

pub(super) fn routes() -> Routes {
    Routes::of("artifacts").publisher(routes!(upload))
}

#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(default)]
struct UploadParams {
    /// Whose quota it counts towards; that of the token when it is for one product.
    product: String,
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
        product => product::find(&app, &caller, product).await?.name,
    };
    let digest: Digest = digest.parse().map_err(|error| Problem::Invalid(format!("{error}")))?;
    if app.artifacts.is_whole(digest).await? == Some(true)
        && let Some(size_bytes) = app.artifacts.size_bytes(digest).await?
    {
        app.damaged.note(digest, false, &app.metrics);
        // The server may have been stopped before it was noted.
        if !app.people.has_artifact(digest).await? {
            app.people.add_artifact(digest, &product, size_bytes, &caller.change()).await?;
        }
        return Ok((StatusCode::OK, Json(Uploaded { digest: digest.to_string(), size_bytes })));
    }
    let announced_bytes =
        headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    if announced_bytes.is_some_and(|bytes: u64| bytes > MAX_ARTIFACT_BYTES) {
        return Err(UploadError::TooLarge.into());
    }
    let reserved = app.uploads.reserve(&product, announced_bytes.unwrap_or(MAX_ARTIFACT_BYTES));
    reserved.check(app.people.uploaded_bytes(&product).await?, app.config.artifact_quota_bytes)?;
    let upload = app.artifacts.upload(digest).await?;
    let (upload, size_bytes) = receive(upload, body).await?;
    // All of it is here: it is stored and noted also when the client does not wait for the answer.
    let change = caller.change();
    let keeping = tokio::spawn(async move {
        keep(&app, digest, upload).await?;
        app.people.add_artifact(digest, &product, size_bytes, &change).await?;
        drop(reserved);
        Ok::<_, Problem>(())
    });
    keeping.await.map_err(Problem::internal)??;
    Ok((StatusCode::CREATED, Json(Uploaded { digest: digest.to_string(), size_bytes })))
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
