//! `GET /v1/artifacts/{sha256}`: images, whole or in parts, streamed from where they are kept.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use manifest::Digest;
use prometheus_client::metrics::counter::Counter;
use tokio::io::AsyncRead;
use tokio_util::io::{InspectReader, ReaderStream};

use super::Device;
use super::range::{Selection, select};
use crate::app::App;
use crate::artifact_store::Place;
use crate::refusal::Refusal;

/// Bytes read at once of what is no chunk. More would be memory for every slow download.
const READ_BYTES: usize = 32 * 1024;

/// Sends an artifact of the device's own product. Any other one is not there.
pub(super) async fn get(
    State(app): State<Arc<App>>,
    device: Device,
    Path(digest): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    const MISSING: Refusal = Refusal::NotFound("no such artifact for this product");
    let digest: Digest = digest.parse().map_err(|_| MISSING)?;
    // The release was published with this size; the store of the artifacts is asked for the bytes alone.
    let plan = app.plans.get(&app.store, &device.known.product, device.known.generation).await?;
    let size_bytes = plan.artifact_bytes(digest).ok_or(MISSING)?;
    let etag = format!("\"{digest}\"");
    let (status, first_byte, length_bytes) = match select(&headers, &etag, size_bytes) {
        Selection::Whole => (StatusCode::OK, 0, size_bytes),
        Selection::Part { first_byte, length_bytes } => {
            (StatusCode::PARTIAL_CONTENT, first_byte, length_bytes)
        }
        Selection::Unsatisfiable => return Err(Refusal::Range { size_bytes }),
    };
    let place = Place::of(digest, size_bytes, first_byte, length_bytes);
    let body = match place.and_then(|place| app.chunks.get(&place)) {
        Some(chunk) => whole(chunk, &app),
        None => {
            let reader = app.artifacts.read(digest, first_byte, length_bytes).await?.ok_or(MISSING)?;
            match place {
                Some(place) => {
                    let chunk = app.chunks.read(place, reader).await;
                    whole(chunk.map_err(|error| app.artifacts.body_error(error))?, &app)
                }
                None => Body::from_stream(counted(reader, app.metrics.artifact_bytes.clone())),
            }
        }
    };
    let mut response = (
        status,
        [
            (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
            (header::CONTENT_LENGTH, length_bytes.to_string()),
            (header::ACCEPT_RANGES, "bytes".to_owned()),
            (header::ETAG, etag),
        ],
        body,
    )
        .into_response();
    if status == StatusCode::PARTIAL_CONTENT {
        let last_byte = first_byte + length_bytes - 1;
        let range = format!("bytes {first_byte}-{last_byte}/{size_bytes}");
        response.headers_mut().insert(header::CONTENT_RANGE, range.try_into().map_err(Refusal::internal)?);
    }
    Ok(response)
}

/// A chunk, counted at once.
fn whole(chunk: Bytes, app: &App) -> Body {
    app.metrics.artifact_bytes.inc_by(chunk.len() as u64);
    Body::from(chunk)
}

/// The bytes as they are taken, each part of them counted: what a broken-off download did not take is not.
fn counted<R: AsyncRead>(
    reader: R,
    sent_bytes: Counter,
) -> ReaderStream<InspectReader<R, impl FnMut(&[u8])>> {
    let count = move |part: &[u8]| {
        sent_bytes.inc_by(part.len() as u64);
    };
    ReaderStream::with_capacity(InspectReader::new(reader, count), READ_BYTES)
}
