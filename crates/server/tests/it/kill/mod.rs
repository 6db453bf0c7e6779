//! `kill -9` in the middle of publishing, enrolling and checking in: nothing that was acknowledged is lost, and nothing
//! half-written is served.

mod instance;
mod work;

use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use self::instance::{Instance, serve_if_told};
use self::work::{Shared, check, make_product, work};
use crate::app::TestApp;

/// How long a server is killed again and again.
const CAMPAIGN: Duration = Duration::from_secs(8);

/// A server is killed within so much time after the work begins, in milliseconds.
const LIFE_MS: std::ops::Range<u64> = 20..600;

fn random(test: &str) -> StdRng {
    let seed = rand::random();
    println!("{test}: seed {seed}");
    StdRng::seed_from_u64(seed)
}

#[test]
fn nothing_acknowledged_is_lost_by_kill_9() {
    serve_if_told();
    const TEST: &str = "kill::nothing_acknowledged_is_lost_by_kill_9";
    let mut random = random(TEST);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let TestApp { server, token, dir } = TestApp::start().await;
        server.shutdown().await;
        let ledger = Shared::default();
        let mut instance = Instance::start(&dir, &token, TEST);
        make_product(&instance.remote).await;
        let start = Instant::now();
        let mut kills = 0;
        while start.elapsed() < CAMPAIGN {
            let remote = instance.remote.clone();
            let life = Duration::from_millis(random.gen_range(LIFE_MS));
            tokio::join!(work(&remote, &ledger), async {
                tokio::time::sleep(life).await;
                instance.kill();
            });
            kills += 1;
            instance = Instance::start(&dir, &token, TEST);
            check(&instance.remote, &dir, &ledger).await;
        }
        instance.kill();
        tell(kills, &ledger);
    });
}

#[test]
#[ignore = "needs Postgres and S3: cargo xtask ci --only server-backends"]
fn killing_one_of_two_instances_loses_nothing() {
    serve_if_told();
    const TEST: &str = "kill::killing_one_of_two_instances_loses_nothing";
    let mut random = random(TEST);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let TestApp { server, token, dir } = TestApp::start().await;
        server.shutdown().await;
        let other_dir = dir.beside();
        let ledger = Shared::default();
        let other = Instance::start(&other_dir, &token, TEST);
        make_product(&other.remote).await;
        let start = Instant::now();
        let mut kills = 0;
        while start.elapsed() < CAMPAIGN {
            let instance = Instance::start(&dir, &token, TEST);
            let remote = instance.remote.clone();
            let life = Duration::from_millis(random.gen_range(LIFE_MS));
            tokio::join!(work(&remote, &ledger), async {
                tokio::time::sleep(life).await;
                instance.kill();
            });
            kills += 1;
            // The other one has it all, at once.
            check(&other.remote, &other_dir, &ledger).await;
        }
        other.kill();
        tell(kills, &ledger);
    });
}

/// Shows what was put to the test, and fails when that was nothing.
fn tell(kills: u32, ledger: &Shared) {
    let ledger = ledger.lock().unwrap();
    let (releases, devices) = (ledger.releases.len(), ledger.devices.len());
    let (check_ins, unanswered) = (ledger.check_ins, ledger.unanswered);
    println!(
        "{kills} kills; acknowledged: {releases} releases, {devices} devices, {check_ins} check-ins; \
         {unanswered} requests unanswered"
    );
    assert!(kills >= 3 && releases > 0 && devices > 0 && check_ins > 0 && unanswered >= u64::from(kills));
}
