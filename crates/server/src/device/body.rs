//! Request bodies with a bound on their size. Their time is the listener's.

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, header};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};

use crate::refusal::Refusal;

/// Reads a whole body.
pub(crate) async fn read_body(body: Body, max_bytes: usize) -> Result<Bytes, Refusal> {
    match Limited::new(body, max_bytes).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(Refusal::TooLarge { max_bytes }),
        Err(_) => Err(Refusal::BrokenBody),
    }
}

/// Checks the media type; parameters are ignored (RFC 9110 section 8.3.1).
pub(crate) fn require_media_type(headers: &HeaderMap, expected: &'static str) -> Result<(), Refusal> {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("none");
    let found = value.split(';').next().unwrap_or_default().trim();
    if found.eq_ignore_ascii_case(expected) {
        Ok(())
    } else {
        Err(Refusal::MediaType { expected, found: found.to_owned() })
    }
}
