//! The quick part of the campaigns: a sample of the cases. `cargo xtask campaign` runs them all.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use sim::campaign::{Part, Size, plan, run};

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
fn applications_misbehave() {
    quick(Part::App);
}
