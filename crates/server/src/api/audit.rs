//! `/api/v1/audit`: who changed what.

use api::audit::{Actor, Filter, Line};
use api::page::{Order, Page};
use axum::Json;
use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::routes;

use super::auth::Caller;
use super::ndjson;
use super::page::BothWays;
use super::product;
use super::request::{Params, parse_time};
use super::routes::Routes;
use crate::app::People;
use crate::clock;
use crate::problem::Problem;
use crate::store::{AuditFilter, AuditRow, KINDS, Place};

/// Lines that an export reads at once: it holds no more of the log in memory.
const EXPORT_ROWS: i64 = 500;

pub(super) fn routes() -> Routes {
    Routes::of("audit").viewer(routes!(list)).viewer(routes!(export))
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

/// Lists the audit log, newest first.
#[utoipa::path(get, path = "/audit", params(Filter, PlaceParams), responses((status = 200, body = Page<Line>)))]
async fn list(
    State(people): State<People>,
    caller: Caller,
    Params(filter): Params<Filter>,
    Params(place): Params<PlaceParams>,
) -> Result<Json<Page<Line>>, Problem> {
    let page =
        BothWays::new(place.limit, place.cursor, place.before)?.in_order(place.order, Order::Descending);
    let rows =
        people.store.audit(&visible(filter, &people, &caller).await?, page.place(), page.rows()?).await?;
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
    State(people): State<People>,
    caller: Caller,
    Params(filter): Params<Filter>,
) -> Result<Response, Problem> {
    let filter = visible(filter, &people, &caller).await?;
    // A window of the log at a time, each asked for when the one before was sent.
    let lines = futures_util::stream::try_unfold(Some(String::new()), move |before| {
        let (people, filter) = (people.clone(), filter.clone());
        async move {
            let Some(before) = before else { return Ok(None) };
            let rows = people
                .store
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

/// The filter for what the caller may see.
async fn visible(filter: Filter, people: &People, caller: &Caller) -> Result<AuditFilter, Problem> {
    if !filter.kind.is_empty() && !KINDS.contains(&filter.kind.as_str()) {
        let (kinds, found) = (KINDS.join(", "), &filter.kind);
        return Err(Problem::Unsuitable(format!("expected a kind of {kinds}, found {found:?}")));
    }
    product::require(people, caller, &filter.product).await?;
    Ok(AuditFilter {
        actors: people.store.actors(&filter.actor).await?,
        kind: filter.kind,
        subject: filter.subject,
        product: filter.product,
        scope: caller.scope().to_owned(),
        since_ms: filter.since.as_deref().map_or(Ok(i64::MIN), parse_time)?,
        until_ms: filter.until.as_deref().map_or(Ok(i64::MAX), parse_time)?,
    })
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
