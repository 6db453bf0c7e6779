//! Bodies and names of requests, with problem details instead of plain text when they cannot be read.

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use serde::de::DeserializeOwned;

use crate::clock;
use crate::problem::Problem;

/// The longest product name and device id; also that of texts in a manifest.
const MAX_NAME_BYTES: usize = 64;

/// A JSON body.
pub(super) struct Body<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let Json(value) = Json::from_request(request, state).await.map_err(|rejection: JsonRejection| {
            // 400 for what is no JSON, 422 for JSON that is not what is asked for, 413 and 415.
            Problem::Json(rejection.body_text(), rejection.status())
        })?;
        Ok(Self(value))
    }
}

/// A body that may be absent; `shape` says what it looks like when it is there.
pub(super) fn optional_body<T: DeserializeOwned + Default>(body: &[u8], shape: &str) -> Result<T, Problem> {
    match body {
        b"" | b"null" => Ok(T::default()),
        json => serde_json::from_slice(json)
            .map_err(|error| Problem::Invalid(format!("expected {shape} or no body, found: {error}"))),
    }
}

/// The variable parts of a path.
pub(super) struct InPath<T>(pub(super) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for InPath<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Path(value) = Path::from_request_parts(parts, state)
            .await
            .map_err(|rejection| Problem::Invalid(rejection.body_text()))?;
        Ok(Self(value))
    }
}

/// Query parameters.
pub(super) struct Params<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Params<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Query(value) = Query::from_request_parts(parts, state).await.map_err(|rejection| {
            let text = rejection.body_text();
            let reason = text.strip_prefix("Failed to deserialize query string: ").unwrap_or(&text);
            Problem::Invalid(format!("the query cannot be read: {reason}"))
        })?;
        Ok(Self(value))
    }
}

/// A time as RFC 3339 writes it, in milliseconds since 1970.
pub(super) fn parse_time(text: &str) -> Result<i64, Problem> {
    clock::parse_rfc3339(text).ok_or_else(|| {
        Problem::Invalid(format!("expected a time such as 2026-11-22T17:00:00Z (RFC 3339), found {text:?}"))
    })
}

/// Checks a text for people: so many characters, and no control characters but line breaks and tabs. One database
/// refuses NUL, and a terminal obeys escape sequences.
pub(super) fn check_text(what: &str, text: &str, min_chars: usize, max_chars: usize) -> Result<(), Problem> {
    let chars = text.chars().count();
    if !(min_chars..=max_chars).contains(&chars) {
        return Err(Problem::Invalid(format!(
            "expected a {what} of {min_chars} to {max_chars} characters, found {chars}"
        )));
    }
    match text.chars().find(|char| char.is_control() && !matches!(char, '\n' | '\r' | '\t')) {
        None => Ok(()),
        Some(found) => {
            Err(Problem::Unsuitable(format!("expected a {what} without control characters, found {found:?}")))
        }
    }
}

/// Checks a product name.
pub(super) fn check_product_name(name: &str) -> Result<(), Problem> {
    check("product name", "a-z 0-9 -", name, |byte| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-'
    })
}

/// Checks the name of a channel.
pub(super) fn check_channel_name(name: &str) -> Result<(), Problem> {
    check("channel name", "a-z 0-9 -", name, |byte| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-'
    })
}

/// Checks a device id. It begins with neither dot nor hyphen, as a path or an argument that would be something else, nor with
/// a colon; and `bulk` is where many are dealt with.
pub(super) fn check_device_id(id: &str) -> Result<(), Problem> {
    check("device id", "A-Z a-z 0-9 . _ : -", id, |byte| {
        byte.is_ascii_alphanumeric() || b"._:-".contains(&byte)
    })?;
    if id == "bulk" {
        return Err(Problem::Unsuitable(
            "expected a device id that is no word of the API, found \"bulk\"".to_owned(),
        ));
    }
    if id.starts_with(['.', '-', ':']) {
        return Err(Problem::Invalid(format!(
            "expected a device id that begins with a letter, a digit or _, found {id:?}"
        )));
    }
    Ok(())
}

fn check(what: &str, allowed: &str, text: &str, is_allowed: impl Fn(u8) -> bool) -> Result<(), Problem> {
    if !text.is_empty() && text.len() <= MAX_NAME_BYTES && text.bytes().all(is_allowed) {
        Ok(())
    } else {
        let shown: String = text.chars().take(2 * MAX_NAME_BYTES).collect();
        Err(Problem::Invalid(format!(
            "expected a {what} of 1 to {MAX_NAME_BYTES} characters out of {allowed}, found {shown:?}"
        )))
    }
}
