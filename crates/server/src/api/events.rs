//! `GET /api/v1/events/export`: what happened to devices, all of it.

use api::event::{Filter, Line};
use axum::extract::State;
use axum::response::Response;
use utoipa_axum::routes;

use super::auth::Caller;
use super::ndjson;
use super::product;
use super::request::{Params, parse_time};
use super::routes::Routes;
use crate::app::People;
use crate::clock;
use crate::problem::Problem;
use crate::store::ExportedEvent;

/// Events that are read at once: no more is held in memory.
const EXPORT_ROWS: i64 = 1000;

pub(super) fn routes() -> Routes {
    Routes::of("events").viewer(routes!(export))
}

/// What happened to devices as lines of JSON, newest first, all of it that fits the filter.
#[utoipa::path(
    get,
    path = "/events/export",
    params(Filter),
    responses((status = 200, body = String, content_type = "application/x-ndjson"))
)]
async fn export(
    State(people): State<People>,
    caller: Caller,
    Params(filter): Params<Filter>,
) -> Result<Response, Problem> {
    product::require(&people, &caller, &filter.product).await?;
    let since_ms = filter.since.as_deref().map_or(Ok(0), parse_time)?;
    let until_ms = filter.until.as_deref().map_or(Ok(i64::MAX), parse_time)?;
    let wanted = [filter.product, caller.scope().to_owned()];
    // A window at a time, each asked for when the one before was sent. No id is as low as an empty one.
    let lines = futures_util::stream::try_unfold(Some((until_ms, String::new())), move |before| {
        let (people, wanted) = (people.clone(), wanted.clone());
        async move {
            let Some((at_ms, id)) = before else { return Ok(None) };
            let rows = people.store.export_events(since_ms, (at_ms, &id), EXPORT_ROWS).await;
            let rows = rows.map_err(std::io::Error::other)?;
            let Some(last) = rows.last() else { return Ok(None) };
            let next = (rows.len() as i64 == EXPORT_ROWS).then(|| (last.at_ms, last.id.clone()));
            // An empty name is no condition.
            let is_wanted = |row: &ExportedEvent| {
                wanted.iter().all(|product| product.is_empty() || *product == row.product)
            };
            let rows = rows.into_iter().filter(is_wanted);
            ndjson::lines(rows, line).map(|lines| Some((lines, next))).map_err(std::io::Error::other)
        }
    });
    Ok(ndjson::attachment("events.ndjson", lines))
}

fn line(row: ExportedEvent) -> Result<Line, serde_json::Error> {
    Ok(Line {
        id: row.id,
        at: clock::rfc3339(row.at_ms),
        product: row.product,
        device: row.device,
        kind: row.kind,
        detail: serde_json::from_str(&row.detail)?,
    })
}
