//! `/rollouts`: the list, the form for a new one, and one rollout, live.

mod live;
mod new;
mod one;

pub(super) use live::live;
pub(super) use new::{create, new};
pub(super) use one::{act, show};

use ::rollout::{Counters, State};
use api::page::Page as Items;
use api::product::Product;
use api::rollout::Rollout;
use axum::extract::Query as Params;
use axum::response::Response;
use maud::{Markup, html};
use serde::Deserialize;

use crate::api::{Failed, Query, segment};
use crate::page::{Page, Section};
use crate::plot;
use crate::session::Session;
use crate::table::{self, Column};
use crate::view::{self, Tone, badge, number, when};

/// Rollouts on a page of the list.
const PAGE: &str = "50";
const COLUMNS: [Column; 9] = [
    ("Release", ""),
    ("State", ""),
    ("Wave", ""),
    ("Progress", "grow"),
    ("Healthy", "num"),
    ("Offered", "num"),
    ("Problems", "num"),
    ("Channel", ""),
    ("Created", ""),
];

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Filter {
    product: String,
    state: String,
    order: String,
    cursor: String,
    before: String,
}

impl Filter {
    fn query(&self) -> Query {
        Query::new()
            .maybe("product", Some(&self.product))
            .maybe("state", Some(&self.state))
            .maybe("order", Some(&self.order))
    }
}

pub(super) async fn list(session: Session, Params(filter): Params<Filter>) -> Response {
    session.answer(list_page(&session, &filter).await)
}

async fn list_page(session: &Session, filter: &Filter) -> Result<Page, Failed> {
    let products: Vec<Product> = session.api().all("/products", &Query::new()).await?;
    let query = filter.query().and("limit", PAGE).maybe("cursor", Some(&filter.cursor));
    let query = query.maybe("before", Some(&filter.before));
    let rollouts: Items<Rollout> = session.api().get(&query.on("/rollouts")).await?;
    let all = rollouts.items.iter().collect::<Vec<_>>();
    let body = html! {
        div.head {
            h1 { "Rollouts" }
            @if session.role().operates() && !products.is_empty() {
                div.actions { a.button href="/rollouts/new" { "New rollout…" } }
            }
        }
        form.filters method="get" action="/rollouts" hx-get="/rollouts" hx-target="#rollouts" hx-select="#rollouts"
            hx-swap="outerHTML" hx-push-url="true" hx-trigger="change, submit" {
            div.field {
                label for="product" { "Product" }
                select #product name="product" {
                    (view::option("", "any", filter.product.is_empty()))
                    @for product in &products {
                        (view::option(&product.name, &product.name, product.name == filter.product))
                    }
                }
            }
            div.field {
                label for="state" { "State" }
                select #state name="state" {
                    (view::option("", "any", filter.state.is_empty()))
                    @for state in State::ALL {
                        (view::option(state.name(), state.name(), state.name() == filter.state))
                    }
                }
            }
            (view::order(&filter.order, [("", "newest first"), ("ascending", "oldest first")]))
            div.field.buttons { button type="submit" { "Show" } }
        }
        div #rollouts {
            @if all.is_empty() { (none(&products, filter)) } @else {
                (table(session, &all))
                (view::pager(&rollouts, "/rollouts", &filter.query(), "rollout"))
            }
        }
    };
    Ok(Page { title: "Rollouts".to_owned(), section: Section::Rollouts, body })
}

fn none(products: &[Product], filter: &Filter) -> Markup {
    if !filter.query().is_empty() {
        return html! { p.empty { "No rollout matches. " a href="/rollouts" { "Show all rollouts" } } };
    }
    let name = products.first().map_or("lamp", |product| &product.name);
    view::empty(
        "No rollout yet",
        "A rollout brings a release to the devices of a channel, in waves. Publishing starts one:",
        &[&format!("pitstop release publish app.bin --product {name} --key publisher.key")],
    )
}

