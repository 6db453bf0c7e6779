//! `/`: how the fleet is.

use ::rollout::State;
use api::ca::Ca;
use api::device::Health;
use api::fleet::{ByRelease, Certificates, History, Sample, Summary};
use api::product::Product;
use api::rollout::Rollout;
use axum::extract::Query as Params;
use axum::response::Response;
use maud::{Markup, html};
use serde::Deserialize;
use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};

use super::rollouts;
use crate::api::{Failed, Query, segment};
use crate::page::{Page, Section};
use crate::plot::{self, Series};
use crate::session::Session;
use crate::table;
use crate::view::{self, HEALTHS, count, number};

/// How far back the plots look: as far as there is enough to see. The API thins samples of a long span out.
const SPANS: [Duration; 4] = [Duration::days(7), Duration::DAY, Duration::HOUR, Duration::minutes(10)];
/// With so many samples a plot is a plot.
const ENOUGH_SAMPLES: usize = 24;
/// So many releases have a band and a colour of their own in the plot; the rest is one band.
const RELEASE_BANDS: usize = 5;

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Scope {
    product: String,
}

pub(super) async fn show(session: Session, Params(scope): Params<Scope>) -> Response {
    session.answer(page(&session, &scope).await)
}

async fn page(session: &Session, scope: &Scope) -> Result<Page, Failed> {
    let products: Vec<Product> = session.api().all("/products", &Query::new()).await?;
    let title = "Fleet".to_owned();
    if products.is_empty() {
        return Ok(Page { title, section: Section::Fleet, body: first_steps() });
    }
    let query = Query::new().maybe("product", Some(&scope.product));
    let summary: Summary = session.api().get(&query.on("/fleet/summary")).await?;
    let samples = samples(session, &query).await?;
    let rollouts: Vec<Rollout> = session.api().all("/rollouts", &query).await?;
    let ca: Ca = session.api().get("/ca").await?;
    let active = rollouts.iter().filter(|rollout| is_active(rollout.state)).collect::<Vec<_>>();

    let waiting = super::approvals::how_many(session, &query).await?;

    let body = html! {
        div.head {
            h1 { "Fleet" }
            @if products.len() > 1 { (scope_form(&products, &scope.product)) }
        }
        // Everything below is brought up to date by `pitstop.js` while somebody looks.
        div #fleet.live data-live {
            @for notice in &ca.notices { div.callout.warn { p { (notice) } } }
            @if let Some(waiting) = waiting {
                div.callout.warn {
                    p { (waiting) " for approval. " a href=(query.on("/approvals")) { "Look at them" } }
                }
            }
            (certificates(summary.certificates, &scope.product))
            @if summary.devices == 0 { (first_device(&products)) } @else {
                (tiles(&summary, &scope.product))
            }
            section {
                div.head { h2 { "Active rollouts" } a href="/rollouts" { "All rollouts" } }
                @if active.is_empty() {
                    p.muted { "None. A release goes to devices by a rollout." }
                } @else {
                    (rollouts::table(session, &active))
                }
            }
            @if summary.devices > 0 {
                div.plots { (health_plot(&samples)) (release_plot(&samples)) }
                section {
                    h2 { "Devices by release" }
                    (by_release(&summary))
                }
            }
            p.sub.as-of {
                "As of " (view::timestamp(&session.now.format(&Rfc3339).unwrap_or_default())) ". "
                a href=(query.on("/")) { "Refresh" }
            }
        }
    };
    Ok(Page { title, section: Section::Fleet, body })
}

/// Devices whose certificate asks for a look, and the way to them.
fn certificates(counts: Certificates, product: &str) -> Markup {
    let Certificates { ended, ending, refused } = counts;
    let link = |name, value| Query::new().maybe("product", Some(product)).and(name, value).on("/devices");
    html! {
        @if ended + ending + refused > 0 {
            div.callout.warn {
                p {
                    "Certificates: "
                    @if ended > 0 {
                        a href=(link("certificate_ends_within_days", "0")) { "of " (count(ended, "device")) " ended" }
                        ", to be renewed when they come"
                    }
                    @if ending > 0 {
                        @if ended > 0 { "; " }
                        a href=(link("certificate_ends_within_days", "30")) {
                            "of " (count(ending, "device")) " about to end"
                        }
                    }
                    @if refused > 0 {
                        @if ended + ending > 0 { "; " }
                        a href=(link("certificate_refused", "true")) { (count(refused, "device")) " refused" }
                    }
                    "."
                }
            }
        }
    }
}

/// Neither done with nor given up.
fn is_active(state: State) -> bool {
    state != State::Draft && !state.is_finished()
}

/// Samples of the longest span that has enough of them, else those of the span that has most.
async fn samples(session: &Session, query: &Query) -> Result<Vec<Sample>, Failed> {
    let mut most = Vec::new();
    for span in SPANS {
        let since = (session.now - span).format(&Rfc3339).unwrap_or_default();
        let history: History =
            session.api().get(&query.clone().and("since", &since).on("/fleet/history")).await?;
        if history.samples.len() > most.len() {
            most = history.samples;
        }
        if most.len() >= ENOUGH_SAMPLES {
            break;
        }
    }
    Ok(most)
}

fn scope_form(products: &[Product], chosen: &str) -> Markup {
    html! {
        form.filters method="get" action="/" hx-get="/" hx-trigger="change" hx-target="body" hx-push-url="true" {
            label for="product" { "Product" }
            select #product name="product" {
                (view::option("", "all", chosen.is_empty()))
                @for product in products { (view::option(&product.name, &product.name, product.name == chosen)) }
            }
            button type="submit" { "Show" }
        }
    }
}

