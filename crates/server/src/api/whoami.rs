//! `GET /api/v1/whoami`: whose token it is.

use api::access::Whoami;
use axum::Json;
use utoipa_axum::routes;

use super::auth::Caller;
use super::routes::Routes;
use crate::clock;

pub(super) fn routes() -> Routes {
    Routes::of("whoami").viewer(routes!(show))
}

/// Tells whose token it is, and what it is good for.
#[utoipa::path(get, path = "/whoami", responses((status = 200, body = Whoami)))]
async fn show(caller: Caller) -> Json<Whoami> {
    Json(Whoami {
        id: caller.id,
        name: caller.name,
        role: caller.role,
        product: caller.product,
        expires_at: caller.expires_at_ms.map(clock::rfc3339),
    })
}
