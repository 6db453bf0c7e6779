//! `/api/v1/sessions`: what a browser holds in place of an API token. It may what the token may, until somebody logs out.

use api::access::BegunSession;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use utoipa_axum::routes;

use super::auth::Caller;
use super::routes::Routes;
use crate::app::People;
use crate::clock;
use crate::problem::Problem;
use crate::secret;

/// Life of a session: a working day.
const LIFE_MS: i64 = 12 * 3_600_000;

pub(super) fn routes() -> Routes {
    Routes::of("sessions").viewer(routes!(begin)).viewer(routes!(end))
}

/// Begins a session of the API token, whose secret is shown once. It ends with the token, after 12 hours, or by hand.
#[utoipa::path(post, path = "/sessions", responses((status = 201, body = BegunSession)))]
async fn begin(
    State(people): State<People>,
    caller: Caller,
) -> Result<(StatusCode, Json<BegunSession>), Problem> {
    if caller.session.is_some() {
        return Err(Problem::NoToken);
    }
    let secret = secret::new_token();
    let now_ms = caller.change().at_ms;
    let expires_at_ms = now_ms.saturating_add(LIFE_MS);
    people.store.begin_session(&caller.id, &secret::hash(&secret), now_ms, expires_at_ms).await?;
    Ok((StatusCode::CREATED, Json(BegunSession { secret, expires_at: clock::rfc3339(expires_at_ms) })))
}

/// Ends the session that the request comes with: its next request is refused. The API token stays good.
#[utoipa::path(delete, path = "/sessions/current", responses((status = 204)))]
async fn end(State(people): State<People>, caller: Caller) -> Result<StatusCode, Problem> {
    let session = caller.session.ok_or(Problem::NoSession)?;
    people.store.end_session(&session).await?;
    Ok(StatusCode::NO_CONTENT)
}
