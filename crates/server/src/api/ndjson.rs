//! Exports: a line of JSON for each row, sent while it is read.

use axum::body::{Body, Bytes};
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use futures_util::TryStream;
use serde::Serialize;

/// An answer that browsers save under this name.
pub(super) fn attachment<S>(name: &str, lines: S) -> Response
where
    S: TryStream<Ok = Bytes, Error = std::io::Error> + Send + 'static,
{
    let headers = [
        (header::CONTENT_TYPE, "application/x-ndjson".to_owned()),
        (header::CONTENT_DISPOSITION, format!("attachment; filename=\"{name}\"")),
    ];
    (headers, Body::from_stream(lines)).into_response()
}

/// Rows as lines, each ended by a line feed.
pub(super) fn lines<R, L: Serialize>(
    rows: impl IntoIterator<Item = R>,
    line: impl Fn(R) -> Result<L, serde_json::Error>,
) -> Result<Bytes, serde_json::Error> {
    let mut lines = Vec::new();
    for row in rows {
        serde_json::to_writer(&mut lines, &line(row)?)?;
        lines.push(b'\n');
    }
    Ok(lines.into())
}
