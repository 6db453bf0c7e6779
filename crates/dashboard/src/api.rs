//! The client of the admin API, in the process.

use api::page::Page;
use api::problem::Problem;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, Method, Request, StatusCode, header};
use axum::response::Response;
use http_body_util::{BodyExt as _, Limited};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tower::ServiceExt as _;

/// The largest answer that a page is made of, in bytes: 1,000 devices with their slots take 1 MB.
const MAX_ANSWER_BYTES: usize = 16 * 1024 * 1024;

/// The API with one person's token, or the secret of a session.
pub(crate) struct Api {
    router: Router,
    authorization: HeaderValue,
}

/// Why a request of the API brought nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failed {
    /// The API said no, and why.
    #[error("{}", .0.detail)]
    Refused(Problem),
    /// The API said what this dashboard does not understand.
    #[error("{path}: {found}")]
    Unexpected { path: String, found: String },
}

impl Failed {
    /// The status that a page about it has.
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::Refused(problem) => {
                StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
            }
            Self::Unexpected { .. } => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// As if the API had refused it.
    pub(crate) fn refused(status: StatusCode, title: &str, detail: impl Into<String>) -> Self {
        let (title, detail) = (title.to_owned(), detail.into());
        Self::Refused(Problem { r#type: "about:blank".to_owned(), title, status: status.as_u16(), detail })
    }

    /// What a form said cannot be sent to the API.
    pub(crate) fn invalid(detail: impl Into<String>) -> Self {
        Self::refused(StatusCode::BAD_REQUEST, "Invalid value", detail)
    }
}

impl Api {
    /// `None` when the token has characters that no token has.
    pub(crate) fn new(router: Router, token: &str) -> Option<Self> {
        let mut authorization = HeaderValue::try_from(format!("Bearer {token}")).ok()?;
        authorization.set_sensitive(true);
        Some(Self { router, authorization })
    }

    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failed> {
        let response = self.open(path).await?;
        read(path, response).await
    }

    /// All items of a list, in pages as large as the API gives. For lists that a person reads as a whole.
    pub(crate) async fn all<T: DeserializeOwned>(&self, path: &str, query: &Query) -> Result<Vec<T>, Failed> {
        let mut items = Vec::new();
        let mut cursor = None;
        loop {
            let query = query.clone().and("limit", "1000").maybe("cursor", cursor.as_deref());
            let mut page: Page<T> = self.get(&query.on(path)).await?;
            items.append(&mut page.items);
            cursor = page.next_cursor;
            if cursor.is_none() {
                return Ok(items);
            }
        }
    }

    pub(crate) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        revision: Option<&str>,
        body: &impl Serialize,
    ) -> Result<T, Failed> {
        read(path, self.send(Method::POST, path, revision, Some(json(path, body)?)).await?).await
    }

    pub(crate) async fn patch<T: DeserializeOwned>(
        &self,
        path: &str,
        revision: Option<&str>,
        body: &impl Serialize,
    ) -> Result<T, Failed> {
        read(path, self.send(Method::PATCH, path, revision, Some(json(path, body)?)).await?).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Result<(), Failed> {
        self.send(Method::DELETE, path, None, None).await.map(drop)
    }

    /// The answer itself, for what is passed on as it comes.
    pub(crate) async fn open(&self, path: &str) -> Result<Response, Failed> {
        self.send(Method::GET, path, None, None).await
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        revision: Option<&str>,
        body: Option<Vec<u8>>,
    ) -> Result<Response, Failed> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("/api/v1{path}"))
            .header(header::AUTHORIZATION, self.authorization.clone());
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        if let Some(revision) = revision {
            request = request.header(header::IF_MATCH, format!("\"r{revision}\""));
        }
        let body = body.map_or_else(Body::empty, Body::from);
        let request = request.body(body).map_err(|error| unexpected(path, error))?;
        let response = match self.router.clone().oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        };
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        match read(path, response).await {
            Ok(problem) => Err(Failed::Refused(problem)),
            Err(_) => Err(unexpected(path, format!("{status} without a problem detail"))),
        }
    }
}

async fn read<T: DeserializeOwned>(path: &str, response: Response) -> Result<T, Failed> {
    let body = Limited::new(response.into_body(), MAX_ANSWER_BYTES);
    let bytes: Bytes = body.collect().await.map_err(|error| unexpected(path, error))?.to_bytes();
    // 204 has no body, which reads as nothing.
    let bytes = if bytes.is_empty() { Bytes::from_static(b"null") } else { bytes };
    serde_json::from_slice(&bytes).map_err(|error| unexpected(path, error))
}

fn json(path: &str, body: &impl Serialize) -> Result<Vec<u8>, Failed> {
    serde_json::to_vec(body).map_err(|error| unexpected(path, error))
}

fn unexpected(path: &str, found: impl ToString) -> Failed {
    Failed::Unexpected { path: path.to_owned(), found: found.to_string() }
}

/// A query that is put together from what is there.
#[derive(Clone, Debug, Default)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn and(mut self, name: &str, value: &str) -> Self {
        self.0.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Leaves out what is not given or empty.
    pub(crate) fn maybe(self, name: &str, value: Option<&str>) -> Self {
        match value {
            Some(value) if !value.is_empty() => self.and(name, value),
            Some(_) | None => self,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The path with the query behind it.
    pub(crate) fn on(&self, path: &str) -> String {
        if self.0.is_empty() {
            return path.to_owned();
        }
        let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(&self.0).finish();
        format!("{path}?{query}")
    }
}

/// A name as one segment of a path (RFC 3986 section 3.3).
pub(crate) fn segment(name: &str) -> impl std::fmt::Display + '_ {
    const KEPT: &percent_encoding::AsciiSet =
        &percent_encoding::NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
    percent_encoding::utf8_percent_encode(name, KEPT)
}
