//! A database that goes away and comes back.

use std::time::{Duration, Instant};

use hyper::Method;
use rand::Rng as _;
use rand::seq::SliceRandom as _;
use serde_json::json;
use sqlx::{Connection as _, Executor as _};
use wire::Message as _;

use super::instance::Remote;
use super::ledger::{Ledger, Shared, check};
use super::load::{prepare, work};
use super::postgres::Cluster;
use super::proxy::Proxy;
use super::{random, rounds};
use crate::app::{TestApp, check_in, csr, new_key};
use crate::client::{Answer, Connection, Identity, request};
use crate::place::Place;

/// Time for the server to be as before once the database is back: a group of writes that hangs is given up after 10 s.
const RECOVERY: Duration = Duration::from_secs(25);

/// A device that no load has.
pub(super) struct Probe {
    identity: Identity,
    told: u32,
}

impl Probe {
    pub(super) async fn new(remote: &Remote) -> Self {
        let body = json!({ "id": "probe", "product": "lamp" }).to_string();
        let made = remote.admin(Method::POST, "/devices", body).await.unwrap().expect(201).json();
        let key = new_key();
        let token = made["enrollment_token"].as_str().unwrap();
        let certificate = remote.enroll("probe", token, &csr(&key)).await.unwrap().expect(200).certificate();
        Self { identity: Identity { certificate, key_der: key.serialize_der() }, told: 0 }
    }

    /// A check-in that tells something new, so that it is answered after a commit.
    pub(super) async fn tell_news(&mut self, remote: &Remote) -> std::io::Result<Answer> {
        self.told += 1;
        let mut said = check_in(None);
        said.updater_version = format!("0.2.{}", self.told);
        let headers = [("content-type", wire::MEDIA_TYPE)];
        let request = request(Method::POST, wire::CHECK_IN_PATH, &headers, said.to_cbor());
        remote.device(Some(&self.identity)).await?.send(request).await
    }

    /// Returns when the server writes again what devices tell.
    pub(super) async fn until_served(&mut self, remote: &Remote) {
        let ends = Instant::now() + RECOVERY;
        loop {
            let answer = self.tell_news(remote).await.unwrap();
            if answer.status == 200 {
                return;
            }
            assert!(Instant::now() < ends, "the database is back, and the server is not: {}", answer.text());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// Returns when the work is well under way.
async fn until_healthy(ledger: &Shared) {
    while !ledger.lock().unwrap().has_healthy() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn ready(app: &TestApp) -> u16 {
    let mut connection = Connection::plain(app.server.admin_addr()).await.unwrap();
    connection.get("/readyz", &[]).await.status.as_u16()
}

async fn until_ready(app: &TestApp, expected: u16) {
    let ends = Instant::now() + RECOVERY;
    while ready(app).await != expected {
        assert!(Instant::now() < ends, "/readyz is not {expected}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_sqlite_database_that_is_locked_is_told_and_waited_for() {
    const TEST: &str = "faults::database::an_sqlite_database_that_is_locked_is_told_and_waited_for";
    let app = TestApp::start_at(Place::embedded(), |_| {}).await;
    let remote = Remote::of(&app);
    // A lock is waited for for 5 s, a connection to wait with for 10 s.
    let ledger = Ledger::new(Duration::from_secs(18));
    prepare(&remote).await;
    let mut probe = Probe::new(&remote).await;
    let mut other = app.dir.connect().await;
    work(&remote, &ledger, async {
        until_healthy(&ledger).await;
        other.execute("BEGIN EXCLUSIVE").await.unwrap();
        let refused = probe.tell_news(&remote).await.unwrap().expect(503);
        assert!(refused.header("retry-after").parse::<u32>().unwrap() >= 5, "{:?}", refused.headers);
        assert_eq!(refused.header("connection"), "close");
        assert!(!refused.text().contains("SQL"), "devices are told nothing of it: {}", refused.text());
        other.execute("ROLLBACK").await.unwrap();
        probe.until_served(&remote).await;
    })
    .await;
    other.close().await.unwrap();
    assert!(ledger.lock().unwrap().refused() > 0);
    check(&remote, &app.dir, &ledger).await;
    ledger.lock().unwrap().tell(TEST, "locks", 1);
}

/// What happens to a PostgreSQL database or on the way to it.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// It is stopped at once, and started again after a while.
    Stopped,
    /// Its sessions are ended.
    SessionsEnded,
    /// The connections to it are closed on the way.
    Cut,
    /// Nothing moves for a while.
    StandsStill,
    /// Nothing ever moves again on the connections that there are, as after a firewall forgot them.
    Frozen,
}

impl Fault {
    const ALL: [Self; 5] = [Self::Stopped, Self::SessionsEnded, Self::Cut, Self::StandsStill, Self::Frozen];
}

/// After a power cut of both machines the database may come later.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL: cargo xtask ci --only server-backends"]
async fn a_server_that_starts_waits_for_its_postgres_database() {
    let mut cluster = Cluster::start().await;
    let place = Place::at_postgres(cluster.url(cluster.addr));
    cluster.stop();
    let starts = TestApp::start_at(place, |_| {});
    let comes = async {
        tokio::time::sleep(Duration::from_secs(8)).await;
        cluster.go().await;
    };
    let (app, ()) = tokio::join!(starts, comes);
    app.create_product("lamp").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL: cargo xtask ci --only server-backends"]
async fn a_postgres_database_that_goes_away_and_comes_back_loses_nothing() {
    const TEST: &str = "faults::database::a_postgres_database_that_goes_away_and_comes_back_loses_nothing";
    let mut random = random(TEST);
    let mut cluster = Cluster::start().await;
    let proxy = Proxy::start(cluster.addr).await;
    let place = Place::at_postgres(cluster.url(proxy.addr));
    let app = TestApp::start_at(place, |config| config.limits.answer_timeout = Duration::from_secs(3)).await;
    let remote = Remote::of(&app);
    let ledger = Ledger::new(Duration::from_secs(8));
    prepare(&remote).await;
    let mut probe = Probe::new(&remote).await;
    let mut faults: Vec<Fault> = Fault::ALL.into_iter().cycle().take(rounds(5) as usize).collect();
    faults.shuffle(&mut random);
    for fault in &faults {
        let before = Duration::from_millis(random.gen_range(300..1200));
        let away = Duration::from_millis(random.gen_range(100..4000));
        println!("{fault:?} after {before:?}, for {away:?}");
        work(&remote, &ledger, async {
            tokio::time::sleep(before).await;
            match fault {
                Fault::Stopped => {
                    cluster.stop();
                    until_ready(&app, 503).await;
                    let refused = probe.tell_news(&remote).await.unwrap().expect(503);
                    assert!(!refused.header("retry-after").is_empty());
                    tokio::time::sleep(away).await;
                    cluster.go().await;
                }
                Fault::SessionsEnded => cluster.end_sessions().await,
                Fault::Cut => proxy.cut(),
                Fault::StandsStill => {
                    proxy.stand_still(true);
                    until_ready(&app, 503).await;
                    tokio::time::sleep(away).await;
                    proxy.stand_still(false);
                }
                Fault::Frozen => proxy.freeze(),
            }
            until_ready(&app, 200).await;
            probe.until_served(&remote).await;
            tokio::time::sleep(before).await;
        })
        .await;
        check(&remote, &app.dir, &ledger).await;
    }
    let ledger = ledger.lock().unwrap();
    ledger.tell(TEST, "database away", u32::try_from(faults.len()).unwrap());
    assert!(ledger.refused() > 0, "nobody noticed");
}
