//! The quick part of the campaigns: a sample of the cases. `cargo xtask campaign` runs them all.

use std::time::Duration;

use sim::End;
use sim::campaign::fake_server::{Apply, Exchange, Twist};
use sim::campaign::lifecycle::{Lifecycle, prepare};
use sim::campaign::{Outcome, Part, Size, in_paused_time, plan, replay, run};
use sim::impostor::{Delivery, Reply};
use tokio::time::Instant;
use updater::limits;

/// Another seed is another sample.
const SEED: u64 = 1;

fn quick(part: Part) {
    println!("seed {SEED}");
    let mut broken = Vec::new();
    for batch in plan(part, Size::Quick, SEED).unwrap() {
        let tally = run(&batch, || true).unwrap();
        println!("{:?} {}: {} cases, starts to the target {:?}", part, batch.name, tally.cases, tally.starts);
        broken.extend(tally.broken);
    }
    for (case, broken) in &broken {
        println!("{broken}\n    cargo xtask campaign --replay {case}");
    }
    assert!(broken.is_empty(), "the promise does not hold in {} cases, see above", broken.len());
}

#[test]
fn power_is_lost_once() {
    quick(Part::Power);
}

#[test]
fn power_is_lost_twice() {
    quick(Part::PowerTwice);
}

#[test]
fn flash_forgets_and_wears_out() {
    quick(Part::Rot);
}

#[test]
fn the_server_answers_wrongly() {
    quick(Part::Answers);
}

#[test]
fn the_path_breaks() {
    quick(Part::Paths);
}

#[test]
fn a_stolen_server_tries_everything() {
    quick(Part::StolenServer);
}

#[test]
fn applications_misbehave() {
    quick(Part::App);
}

#[test]
fn the_same_fault_strikes_at_every_start() {
    quick(Part::Liveness);
}

/// Cases that were once found broken, each for its reason in docs/reliability.md.
#[test]
fn cases_that_were_found_hold() {
    for (case, expected) in [
        ("power:4mb:renewal:cut=10:tear=unstable:seed=93", 2),
        ("power:8mb:renewal:cut=10:tear=unstable:seed=93", 2),
        ("power:4mb:renewal:cut=2:tear=prefix-178:second=1/unstable:seed=18", 2),
        ("power:4mb:ca-rollover:cut=2:tear=prefix-1:second=1/unstable:seed=13", 2),
        ("power:8mb:renewal:cut=7:tear=prefix-1:second=2/unstable:seed=62", 1),
        ("network:8mb:install:artifact=silence", 1),
    ] {
        let (outcome, lines) = replay(case).unwrap();
        assert!(
            matches!(outcome, Outcome::Target { starts } if starts == expected),
            "{case}: {outcome:?}\n{}",
            lines.join("\n")
        );
    }
}

/// Before the head, and in the middle of a chunk.
#[test]
fn a_server_that_goes_silent_in_an_install_is_given_up_soon() {
    let tries = u64::from(limits::CHUNK_TRIES);
    let waits_ms = (1..tries).map(|before| before * limits::CHUNK_RETRY_MS).sum::<u64>();
    let most = Duration::from_millis(tries * limits::SILENCE_MS + waits_ms + 1000);
    let stalls: [fn(Reply) -> Reply; 2] = [
        |reply| reply.delivery(Delivery::StallAfter { bytes: 0 }),
        |reply| reply.delivery(Delivery::StallAfter { bytes: 40_000 }),
    ];
    for stall in stalls {
        let took = in_paused_time(async {
            let mut world = prepare("8mb", Lifecycle::Install).await?.world.restore(1)?;
            let twist = Twist { exchange: Exchange::Artifact, apply: Apply::ToReply(stall) };
            world.server.state().twists = vec![twist];
            let start = Instant::now();
            let end = world.device.power_on().await?;
            assert!(matches!(&end, End::Running(app) if app.version() == "1.0.0"), "{end:?}");
            Ok(start.elapsed())
        });
        let took = took.unwrap();
        assert!(took <= most, "the application was kept for {took:?}, more than {most:?}");
    }
}

/// The report in docs/reliability.md is of the cases that there are now.
#[test]
fn the_report_is_of_this_version() {
    let report = include_str!("../../../../docs/reliability.md");
    let report =
        report.split_once("<!-- power -->").unwrap().1.split_once("<!-- end of power -->").unwrap().0;
    let rows: Vec<Vec<&str>> = report
        .lines()
        .filter(|line| line.starts_with('|'))
        .skip(2)
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    let found: Vec<_> = rows.iter().map(|row| [row[0], row[1], row[2]].map(str::to_owned)).collect();
    let batches = plan(Part::Power, Size::Whole, SEED).unwrap();
    let expected: Vec<_> = batches
        .iter()
        .map(|batch| [batch.name.clone(), batch.operations.unwrap().to_string(), batch.cases().to_string()])
        .collect();
    assert_eq!(found, expected, "write the table anew: `cargo xtask campaign --only power --write`");
    for row in rows {
        assert_eq!(row.last(), Some(&"0"), "the promise was broken: {row:?}");
    }
}
