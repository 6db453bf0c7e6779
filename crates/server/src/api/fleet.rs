//! `/api/v1/fleet`: devices by what they run and by health, now and over time.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::device::Health;
use api::fleet::{ByRelease, Certificates, History, HistoryParams, Sample, Summary, SummaryParams};
use axum::Json;
use axum::extract::State;
use utoipa_axum::routes;

use super::auth::Caller;
use super::product;
use super::request::Params;
use super::routes::Routes;
use crate::app::{App, People};
use crate::clock;
use crate::problem::Problem;
use crate::store::NO_SEQUENCE;

/// Without `since` the history goes back a day.
const DEFAULT_SPAN_MS: i64 = 24 * 60 * 60 * 1000;

/// More points than a plot has columns are of no use: past this many, samples are left out evenly.
const MAX_SAMPLES: i64 = 1000;

pub(super) fn routes() -> Routes {
    Routes::of("fleet").viewer(routes!(summary)).viewer(routes!(history))
}

/// Devices by health and by what they run, now.
#[utoipa::path(get, path = "/fleet/summary", params(SummaryParams), responses((status = 200, body = Summary)))]
async fn summary(
    State(app): State<Arc<App>>,
    caller: Caller,
    Params(params): Params<SummaryParams>,
) -> Result<Json<Summary>, Problem> {
    product::require(&app.people, &caller, &params.product).await?;
    let counts = app.fleet.get().await?;
    let is_asked_for =
        |product: &str| caller.sees(product) && (params.product.is_empty() || params.product == product);
    let mut tally = Tally::new(app.people.store.versions(&params.product).await?);
    let mut seen_last_24h = 0;
    for count in counts.devices.iter().filter(|count| is_asked_for(&count.product)) {
        tally.add(&count.product, count.sequence, &count.health, count.devices);
        seen_last_24h += count.seen;
    }
    let mut certificates = Certificates::default();
    for count in counts.certificates.iter().filter(|count| is_asked_for(&count.product)) {
        certificates.ended += count.ended;
        certificates.ending += count.ending;
        certificates.refused += count.refused;
    }
    let (by_health, by_release) = tally.take();
    Ok(Json(Summary {
        devices: by_health.values().sum(),
        by_health,
        by_release,
        active_rollouts: app.people.store.active_rollouts(caller.scope(), &params.product).await?,
        seen_last_24h,
        certificates,
    }))
}

/// Devices by health and by what they run, over time.
#[utoipa::path(get, path = "/fleet/history", params(HistoryParams), responses((status = 200, body = History)))]
async fn history(
    State(people): State<People>,
    caller: Caller,
    Params(params): Params<HistoryParams>,
) -> Result<Json<History>, Problem> {
    product::require(&people, &caller, &params.product).await?;
    let now_ms = people.clock.now_ms();
    let since_ms = match &params.since {
        None => now_ms - DEFAULT_SPAN_MS,
        Some(since) => clock::parse_rfc3339(since)
            .ok_or_else(|| Problem::Invalid(format!("since: expected a time (RFC 3339), found {since:?}")))?,
    };
    let every_ms = (now_ms.saturating_sub(since_ms) / MAX_SAMPLES).max(1);
    let rows = people.store.samples(caller.scope(), &params.product, since_ms, every_ms).await?;
    let mut tally = Tally::new(people.store.versions(&params.product).await?);
    let samples = rows.chunk_by(|one, other| one.at_ms == other.at_ms).map(|rows| {
        for row in rows {
            tally.add(&row.product, row.sequence, &row.health, row.devices);
        }
        let (by_health, by_release) = tally.take();
        Sample {
            at: rows.first().map(|row| clock::rfc3339(row.at_ms)).unwrap_or_default(),
            by_health,
            by_release,
        }
    });
    Ok(Json(History { samples: samples.collect() }))
}

/// Counts on their way to an answer.
struct Tally {
    versions: BTreeMap<(String, i64), String>,
    by_health: BTreeMap<String, i64>,
    by_release: BTreeMap<(String, i64), i64>,
}

impl Tally {
    fn new(versions: Vec<(String, i64, String)>) -> Self {
        let versions =
            versions.into_iter().map(|(product, sequence, version)| ((product, sequence), version)).collect();
        Self { versions, by_health: no_devices(), by_release: BTreeMap::new() }
    }

    fn add(&mut self, product: &str, sequence: i64, health: &str, devices: i64) {
        if let Some(count) = self.by_health.get_mut(health) {
            *count += devices;
        }
        *self.by_release.entry((product.to_owned(), sequence)).or_default() += devices;
    }

    /// What was added, newest release first; the next count starts at 0.
    fn take(&mut self) -> (BTreeMap<String, i64>, Vec<ByRelease>) {
        let mut by_release: Vec<_> = std::mem::take(&mut self.by_release)
            .into_iter()
            .map(|(key, devices)| ByRelease {
                version: self.versions.get(&key).cloned(),
                sequence: (key.1 != NO_SEQUENCE).then_some(key.1),
                product: key.0,
                devices,
            })
            .collect();
        by_release
            .sort_by(|one, other| one.product.cmp(&other.product).then(other.sequence.cmp(&one.sequence)));
        (std::mem::replace(&mut self.by_health, no_devices()), by_release)
    }
}

fn no_devices() -> BTreeMap<String, i64> {
    Health::ALL.into_iter().map(|health| (health.to_string(), 0)).collect()
}
