//! How much flash a device wears in a year: counted, not estimated.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::collections::BTreeMap;

use sim::End;
use sim::campaign::in_paused_time;
use sim::campaign::lifecycle::LAYOUTS;
use sim::campaign::world::{World, application};
use wire::ResetCause;

/// A start an hour.
const STARTS: u32 = 24 * 365;
/// Weeks of the year; in each one start finds the server's clock a week further.
const WEEKS: u32 = 52;
/// A release every so many weeks.
const RELEASE_WEEKS: u32 = 4;
const WEEK_S: u64 = 7 * 24 * 3600;
/// What SPI flash endures.
const ENDURANCE: u32 = 100_000;

/// The most often that any one sector of each partition is erased in a year.
fn year(layout: &'static str) -> BTreeMap<String, u32> {
    in_paused_time(async {
        let mut world = World::manufacture(layout)?;
        for week in 0..WEEKS {
            if week % RELEASE_WEEKS == 0 {
                let version = format!("1.{week}.0");
                let image = application(&version, 3)?;
                world.office.books().publish(u64::from(week) + 1, &version, image, Vec::new())?;
            }
            world.office.books().time_s += WEEK_S;
            assert!(matches!(world.device.reset(ResetCause::Software).await?, End::Running(_)));
        }
        let events = world.device.flash.stats().sector_erases.clone();
        world.device.flash.reset_stats();
        // What a start costs at which nothing is new.
        assert!(matches!(world.device.reset(ResetCause::Software).await?, End::Running(_)));
        let nothing_new = &world.device.flash.stats().sector_erases;
        let sectors: Vec<_> =
            events.iter().zip(nothing_new).map(|(events, each)| events + each * (STARTS - WEEKS)).collect();
        let partitions = world.device.layout().partitions().iter();
        Ok(partitions
            .map(|partition| {
                let range = partition.offset as usize / 4096..partition.end() as usize / 4096;
                (partition.label.as_str().to_owned(), sectors[range].iter().copied().max().unwrap_or(0))
            })
            .collect())
    })
    .unwrap()
}

#[test]
fn a_year_of_starts_wears_what_the_documents_say() {
    let report = include_str!("../../../docs/reliability.md");
    let mut missing = Vec::new();
    for layout in LAYOUTS {
        let year = year(layout);
        println!("{layout}: {year:?}");
        for (partition, erasures) in &year {
            let bound = match (layout, partition.as_str()) {
                // Three erasures of one copy at each start; docs/flash.md says what that means.
                ("8mb-rollback", "otadata") => 3 * STARTS + 3,
                // Two for each install; 13 releases, and two slots share them.
                (_, "ota_0" | "ota_1") => 26,
                (_, "vault") => 10,
                _ => 0,
            };
            assert!(
                *erasures <= bound,
                "{layout} {partition}: {erasures} erasures a year, more than {bound}"
            );
            if *erasures > 0 {
                let years = ENDURANCE / erasures;
                let row = format!("| {layout} | {partition} | {erasures} | {years} |");
                if !report.contains(&row) {
                    missing.push(row);
                }
            }
        }
    }
    assert!(missing.is_empty(), "docs/reliability.md lacks these rows:\n{}", missing.join("\n"));
}
