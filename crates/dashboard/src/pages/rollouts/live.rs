//! A rollout's page while it is open: server-sent events of the API, made into parts of the page.

use std::convert::Infallible;

use api::rollout::Rollout;
use axum::extract::Path;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use futures_util::{Stream, StreamExt as _, stream};
use maud::Markup;
use sse_stream::SseStream;

use super::one;
use crate::api::segment;
use crate::session::Session;

/// `GET /rollouts/{id}/live`: events `state` and `waves`, each with its part of the page, when that changed.
///
/// It ends when the API's stream ends; the browser then asks again. A refusal is a status without a body: nobody would
/// see one.
pub(in crate::pages) async fn live(session: Session, Path(id): Path<String>) -> Response {
    let path = format!("/rollouts/{}/stream", segment(&id));
    let source = match session.api().open(&path).await {
        Ok(response) => response.into_body(),
        Err(failed) => return failed.status().into_response(),
    };
    let rollouts = SseStream::new(source).filter_map(async |event| {
        let data = event.ok()?.data?;
        serde_json::from_str::<Rollout>(&data)
            .inspect_err(|error| tracing::error!(%error, "the API's stream has what the dashboard does not understand"))
            .ok()
    });
    Sse::new(parts(session, rollouts)).keep_alive(KeepAlive::default()).into_response()
}

/// The parts that changed, in the order of the page.
fn parts(
    mut session: Session,
    rollouts: impl Stream<Item = Rollout>,
) -> impl Stream<Item = Result<Event, Infallible>> {
    let mut shown = [String::new(), String::new()];
    rollouts.flat_map(move |rollout| {
        session.refresh();
        let parts =
            [("state", one::state_part(&session, &rollout)), ("waves", one::waves_part(&session, &rollout))];
        let mut events = Vec::new();
        for ((name, part), shown) in parts.into_iter().zip(&mut shown) {
            let part = Markup::into_string(part);
            if part != *shown {
                events.push(Ok(Event::default().event(name).data(&part)));
                *shown = part;
            }
        }
        stream::iter(events)
    })
}
