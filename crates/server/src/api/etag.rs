//! Entity tags and `If-Match` (RFC 9110 sections 8.8.3 and 13.1.1).

use axum::Json;
use axum::extract::FromRequestParts;
use axum::http::header;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::problem::Problem;
use crate::store::{Changed, IfMatch, Unchanged, etag};

/// The condition of a change. Without the header there is none.
pub(super) struct Condition(pub(super) IfMatch);

impl<S: Send + Sync> FromRequestParts<S> for Condition {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let values = parts.headers.get_all(header::IF_MATCH);
        let tags: Vec<_> = values.iter().map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
        Ok(Self(IfMatch((!tags.is_empty()).then(|| tags.join(",")))))
    }
}

/// A JSON answer with the entity tag of its revision.
pub(super) struct Tagged<T> {
    pub(super) revision: i64,
    pub(super) body: T,
}

impl<T: Serialize> IntoResponse for Tagged<T> {
    fn into_response(self) -> Response {
        ([(header::ETAG, etag(self.revision))], Json(self.body)).into_response()
    }
}

impl<T> Changed<T> {
    /// What came of a change, or 404 or 412.
    pub(super) fn done(self, kind: &'static str, name: &str) -> Result<T, Problem> {
        match self {
            Self::Done(done) => Ok(done),
            Self::Not(Unchanged::NotFound) => Err(Problem::NotFound { kind, name: name.to_owned() }),
            Self::Not(Unchanged::Stale { revision }) => {
                Err(Problem::PreconditionFailed { kind, name: name.to_owned(), found: etag(revision) })
            }
        }
    }
}
