//! Forms that people send.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts as _, Request};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};

use crate::Dashboard;
use crate::layout;
use crate::session::{CSRF_FIELD, Session};

/// The fields of a form (`application/x-www-form-urlencoded`), in their order.
#[derive(Debug, Default)]
pub(crate) struct Fields(Vec<(String, String)>);

/// A form whose CSRF token is that of the session.
pub(crate) struct Form {
    pub(crate) session: Session,
    pub(crate) fields: Fields,
}

impl Fields {
    pub(crate) fn parse(form: &[u8]) -> Self {
        Self(form_urlencoded::parse(form).into_owned().collect())
    }

    /// The field without white space around it; empty when it is not there.
    pub(crate) fn text(&self, name: &str) -> &str {
        self.0.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value.trim())
    }

    /// The field, or `None` when it is empty.
    pub(crate) fn filled(&self, name: &str) -> Option<&str> {
        Some(self.text(name)).filter(|text| !text.is_empty())
    }

    /// The words of a field, with commas or spaces between them.
    pub(crate) fn words(&self, name: &str) -> Vec<&str> {
        self.text(name).split([',', ' ']).filter(|word| !word.is_empty()).collect()
    }

    /// All values of a field that may be there more than once, as checkboxes are.
    pub(crate) fn each<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

impl FromRequest<Arc<Dashboard>> for Form {
    type Rejection = Response;

    async fn from_request(request: Request, state: &Arc<Dashboard>) -> Result<Self, Response> {
        let (mut parts, body) = request.into_parts();
        let session = Session::from_request_parts(&mut parts, state).await?;
        let request = Request::from_parts(parts, body);
        let body = Bytes::from_request(request, state).await.map_err(|refusal| refusal.into_response())?;
        let fields = Fields::parse(&body);
        if session.is_csrf_token(fields.text(CSRF_FIELD)) {
            return Ok(Self { session, fields });
        }
        Err(layout::message(
            StatusCode::FORBIDDEN,
            "This form is not from this session",
            "Nothing was changed. Go back, load the page again, and repeat what you did.",
        ))
    }
}
