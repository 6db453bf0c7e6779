//! `/releases`, and one release.

use std::collections::HashMap;

use api::fleet::Summary;
use api::product::Product;
use api::release::{AppInfo, Release};
use api::rollout::Rollout;
use axum::extract::{Path, Query as Params};
use axum::response::Response;
use maud::{Markup, html};
use serde::Deserialize;

use super::rollouts;
use crate::api::{Failed, Query, segment};
use crate::page::{Page, Section};
use crate::session::Session;
use crate::table::{self, Asked, By, Column};
use crate::view::{self, number, some, when};

const COLUMNS: [Column; 8] = [
    ("Version", ""),
    ("Number", "num"),
    ("Channel", ""),
    ("Devices", "num"),
    ("Size", "num"),
    ("Digest", ""),
    ("Published", ""),
    ("Warnings", ""),
];

/// What those of a product are sorted by.
const BY: [By<Release>; 3] = [
    ("Number", "number", |a, b| a.sequence.cmp(&b.sequence)),
    ("Channel", "channel", |a, b| a.channel.cmp(&b.channel)),
    ("Size", "size", |a, b| a.size_bytes.cmp(&b.size_bytes)),
];

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Filter {
    product: String,
}

pub(super) async fn list(
    session: Session,
    Params(filter): Params<Filter>,
    Params(asked): Params<Asked>,
) -> Response {
    session.answer(list_page(&session, &filter, &asked).await)
}

pub(super) async fn show(session: Session, Path((product, sequence)): Path<(String, String)>) -> Response {
    session.answer(release_page(&session, &product, &sequence).await)
}

async fn list_page(session: &Session, filter: &Filter, asked: &Asked) -> Result<Page, Failed> {
    let products: Vec<Product> = session.api().all("/products", &Query::new()).await?;
    let mut sections = Vec::new();
    for product in
        products.iter().filter(|product| filter.product.is_empty() || product.name == filter.product)
    {
        let path = format!("/products/{}/releases", segment(&product.name));
        let releases: Vec<Release> = session.api().all(&path, &Query::new()).await?;
        let runs = who_runs(session, &product.name).await?;
        sections.push((product, releases, runs));
    }
    let body = html! {
        h1 { "Releases" }
        @if products.is_empty() {
            (view::empty(
                "No product yet",
                "A release is of a product. Make one first:",
                &["pitstop product new lamp --chip esp32c3 --layout 4mb --key publisher.key"],
            ))
        }
        @for (product, releases, runs) in &mut sections {
            section {
                h2 { a href={ "/products/" (segment(&product.name)) } { (product.name) } " " span.muted { (product.chip) } }
                @if releases.is_empty() {
                    (view::empty(
                        "No release yet",
                        "The publisher signs on a machine of their own; the server never has the key:",
                        &[&format!("pitstop release publish app.bin --product {} --key publisher.key", product.name)],
                    ))
                } @else {
                    (list_table(session, releases, runs, asked, filter))
                }
            }
        }
    };
    Ok(Page { title: "Releases".to_owned(), section: Section::Releases, body })
}

fn list_table(
    session: &Session,
    releases: &mut [Release],
    runs: &HashMap<i64, i64>,
    asked: &Asked,
    filter: &Filter,
) -> Markup {
    let filter = Query::new().maybe("product", Some(&filter.product));
    let sorting = asked.sort(releases, &BY, ("number", true), "/releases", &filter);
    let rows = releases.iter().map(|release| {
        let warnings = html! {
            @if release.warnings.is_empty() { span.muted { "none" } } @else {
                (view::badge(view::Tone::Warn, &release.warnings.len().to_string()))
            }
        };
        let devices = runs.get(&release.sequence).copied().unwrap_or(0);
        table::row([
            html! { a href=(href(release)) { (release.version) } },
            html! { (release.sequence) },
            html! { (release.channel) },
            html! { @if devices > 0 { a href=(runs_it(release)) { (number(devices)) } } @else { "0" } },
            html! { (view::bytes(release.size_bytes)) },
            view::digest(&release.digest),
            when(&release.created_at, session.now),
            warnings,
        ])
    });
    table::sorted("Releases", &COLUMNS, Some(&sorting), rows)
}

