//! How much flash a device wears in a year: counted, not estimated.

use std::collections::BTreeMap;

use manifest::Sequence;
use sim::End;
use sim::campaign::fake_server::{Apply, Exchange, ServerState, Twist};
use sim::campaign::in_paused_time;
use sim::campaign::lifecycle::LAYOUTS;
use sim::campaign::stolen_server::decide;
use sim::campaign::world::{World, application};
use sim::impostor::Delivery;
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
                world.server.state().publish(u64::from(week) + 1, &version, image, Vec::new())?;
            }
            world.server.state().time_s += WEEK_S;
            assert!(matches!(world.device.reset(ResetCause::Software).await?, End::Running(_)));
        }
        let events = world.device.flash.stats().sector_erases.clone();
        world.device.flash.reset_stats();
        // What a start costs at which nothing is new.
        assert!(matches!(world.device.reset(ResetCause::Software).await?, End::Running(_)));
        let nothing_new = &world.device.flash.stats().sector_erases;
        let sectors: Vec<_> =
            events.iter().zip(nothing_new).map(|(events, each)| events + each * (STARTS - WEEKS)).collect();
        Ok(by_partition(&world, &sectors))
    })
    .unwrap()
}

/// The sector of each partition that was erased most.
fn by_partition(world: &World, sectors: &[u32]) -> BTreeMap<String, u32> {
    let partitions = world.device.layout().partitions().iter();
    partitions
        .map(|partition| {
            let range = partition.offset as usize / 4096..partition.end() as usize / 4096;
            (partition.label.as_str().to_owned(), sectors[range].iter().copied().max().unwrap_or(0))
        })
        .collect()
}

/// What somebody who has stolen the server does at every start of a device that runs an application.
struct Attack {
    name: &'static str,
    /// Starts that are counted; more where not each start erases.
    starts: u32,
    /// Beforehand.
    begin: fn(&mut ServerState),
    /// Before start number n.
    before_start: fn(&mut ServerState, u32),
}

const ATTACKS: [Attack; 3] = [
    Attack {
        name: "a renewal at every start",
        starts: 200,
        begin: |state| {
            state.offer = Some(0);
            let apply = Apply::WithState(|_, _, reply| decide(reply, |decision| decision.renew = Some(true)));
            state.twists = vec![Twist { exchange: Exchange::CheckIn, apply }];
        },
        before_start: |_, _| (),
    },
    Attack {
        name: "wrong bytes at every start",
        starts: 4,
        begin: |state| {
            let apply = Apply::ToReply(|reply| reply.delivery(Delivery::CorruptByte { offset: 40_000 }));
            state.twists = vec![Twist { exchange: Exchange::Artifact, apply }];
        },
        before_start: |_, _| (),
    },
    Attack {
        name: "to and fro between releases that may return to each other",
        starts: 4,
        begin: |_| (),
        before_start: |state, start| state.offer = Some((start % 2) as usize),
    },
];

/// The erasures of a start under attack, in a year of them.
fn year_under_attack(layout: &'static str, attack: &Attack) -> BTreeMap<String, u32> {
    in_paused_time(async {
        let mut world = World::manufacture(layout)?;
        let (old, new) = (application("1.0.0", 3)?, application("1.1.0", 3)?);
        world.server.state().publish(1, "1.0.0", old, Vec::new())?;
        assert!(matches!(world.device.power_on().await?, End::Running(_)));
        world.server.state().publish(2, "1.1.0", new, vec![Sequence(1)])?;
        (attack.begin)(&mut world.server.state());
        world.device.flash.reset_stats();
        for start in 1..=attack.starts {
            (attack.before_start)(&mut world.server.state(), start);
            // Certificates that are issued in the same second would be the same.
            world.server.state().time_s += 3600;
            world.device.reset(ResetCause::Software).await?;
        }
        let sectors = &world.device.flash.stats().sector_erases;
        let a_year: Vec<_> = sectors.iter().map(|erased| erased * (STARTS / attack.starts)).collect();
        Ok(by_partition(&world, &a_year))
    })
    .unwrap()
}

#[test]
fn a_thief_wears_out_what_the_documents_say() {
    let report = include_str!("../../../../docs/reliability.md");
    let mut missing = Vec::new();
    for attack in &ATTACKS {
        for layout in LAYOUTS {
            let mut year = year_under_attack(layout, attack);
            // Every hand-over of the classic layout, attack or not.
            year.remove("otadata");
            let (partition, erasures) = year.iter().max_by_key(|(_, erasures)| **erasures).unwrap();
            assert!(
                *erasures < ENDURANCE,
                "{}: {layout} {partition}: {erasures} erasures a year",
                attack.name
            );
            let row = match ENDURANCE.checked_div(*erasures) {
                Some(years) => format!("| {} | {layout} | {partition} | {erasures} | {years} |", attack.name),
                // The only slot is not given up for bytes that are not the release's.
                None => format!("| {} | {layout} | none | 0 | |", attack.name),
            };
            if !report.contains(&row) {
                missing.push(row);
            }
        }
    }
    assert!(missing.is_empty(), "docs/reliability.md lacks these rows:\n{}", missing.join("\n"));
}

#[test]
fn a_year_of_starts_wears_what_the_documents_say() {
    let report = include_str!("../../../../docs/reliability.md");
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
