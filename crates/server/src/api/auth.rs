//! Who makes a request of the admin API, and what that person may do.

use std::sync::Arc;
use std::time::Duration;

use api::access::Role;
use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::Response;

use crate::app::App;
use crate::clock;
use crate::gate::retry_after_s;
use crate::guesses::TooMany;
use crate::problem::Problem;
use crate::secret;
use crate::store::{Change, Once};

/// Who makes a request: the bearer of an API token that is good now, or of a session of one.
///
/// A handler that takes one as an argument asks it about the product that a request is about: [`Caller::sees`],
/// [`Caller::scope`], [`Caller::require_unscoped`]. Its role was judged before the handler is called (`routes.rs`).
#[derive(Clone, Debug)]
pub(super) struct Caller {
    /// Of the token.
    pub(super) id: String,
    pub(super) name: String,
    pub(super) role: Role,
    /// The one product that the token is for.
    pub(super) product: Option<String>,
    pub(super) expires_at_ms: Option<i64>,
    /// The hash of the session's secret that it came with; `None` for the token itself.
    pub(super) session: Option<String>,
    /// The request may come again.
    pub(super) once: Option<Once>,
    /// When its request came.
    now_ms: i64,
}

impl Caller {
    /// Whether something of this product is there for the caller. What is not must look like what does not exist: 404.
    pub(super) fn sees(&self, product: &str) -> bool {
        self.product.as_deref().is_none_or(|own| own == product)
    }

    /// The product that the caller is bound to, empty for none: as queries take it.
    pub(super) fn scope(&self) -> &str {
        self.product.as_deref().unwrap_or_default()
    }

    /// For what belongs to no product, such as tokens.
    pub(super) fn require_unscoped(&self) -> Result<(), Problem> {
        match &self.product {
            None => Ok(()),
            Some(product) => Err(Problem::Scoped { product: product.clone() }),
        }
    }

    /// A change by the caller, now.
    pub(super) fn change(&self) -> Change {
        Change::new(&self.id, &self.name, self.now_ms).once(self.once.clone())
    }

    /// Refuses a caller whose role is not enough.
    pub(super) fn require(&self, needed: Role) -> Result<(), Problem> {
        if self.role.is_enough(needed) {
            Ok(())
        } else {
            Err(Problem::Forbidden { needed, found: self.role })
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        parts.extensions.get::<Self>().cloned().ok_or(Problem::Unauthorized)
    }
}

/// Lets a request pass that has an API token which is good now, or the secret of a session of one (RFC 6750 section 2.1).
pub(super) async fn authenticate(
    State(app): State<Arc<App>>,
    mut request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let token = bearer(request.headers()).ok_or(Problem::Unauthorized)?;
    // Looked up by its hash: how long that takes tells nothing about a token.
    let hash = secret::hash(token);
    let Some(found) = app.people.store.bearer(&hash).await? else {
        return Err(match app.guesses.admin.wrong(&app.metrics).await {
            Ok(()) => Problem::TokenUnknown,
            Err(TooMany) => {
                let retry_after_s = retry_after_s(&app.config.limits, Duration::ZERO);
                Problem::TooManyGuesses { retry_after_s }
            }
        });
    };
    let row = found.token;
    if let Some(at_ms) = row.revoked_at_ms {
        return Err(Problem::TokenRevoked { at: clock::rfc3339(at_ms) });
    }
    let now_ms = app.config.clock.now_ms();
    if let Some(at_ms) = row.expires_at_ms.filter(|at_ms| *at_ms <= now_ms) {
        return Err(Problem::TokenExpired { at: clock::rfc3339(at_ms) });
    }
    if let Some(at_ms) = found.session_expires_at_ms.filter(|at_ms| *at_ms <= now_ms) {
        return Err(Problem::SessionExpired { at: clock::rfc3339(at_ms) });
    }
    let role = row.role.parse().map_err(Problem::internal)?;
    request.extensions_mut().insert(Caller {
        id: row.id,
        name: row.name,
        role,
        product: row.product,
        expires_at_ms: row.expires_at_ms,
        session: found.session_expires_at_ms.map(|_| hash),
        once: None,
        now_ms,
    });
    Ok(next.run(request).await)
}

/// The API token of a request, or the secret of a session.
pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    Some(token.trim()).filter(|token| scheme.eq_ignore_ascii_case("bearer") && !token.is_empty())
}
