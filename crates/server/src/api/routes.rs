//! The way an endpoint is added, and the OpenAPI document that comes of it.
//!
//! A resource is a module with a function `routes`:
//!
//! ```text
//! pub(super) fn routes() -> Routes {
//!     Routes::of("rollouts").viewer(routes!(list)).viewer(routes!(show)).operator(routes!(pause))
//! }
//!
//! /// Stops offering the release.
//! #[utoipa::path(post, path = "/rollouts/{id}/pause", params(("id" = String, Path)), responses((status = 200, body = Rollout)))]
//! async fn pause(
//!     State(people): State<People>,
//!     caller: Caller,
//!     if_match: Condition,
//!     InPath(id): InPath<String>,
//! ) -> Result<Tagged<Rollout>, Problem> {
//!     let row = people.store.pause_rollout(&id, &caller.change(), &if_match.0).await?;
//!     …
//! }
//! ```
//!
//! and a line in `api::router`. What that gives:
//!
//! - The role is judged before the handler runs and before the body is read. There is no way to add a route without one.
//! - The role, the tag and the problem details of refusals go into the OpenAPI document: `responses` names what succeeds.
//! - `tests/it/roles.rs` fails until the endpoint has a row there, `docs/openapi.json` until it is written again.
//!
//! A handler that reaches a product asks `caller.sees(product)` and answers 404 when it does not; a list passes
//! `caller.scope()` to its query. A change takes `caller.change()` to the store, which writes the audit line in the
//! transaction of the change.

use std::sync::Arc;