/// Rollouts as rows; the fleet's page and a release's page have the same.
pub(super) fn table(session: &Session, rollouts: &[&Rollout]) -> Markup {
    let rows = rollouts.iter().map(|rollout| {
        let counters = total(rollout);
        let wave = html! { (rollout.wave + 1) " of " (rollout.waves.len()) };
        table::row([
            html! {
                a href={ "/rollouts/" (segment(&rollout.id)) } { (rollout.product) " " (rollout.release.version) }
            },
            state(rollout.state),
            wave,
            progress(counters, targets(rollout)),
            html! { (number(counters.healthy)) },
            counter(rollout, None, "", counters.offered),
            html! { (number(counters.failed + counters.crashed + counters.silent)) },
            html! { (rollout.channel) },
            when(&rollout.created_at, session.now),
        ])
    });
    table::table("Rollouts", &COLUMNS, rows)
}

/// How many devices a rollout is for; `None` until all of its waves were counted.
fn targets(rollout: &Rollout) -> Option<u64> {
    rollout.waves.iter().map(|wave| wave.devices).sum()
}

/// A counter of a rollout or of one of its waves, as the way to its devices. `attempt` is how they do; empty: all that were
/// offered the release.
fn counter(rollout: &Rollout, wave: Option<usize>, attempt: &str, count: u64) -> Markup {
    let devices = Query::new()
        .and("rollout", &rollout.id)
        .maybe("wave", wave.map(|wave| wave.to_string()).as_deref())
        .maybe("attempt", Some(attempt));
    html! {
        @if count > 0 { a href=(devices.on("/devices")) { (number(count)) } } @else { (number(count)) }
    }
}

fn state(state: State) -> Markup {
    let tone = match state {
        State::Running | State::Open => Tone::Busy,
        State::Completed => Tone::Good,
        State::Draft | State::Aborted | State::Superseded => Tone::Plain,
        State::Paused | State::AwaitingApproval => Tone::Warn,
        State::Halted => Tone::Bad,
    };
    badge(tone, &state.name().replace('-', " "))
}

fn total(rollout: &Rollout) -> Counters {
    rollout.waves.iter().map(|wave| wave.counters).fold(Counters::default(), |sum, wave| Counters {
        offered: sum.offered + wave.offered,
        installed: sum.installed + wave.installed,
        healthy: sum.healthy + wave.healthy,
        failed: sum.failed + wave.failed,
        crashed: sum.crashed + wave.crashed,
        silent: sum.silent + wave.silent,
        unheard: sum.unheard + wave.unheard,
    })
}

/// How far it is: the share of the devices it is for that are healthy with the release, and how the others do. Before they
/// were counted, the share of those that were offered it.
fn progress(counters: Counters, targets: Option<u64>) -> Markup {
    let Counters { offered, installed, healthy, failed, crashed, silent, unheard } = counters;
    // A device that was seen after the count may be one more.
    let whole = targets.map_or(offered, |targets| targets.max(offered));
    let whose = if targets.is_some() { "devices" } else { "devices that were offered it" };
    let label = format!(
        "Of {whole} {whose}: {healthy} healthy, {installed} installed, {failed} failed, {crashed} crashed, \
         {silent} silent, {unheard} unheard"
    );
    let parts = [
        ("ok", healthy),
        ("updating", installed),
        ("unheard", unheard),
        ("silent", silent),
        ("failing", failed),
        ("crashing", crashed),
    ];
    html! {
        div.progress {
            (plot::bar(&label, &parts, whole))
            span.share { (view::share(healthy, whole)) " of " (number(whole)) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_the_share_of_the_devices_that_it_is_for() {
        let counters = Counters { offered: 10, healthy: 9, failed: 1, ..Counters::default() };
        let shown = progress(counters, Some(1000)).into_string();
        assert!(shown.contains("0.9 % of 1\u{202f}000"), "{shown}");
        assert!(shown.contains("Of 1000 devices: 9 healthy, "), "{shown}");
        assert!(shown.contains(r#"class="c-ok" x="0" width="0.9""#), "{shown}");
        assert!(progress(counters, None).into_string().contains("90 % of 10"));
        assert!(progress(counters, Some(9)).into_string().contains("90 % of 10"));
        assert!(progress(Counters::default(), Some(0)).into_string().contains("0 % of 0"));
        let nearly = Counters { offered: 10_000, healthy: 9999, ..Counters::default() };
        assert!(progress(nearly, Some(10_000)).into_string().contains("99.9 % of"), "not done is not 100 %");
    }
}
