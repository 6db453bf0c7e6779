//! `kill -9` in the middle of everything, again and again.

use std::time::Duration;

use rand::Rng;

use super::instance::{Instance, serve_if_told};
use super::ledger::{Ledger, Shared, check};
use super::load::{prepare, work};
use super::{random, rounds};
use crate::app::TestApp;

/// A server is killed when it has acknowledged so many requests: by its own pace, for on a slow machine it has hardly
/// begun after a second.
const LIFE: std::ops::Range<u64> = 0..150;

/// No answer of a server that is there takes as long.
const LIMIT: Duration = Duration::from_secs(15);

#[test]
fn nothing_acknowledged_is_lost_by_kill_9() {
    serve_if_told();
    const TEST: &str = "faults::kill::nothing_acknowledged_is_lost_by_kill_9";
    let mut random = random(TEST);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let TestApp { server, token, dir } = TestApp::start().await;
        server.shutdown().await;
        let ledger = Ledger::new(LIMIT);
        let mut instance = Instance::start(&dir, &token, TEST);
        prepare(&instance.remote).await;
        let kills = rounds(8);
        for kill in 1..=kills {
            work_until_killed(instance, &ledger, kill == kills, &mut random).await;
            instance = Instance::start(&dir, &token, TEST);
            check(&instance.remote, &dir, &ledger).await;
        }
        instance.kill();
        tell(TEST, kills, &ledger);
    });
}

#[test]
#[ignore = "needs Postgres and S3: cargo xtask ci --only server-backends"]
fn killing_one_of_two_instances_loses_nothing() {
    serve_if_told();
    const TEST: &str = "faults::kill::killing_one_of_two_instances_loses_nothing";
    let mut random = random(TEST);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let TestApp { server, token, dir } = TestApp::start().await;
        server.shutdown().await;
        let other_dir = dir.beside();
        let ledger = Ledger::new(LIMIT);
        let other = Instance::start(&other_dir, &token, TEST);
        prepare(&other.remote).await;
        let kills = rounds(8);
        for kill in 1..=kills {
            let instance = Instance::start(&dir, &token, TEST);
            work_until_killed(instance, &ledger, kill == kills, &mut random).await;
            // The other one has it all, at once.
            check(&other.remote, &other_dir, &ledger).await;
        }
        other.kill();
        tell(TEST, kills, &ledger);
    });
}

/// Clients work with a server that is killed at some moment, the last time not before there is something to lose.
async fn work_until_killed(instance: Instance, ledger: &Shared, is_last: bool, random: &mut impl Rng) {
    let remote = instance.remote.clone();
    let acknowledged = || ledger.lock().unwrap().acknowledged();
    let last = acknowledged() + random.gen_range(LIFE);
    work(&remote, ledger, async {
        // Not at the very moment of an answer alone.
        tokio::time::sleep(Duration::from_millis(random.gen_range(0..50))).await;
        while acknowledged() < last || is_last && !ledger.lock().unwrap().is_put_to_test() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        instance.kill();
    })
    .await;
}

/// Shows what was put to the test, and fails when that was nothing.
fn tell(test: &str, kills: u32, ledger: &Shared) {
    let ledger = ledger.lock().unwrap();
    ledger.tell(test, "kills", kills);
    assert!(
        kills == 0 || ledger.unanswered >= u64::from(kills),
        "the server was killed when nobody asked it"
    );
}
