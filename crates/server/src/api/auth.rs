//! Who may use the admin API: whoever has an admin token.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header;
use axum::middleware::Next;
use axum::response::Response;

use crate::app::App;
use crate::problem::Problem;
use crate::secret;

/// Lets a request pass that has an admin token (RFC 6750 section 2.1).
pub(super) async fn require_admin(
    State(app): State<Arc<App>>,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let token = request
        .headers()
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim())
        .ok_or(Problem::Unauthorized)?;
    // Looked up by its hash: how long that takes tells nothing about a token.
    if app.store.is_admin_token(&secret::hash(token)).await? {
        Ok(next.run(request).await)
    } else {
        Err(Problem::Unauthorized)
    }
}