/// The devices that run a release.
fn runs_it(release: &Release) -> String {
    let number = release.sequence.to_string();
    Query::new().and("product", &release.product).and("sequence", &number).on("/devices")
}

fn href(release: &Release) -> String {
    format!("/releases/{}/{}", segment(&release.product), release.sequence)
}

/// Devices of a product by the number of the release that they run.
async fn who_runs(session: &Session, product: &str) -> Result<HashMap<i64, i64>, Failed> {
    let summary: Summary =
        session.api().get(&Query::new().and("product", product).on("/fleet/summary")).await?;
    let rows = summary.by_release.into_iter();
    Ok(rows.filter_map(|row| row.sequence.map(|sequence| (sequence, row.devices))).collect())
}

async fn release_page(session: &Session, product: &str, sequence: &str) -> Result<Page, Failed> {
    let path = format!("/products/{}/releases/{}", segment(product), segment(sequence));
    let release: Release = session.api().get(&path).await?;
    let devices = who_runs(session, product).await?.get(&release.sequence).copied().unwrap_or(0);
    let rollouts: Vec<Rollout> =
        session.api().all("/rollouts", &Query::new().and("product", product)).await?;
    let of_this =
        rollouts.iter().filter(|rollout| rollout.release.sequence == release.sequence).collect::<Vec<_>>();
    let number_text = release.sequence.to_string();
    let runs_it = runs_it(&release);
    let new_rollout = Query::new().and("product", product).and("sequence", &number_text).on("/rollouts/new");
    let body = html! {
        p.crumbs { a href="/releases" { "Releases" } }
        div.head {
            h1 { (release.product) " " (release.version) }
            @if session.role().operates() { div.actions { a.button href=(new_rollout) { "New rollout…" } } }
        }
        @for warning in &release.warnings { div.callout.warn { p { strong { "Warning." } " " (warning) } } }
        div.columns {
            section {
                h2 { "Release" }
                (view::facts([
                    ("Number", Some(html! { (release.sequence) })),
                    ("Channel", some(&release.channel)),
                    ("Published", Some(when(&release.created_at, session.now))),
                    ("Runs on", Some(html! { a href=(runs_it) { (view::count(devices, "device")) } })),
                    ("May go back to", Some(revert_to(&release))),
                    ("On the command line", Some(html! {
                        code { "pitstop release show " (release.sequence) " --product " (release.product) }
                    })),
                ]))
            }
            section {
                h2 { "Image" }
                (view::facts([
                    ("Digest", Some(html! { code.breaks { (release.digest) } })),
                    ("Size", Some(html! { (view::bytes(release.size_bytes)) " (" (number(release.size_bytes)) " B)" })),
                    ("Slot", Some(html! { "at least " (view::bytes(release.min_slot_bytes)) })),
                    ("Chip", some(&release.chip)),
                    ("ELF", release.elf_digest.as_deref().map(view::digest)),
                ]))
                @if let Some(app) = &release.app {
                    h3 { "App descriptor" }
                    (descriptor(app))
                }
            }
        }
        @if !release.notes.is_empty() { section { h2 { "Notes" } p.pre { (release.notes) } } }
        section {
            h2 { "Rollouts" }
            @if of_this.is_empty() { p.muted { "None: no device is offered this release." } } @else {
                (rollouts::table(session, &of_this))
            }
        }
    };
    Ok(Page { title: format!("{} {}", release.product, release.version), section: Section::Releases, body })
}

fn descriptor(app: &AppInfo) -> Markup {
    let AppInfo { project_name, version, idf_version } = app;
    let facts = [("project name", project_name), ("version", version), ("idf version", idf_version)];
    html! { dl.facts { @for (name, value) in facts { div { dt { (name) } dd.breaks { (value) } } } } }
}

fn revert_to(release: &Release) -> Markup {
    if release.revert_to.is_empty() {
        return html! { span.muted { "nothing: the publisher signed no way back" } };
    }
    html! {
        @for (index, sequence) in release.revert_to.iter().enumerate() {
            @if index > 0 { ", " }
            a href={ "/releases/" (segment(&release.product)) "/" (sequence) } { "number " (sequence) }
        }
    }
}
