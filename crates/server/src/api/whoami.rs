//! `GET /api/v1/whoami`: whose token it is.

use axum::Json;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::routes;

use super::auth::Caller;
use super::routes::Routes;
use crate::clock;
use crate::role::Role;

pub(super) fn routes() -> Routes {
    Routes::of("whoami").viewer(routes!(show))
}

#[derive(Serialize, ToSchema)]
struct Whoami {
    /// Id of the token.
    id: String,
    name: String,
    role: Role,
    /// The one product that the token is for.
    product: Option<String>,
    #[schema(format = DateTime)]
    expires_at: Option<String>,
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
