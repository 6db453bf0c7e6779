//! `/api/v1/audit`: who changed what.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::routes;

use super::auth::Caller;
use super::ndjson;
use super::page::{BothWays, Order, Page};
use super::product;
use super::request::{Params, parse_time};
use super::routes::Routes;
use crate::app::App;
use crate::clock;
use crate::problem::Problem;
use crate::store::{AuditFilter, AuditRow, KINDS, Place};

/// Lines that an export reads at once: it holds no more of the log in memory.
const EXPORT_ROWS: i64 = 500;

pub(super) fn routes() -> Routes {
    Routes::of("audit").viewer(routes!(list)).viewer(routes!(export))
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(default)]
#[derive(Default)]
struct Filter {
    /// Id or name of the API token that made the change, or `server`.
    actor: String,
    /// Kind of what was changed: `artifact`, `audit`, `ca`, `certificate`, `channel`, `device`, `evidence`, `product`,
    /// `publisher-key`, `release`, `rollout`, `token` or `webhook`.
    kind: String,
    /// Id of what was changed.
    subject: String,
    product: String,
    /// Only lines of this moment and later.
    #[param(value_type = Option<String>, format = DateTime)]
    since: Option<String>,
    /// Only lines before this moment.
    #[param(value_type = Option<String>, format = DateTime)]
    until: Option<String>,
}

#[derive(Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(default)]
struct PlaceParams {
    /// Entries of a page; 100 when it is absent.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<i64>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
    /// `previous_cursor` of the page after.
    before: Option<String>,
    /// `ascending`: the oldest first; `descending` when it is absent.
    #[param(inline)]
    order: Option<Order>,
}

/// A line of the audit log.
#[derive(Serialize, ToSchema)]
struct Line {
    id: String,
    #[schema(format = DateTime)]
    at: String,
    actor: Actor,
    /// Such as `rollout.abort`.
    action: String,
    /// Kind of what was changed.
    kind: String,
    /// Its id.
    subject: String,
    product: Option<String>,
    /// What was there; null when there was nothing.
    before: Option<Value>,
    /// What is there now.
    after: Option<Value>,
}

#[derive(Serialize, ToSchema)]
struct Actor {
    /// Id of the API token; `server` for what the server does by itself.
    id: String,
    name: String,
}

/// Lists the audit log, newest first.
#[utoipa::path(get, path = "/audit", params(Filter, PlaceParams), responses((status = 200, body = Page<Line>)))]
async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    Params(filter): Params<Filter>,
    Params(place): Params<PlaceParams>,
) -> Result<Json<Page<Line>>, Problem> {
    let page =
        BothWays::new(place.limit, place.cursor, place.before)?.in_order(place.order, Order::Descending);
    let rows = app.people.audit(&filter.of(&app, &caller).await?, page.place(), page.rows()?).await?;
    page.page(rows, |row| row.id.clone(), show).map(Json)
}

/// The audit log as lines of JSON, newest first, all of it that fits the filter.
#[utoipa::path(
    get,
    path = "/audit/export",
    params(Filter),
    responses((status = 200, body = String, content_type = "application/x-ndjson"))
)]
async fn export(
    State(app): State<Arc<App>>,
    caller: Caller,
    Params(filter): Params<Filter>,
) -> Result<Response, Problem> {
    let filter = filter.of(&app, &caller).await?;
    // A window of the log at a time, each asked for when the one before was sent.
    let lines = futures_util::stream::try_unfold(Some(String::new()), move |before| {
        let (app, filter) = (app.clone(), filter.clone());
        async move {
            let Some(before) = before else { return Ok(None) };
            let rows = app
                .people
                .audit(&filter, Place::After(&before), EXPORT_ROWS)
                .await
                .map_err(std::io::Error::other)?;
            let Some(last) = rows.last() else { return Ok(None) };
            let next = (rows.len() as i64 == EXPORT_ROWS).then(|| last.id.clone());
            ndjson::lines(rows, line).map(|lines| Some((lines, next))).map_err(std::io::Error::other)
        }
    });
    Ok(ndjson::attachment("audit.ndjson", lines))
}

impl Filter {
    /// The filter for what the caller may see.
    async fn of(&self, app: &App, caller: &Caller) -> Result<AuditFilter, Problem> {
        if !self.kind.is_empty() && !KINDS.contains(&self.kind.as_str()) {
            let (kinds, found) = (KINDS.join(", "), &self.kind);
            return Err(Problem::Unsuitable(format!("expected a kind of {kinds}, found {found:?}")));
        }
        product::require(app, caller, &self.product).await?;
        Ok(AuditFilter {
            actors: app.people.actors(&self.actor).await?,
            kind: self.kind.clone(),
            subject: self.subject.clone(),
            product: self.product.clone(),
            scope: caller.scope().to_owned(),
            since_ms: self.since.as_deref().map_or(Ok(i64::MIN), parse_time)?,
            until_ms: self.until.as_deref().map_or(Ok(i64::MAX), parse_time)?,
        })
    }
}

fn show(row: AuditRow) -> Result<Line, Problem> {
    Ok(line(row)?)
}

fn line(row: AuditRow) -> Result<Line, serde_json::Error> {
    let json = |text: Option<String>| text.map(|text| serde_json::from_str(&text)).transpose();
    Ok(Line {
        id: row.id,
        at: clock::rfc3339(row.at_ms),
        actor: Actor { id: row.actor, name: row.actor_name },
        action: row.action,
        kind: row.kind,
        subject: row.subject,
        product: row.product,
        before: json(row.before_json)?,
        after: json(row.after_json)?,
    })
}
