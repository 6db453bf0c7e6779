//! `/rollouts`: the list, the form for a new one, and one rollout, live.

mod live;
mod new;
mod one;

pub(super) use live::live;
pub(super) use new::{create, new};
pub(super) use one::{act, show};

use axum::extract::Query as Params;
use axum::response::Response;
use maud::{Markup, html};
use serde::Deserialize;

use crate::api::{Failed, Page as Items, Query, segment};
use crate::model::{Counters, Product, Rollout, RolloutState};
use crate::page::{Page, Section};
use crate::plot;
use crate::session::Session;
use crate::view::{self, Tone, badge, number, when};

/// Rollouts on a page of the list.
const PAGE: &str = "50";

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Filter {
    product: String,
    state: String,
    cursor: String,
}

impl Filter {
    fn query(&self) -> Query {
        Query::new().maybe("product", Some(&self.product)).maybe("state", Some(&self.state))
    }
}

pub(super) async fn list(session: Session, Params(filter): Params<Filter>) -> Response {
    session.answer(list_page(&session, &filter).await)
}

async fn list_page(session: &Session, filter: &Filter) -> Result<Page, Failed> {
    let products: Vec<Product> = session.api().all("/products", &Query::new()).await?;
    let query = filter.query().and("limit", PAGE).maybe("cursor", Some(&filter.cursor));
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
                    @for state in RolloutState::ALL {
                        (view::option(state.name(), state.name(), state.name() == filter.state))
                    }
                }
            }
            div.field.buttons { button type="submit" { "Show" } }
        }
        div #rollouts {
            @if all.is_empty() { (none(&products, filter)) } @else {
                (table(session, &all))
                (view::pager(
                    (!filter.cursor.is_empty()).then(|| filter.query().on("/rollouts")),
                    rollouts.next_cursor.map(|cursor| filter.query().and("cursor", &cursor).on("/rollouts")),
                ))
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
    view::table(
        "Rollouts",
        html! {
            thead {
                tr {
                    th { "Release" } th { "State" } th { "Wave" } th.grow { "Progress" } th.num { "Healthy" }
                    th.num { "Offered" } th.num { "Problems" } th.wide { "Channel" } th.wide { "Created" }
                }
            }
            tbody {
                @for rollout in rollouts {
                    @let counters = total(rollout);
                    tr {
                        td {
                            a href={ "/rollouts/" (segment(&rollout.id)) } {
                                (rollout.product) " " (rollout.release.version)
                            }
                        }
                        td { (state(rollout.state)) }
                        td { (rollout.wave + 1) " of " (rollout.waves.len()) }
                        td.grow { (progress(counters)) }
                        td.num { (number(counters.healthy)) }
                        td.num { (number(counters.offered)) }
                        td.num { (number(counters.failed + counters.crashed + counters.silent)) }
                        td.wide { (rollout.channel) }
                        td.wide { (when(&rollout.created_at, session.now)) }
                    }
                }
            }
        },
    )
}

fn state(state: RolloutState) -> Markup {
    let tone = match state {
        RolloutState::Running | RolloutState::Open => Tone::Busy,
        RolloutState::Completed => Tone::Good,
        RolloutState::Draft | RolloutState::Aborted | RolloutState::Superseded => Tone::Plain,
        RolloutState::Paused | RolloutState::AwaitingApproval => Tone::Warn,
        RolloutState::Halted => Tone::Bad,
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

/// How it goes with those that were offered the release.
fn progress(counters: Counters) -> Markup {
    let Counters { offered, installed, healthy, failed, crashed, silent, unheard } = counters;
    let label = format!(
        "Of {offered} offered: {healthy} healthy, {installed} installed, {failed} failed, {crashed} crashed, \
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
    plot::bar(&label, &parts, offered)
}