fn tiles(summary: &Summary, product: &str) -> Markup {
    let of = |health: Health| summary.by_health.get(health.name()).copied().unwrap_or_default();
    let attention = of(Health::Silent) + of(Health::Failing) + of(Health::Crashing);
    let parts = HEALTHS.map(|(health, _, _)| (health.name(), of(health)));
    let link = |health: &str| {
        Query::new().maybe("product", Some(product)).maybe("health", Some(health)).on("/devices")
    };
    html! {
        section aria-label="Now" {
            dl.tiles {
                div { dt { "Devices" } dd { a href=(link("")) { (number(summary.devices)) } } }
                div { dt { "Seen in 24 h" } dd { (number(summary.seen_last_24h)) } }
                div { dt { "OK" } dd { (number(of(Health::Ok))) } }
                div.alarm[attention > 0] { dt { "Need a look" } dd { (number(attention)) } }
            }
            (plot::bar("Devices by health; the list below has the counts", &parts, summary.devices))
            ul.legend.links {
                @for (health, _, meaning) in HEALTHS {
                    li {
                        a href=(link(health.name())) title=(meaning) {
                            svg viewBox="0 0 10 10" width="10" height="10" aria-hidden="true" {
                                rect class={ "c-" (health) } width="10" height="10" rx="2" {}
                            }
                            span { (health) } span.n { (number(of(health))) }
                        }
                    }
                }
            }
        }
    }
}

fn health_plot(samples: &[Sample]) -> Markup {
    let series = HEALTHS.map(|(health, _, _)| Series {
        name: health.to_string(),
        class: health.to_string(),
        counts: samples
            .iter()
            .map(|sample| sample.by_health.get(health.name()).copied().unwrap_or_default())
            .collect(),
    });
    plot::stacked("Devices by health", &times(samples), &series)
}

/// The newest releases have a band each, from the newest up; older ones and what is unknown share the last.
fn release_plot(samples: &[Sample]) -> Markup {
    let mut keys =
        samples.iter().flat_map(|sample| sample.by_release.iter().filter_map(key)).collect::<Vec<_>>();
    keys.sort_unstable_by(|one, other| other.cmp(one));
    keys.dedup();
    keys.truncate(RELEASE_BANDS);
    let count_of = |sample: &Sample, wanted: &dyn Fn(Option<Key>) -> bool| {
        sample.by_release.iter().filter(|row| wanted(key(row))).map(|row| row.devices).sum()
    };
    let several = keys.iter().any(|one| keys.iter().any(|other| one.product != other.product));
    let mut series = Vec::new();
    for (index, wanted) in keys.iter().enumerate() {
        series.push(Series {
            name: if several {
                format!("{} {}", wanted.product, wanted.version)
            } else {
                wanted.version.clone()
            },
            class: format!("r{index}"),
            counts: samples
                .iter()
                .map(|sample| count_of(sample, &|key| key.as_ref() == Some(wanted)))
                .collect(),
        });
    }
    let rest = |key: Option<Key>| key.is_none_or(|key| !keys.contains(&key));
    series.push(Series {
        name: "older or none".to_owned(),
        class: "rest".to_owned(),
        counts: samples.iter().map(|sample| count_of(sample, &rest)).collect(),
    });
    plot::stacked("Devices by version", &times(samples), &series)
}

/// What tells releases apart; the newest is the greatest.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    sequence: i64,
    product: String,
    version: String,
}

fn key(row: &ByRelease) -> Option<Key> {
    let sequence = row.sequence.filter(|sequence| *sequence >= 0)?;
    let version = row.version.clone().unwrap_or_else(|| format!("number {sequence}"));
    Some(Key { sequence, product: row.product.clone(), version })
}

fn times(samples: &[Sample]) -> Vec<OffsetDateTime> {
    samples.iter().map(|sample| view::parse(&sample.at).unwrap_or(OffsetDateTime::UNIX_EPOCH)).collect()
}

fn by_release(summary: &Summary) -> Markup {
    let rows = summary.by_release.iter().map(|row| {
        let product = row.product.as_str();
        let sequence = row.sequence.filter(|sequence| *sequence >= 0);
        let version = html! {
            @if let Some(sequence) = sequence {
                a href={ "/releases/" (segment(product)) "/" (sequence) } {
                    (row.version.clone().unwrap_or_else(|| format!("number {sequence}")))
                }
            } @else { span.muted { "none that is known" } }
        };
        table::row([
            html! { a href={ "/products/" (segment(product)) } { (product) } },
            version,
            html! { @if let Some(sequence) = sequence { (sequence) } },
            html! { (number(row.devices)) },
            plot::bar(&count(row.devices, "device"), &[("r0", row.devices)], summary.devices),
        ])
    });
    let columns =
        [("Product", ""), ("Version", ""), ("Number", "num"), ("Devices", "num"), ("Share", "grow")];
    table::table("Devices by release", &columns, rows)
}

fn first_steps() -> Markup {
    html! {
        h1 { "Fleet" }
        (view::empty(
            "No product yet",
            "A product is a kind of device: its chip, its flash layout, and who may publish for it. \
             Make one where the command line is:",
            &["pitstop keys new", "pitstop product new lamp --chip esp32c3 --layout 4mb --key publisher.key"],
        ))
    }
}

fn first_device(products: &[Product]) -> Markup {
    let name = products.first().map_or("lamp", |product| &product.name);
    view::empty(
        "No device yet",
        "A device enrolls with a token that is good for one time. Make a device, and publish what it is to run:",
        &[
            &format!("pitstop device new --product {name}"),
            &format!("pitstop release publish app.bin --product {name} --key publisher.key"),
        ],
    )
}