use api::access::Role;
use api::problem;
use axum::extract::{Query, Request};
use axum::http::Uri;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::MethodRouter;
use utoipa::openapi::path::{Operation, Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{
    ContentBuilder, InfoBuilder, OpenApi, OpenApiBuilder, PathItem, Paths, Ref, RefOr, ResponseBuilder,
    Schema,
};
use utoipa::{PartialSchema as _, ToSchema as _};
use utoipa_axum::router::OpenApiRouter;

use super::auth::Caller;
use crate::app::App;
use crate::problem::Problem;

/// Name of the security scheme.
const TOKEN: &str = "token";

/// What `routes!` makes of handlers of one path.
type Described = (Vec<(String, RefOr<Schema>)>, Paths, MethodRouter<Arc<App>>);

/// The endpoints of one resource.
pub(super) struct Routes {
    resource: &'static str,
    router: OpenApiRouter<Arc<App>>,
}

impl Routes {
    /// The resource's name is the tag of its endpoints and the first part of their operation ids.
    pub(super) fn of(resource: &'static str) -> Self {
        Self { resource, router: OpenApiRouter::new() }
    }

    pub(super) fn viewer(self, routes: Described) -> Self {
        self.add(Role::Viewer, routes)
    }

    pub(super) fn operator(self, routes: Described) -> Self {
        self.add(Role::Operator, routes)
    }

    pub(super) fn publisher(self, routes: Described) -> Self {
        self.add(Role::Publisher, routes)
    }

    pub(super) fn admin(self, routes: Described) -> Self {
        self.add(Role::Admin, routes)
    }

    pub(super) fn into_router(self) -> OpenApiRouter<Arc<App>> {
        self.router
    }

    fn add(mut self, needed: Role, (schemas, mut paths, router): Described) -> Self {
        for item in paths.paths.values_mut() {
            if let Some(post) = &mut item.post {
                post.parameters.get_or_insert_default().push(idempotency_key());
            }
            for operation in operations(item) {
                describe(operation, self.resource, needed);
            }
        }
        let parameters: Arc<[String]> =
            paths.paths.values_mut().flat_map(operations).flat_map(in_query).collect();
        let guard = middleware::from_fn(move |caller: Caller, request: Request, next: Next| {
            judge(needed, parameters.clone(), caller, request, next)
        });
        self.router = self.router.routes((schemas, paths, router.route_layer(guard)));
        self
    }
}

async fn judge(
    needed: Role,
    parameters: Arc<[String]>,
    caller: Caller,
    request: Request,
    next: Next,
) -> Response {
    match caller.require(needed).and_then(|()| check_query(request.uri(), &parameters)) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

/// Refuses a parameter that the document does not have: with a misspelt filter a list would be of everything.
fn check_query(uri: &Uri, known: &[String]) -> Result<(), Problem> {
    let Ok(Query(given)) = Query::<Vec<(String, String)>>::try_from_uri(uri) else {
        return Err(Problem::Invalid("expected a query of names and values, found another".to_owned()));
    };
    match given.iter().find(|(name, _)| !known.contains(name)) {
        None => Ok(()),
        Some((found, _)) if known.is_empty() => {
            Err(Problem::Invalid(format!("expected a query without parameters, found {found:?}")))
        }
        Some((found, _)) => {
            Err(Problem::Invalid(format!("expected parameters of {}, found {found:?}", known.join(", "))))
        }
    }
}

/// The names of an operation's query parameters.
fn in_query(operation: &mut Operation) -> impl Iterator<Item = String> {
    let parameters = operation.parameters.iter().flatten();
    parameters
        .filter(|parameter| parameter.parameter_in == ParameterIn::Query)
        .map(|parameter| parameter.name.clone())
}

/// The document without paths.
pub(super) fn document() -> OpenApi {
    let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some(
        "An API token. Its role must be the one named at the operation, or admin; viewer is any role.",
    ));
    let mut document = OpenApiBuilder::new()
        .info(
            InfoBuilder::new()
                .title("Pitstop")
                .version(env!("CARGO_PKG_VERSION"))
                .description(Some("The admin API of a Pitstop server."))
                .build(),
        )
        .build();
    let components = document.components.get_or_insert_default();
    components.add_security_scheme(TOKEN, SecurityScheme::Http(scheme.build()));
    components.schemas.insert(problem::Problem::name().into_owned(), problem::Problem::schema());
    document
}

/// Adds what all endpoints have in common.
fn describe(operation: &mut Operation, resource: &str, needed: Role) {
    let name = operation.operation_id.take().unwrap_or_default();
    operation.operation_id = Some(format!("{resource}-{}", name.replace('_', "-")));
    operation.tags = Some(vec![resource.to_owned()]);
    operation.security = Some(vec![SecurityRequirement::new(TOKEN, [needed.name()])]);
    let content = ContentBuilder::new().schema(Some(Ref::from_schema_name(problem::Problem::name()))).build();
    let refusal = ResponseBuilder::new()
        .description("Refused, with problem details (RFC 9457)")
        .content(problem::MEDIA_TYPE, content)
        .build();
    operation.responses.responses.insert("default".to_owned(), refusal.into());
}

/// The header `Idempotency-Key`, which every POST takes.
fn idempotency_key() -> Parameter {
    let text = ObjectBuilder::new()
        .schema_type(Type::String)
        .min_length(Some(1))
        .max_length(Some(255))
        .pattern(Some(r"^[!#-\[\]-~]+$"))
        .build();
    ParameterBuilder::new()
        .name("Idempotency-Key")
        .parameter_in(ParameterIn::Header)
        .description(Some(
            "A key of the client's own, such as a UUID: the same request with it again, within 24 h, is answered as it was and \
             makes nothing more",
        ))
        .schema(Some(text))
        .build()
}

/// The header `If-Match` of a change, for `params(…)` of an endpoint.
pub(super) struct IfMatchHeader;

impl utoipa::IntoParams for IfMatchHeader {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let text = ObjectBuilder::new().schema_type(Type::String).build();
        let parameter = ParameterBuilder::new()
            .name("If-Match")
            .parameter_in(ParameterIn::Header)
            .description(Some(
                "Entity tag of the revision that is to be changed; 412 when there is a newer one",
            ))
            .schema(Some(text))
            .build();
        vec![parameter]
    }
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    let PathItem { get, put, post, delete, options, head, patch, trace, .. } = item;
    [get, put, post, delete, options, head, patch, trace].into_iter().flatten()
}
