//! Attacks on a server in a process of its own, with an honest device and an honest operator beside them, who must not notice
//! (docs/threat-model.md). `cargo xtask campaign --only server` runs each for longer, in a build that is optimised.
//!
//! Each address of 127.0.0.0/8 is a client of its own.

mod honest;
mod load;

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use std::{env, thread};

use hyper::Method;
use serde_json::{Value, json};
use sqlx::{AnyConnection, Connection as _};
use tokio_util::sync::CancellationToken;

use self::honest::Honest;
use super::instance::{Instance, Remote, serve_if_told};
use super::rounds;
use crate::app::{TestApp, csr, new_key, product_body};
use crate::client::Identity;
use crate::place::Place;

/// What 99 of 100 requests of somebody honest take at most. Without optimisation, and beside other tests, it is a limit for what
/// stands still.
const MAX_P99: Duration = Duration::from_millis(if cfg!(debug_assertions) { 5000 } else { 250 });

/// Devices that are registered beside those that take part.
const REGISTERED: u32 = 1000;

/// Certificates that a device gets in a day by renewal (docs/certificates.md).
const RENEWALS: i64 = 8;

/// Attackers, each with its address.
const ATTACKERS: [Ipv4Addr; 4] = [
    Ipv4Addr::new(127, 0, 0, 2),
    Ipv4Addr::new(127, 0, 0, 3),
    Ipv4Addr::new(127, 0, 0, 4),
    Ipv4Addr::new(127, 0, 0, 5),
];

/// They are about what a machine can do: one after the other.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Whether the campaign runs this, with all of an attack.
fn is_whole() -> bool {
    env::var_os("PITSTOP_TEST_ROUNDS").is_some()
}

/// Connections of an attack that is about connections: the default of `max-connections`, or some.
fn connections() -> usize {
    if is_whole() { 4096 } else { 64 }
}

/// How much of an attack goes on at once: all of it, or an eighth.
fn at_once(whole: usize) -> usize {
    if is_whole() { whole } else { whole.div_ceil(8) }
}

/// What became of what attackers tried.
#[derive(Default)]
struct Counts {
    attempts: AtomicU64,
    /// Got what they asked for.
    answered: AtomicU64,
    /// Were told that they do not: 4xx, 5xx.
    refused: AtomicU64,
    /// Were closed by the server, after an answer or without one.
    closed: AtomicU64,
    /// Connections that are open now.
    kept: AtomicU64,
}

fn add(count: &AtomicU64) {
    count.fetch_add(1, Ordering::Relaxed);
}

fn of(count: &AtomicU64) -> u64 {
    count.load(Ordering::Relaxed)
}

impl Counts {
    /// Counts an answer by its status.
    fn answer(&self, status: u16) {
        add(if status < 400 { &self.answered } else { &self.refused });
    }
}

/// Whom the attack is for, and with what.
#[derive(Clone)]
struct Target {
    remote: Remote,
    counts: Arc<Counts>,
    stop: CancellationToken,
}

impl Target {
    fn goes_on(&self) -> bool {
        !self.stop.is_cancelled()
    }

    /// Waits, unless it is over.
    async fn pause(&self, duration: Duration) {
        self.stop.run_until_cancelled(tokio::time::sleep(duration)).await;
    }
}

/// A server with a fleet.
struct World {
    place: Place,
    instance: Instance,
    honest: Identity,
    seconds: u32,
}

/// How an attack ended.
struct Ended {
    counts: Arc<Counts>,
    /// Of the honest device.
    check_ins: u64,
    metrics: String,
    log_bytes: u64,
    database: AnyConnection,
}

impl World {
    /// A server whose bounds differ from the defaults by `limits`.
    async fn start(test: &str, limits: Value) -> Self {
        let TestApp { server, token, dir: place } = TestApp::start_at(Place::embedded(), |_| {}).await;
        server.shutdown().await;
        let told = json!({ "limits": limits, "log": true });
        let instance = Instance::start_with(&place, &token, test, &told);
        let remote = &instance.remote;
        let lamp = product_body("lamp").to_string();
        remote.admin(Method::POST, "/products", lamp).await.unwrap().expect(201);
        let mut database = place.connect().await;
        let fleet = format!(
            "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {REGISTERED}) \
             INSERT INTO devices (id, product, note, token_hash, created_at_ms) \
                 SELECT 'fleet-' || i, 'lamp', '', i, 0 FROM n"
        );
        sqlx::query(sqlx::AssertSqlSafe(fleet)).execute(&mut database).await.unwrap();
        database.close().await.unwrap();
        let honest = enroll(remote, "honest").await;
        // What is logged of that is counted before.
        tokio::time::sleep(Duration::from_millis(100)).await;
        Self { place, instance, honest, seconds: rounds(2) }
    }

    /// Lets an attack have the server for a while; then the honest ones and the figures are looked at.
    async fn under<A>(self, attack: &str, begin: impl FnOnce(Target) -> A + Send + 'static) -> Ended
    where
        A: Future<Output = ()> + Send + 'static,
    {
        let Self { place, instance, honest, seconds } = self;
        let counts = Arc::new(Counts::default());
        let stop = CancellationToken::new();
        let target = Target { remote: instance.remote.clone(), counts: counts.clone(), stop: stop.clone() };
        let mut database = place.connect().await;
        let log_before = instance.log_bytes();
        let half = Duration::from_secs(u64::from(seconds)) / 2;
        // On threads of their own: what is measured is the server. An attack has one of the machine's processors at most.
        let honest_stop = stop.clone();
        let remote = instance.remote.clone();
        let honest = thread::spawn(move || Honest::new(remote, honest).run(honest_stop));
        let attackers = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
            runtime.unwrap().block_on(begin(target));
        });
        tokio::time::sleep(half).await;
        let middle = size_bytes(&mut database).await;
        tokio::time::sleep(half).await;
        let kept = of(&counts.kept);
        let grown = size_bytes(&mut database).await.saturating_sub(middle);
        let metrics = instance.remote.metrics().await;
        stop.cancel();
        let honest = tokio::task::spawn_blocking(move || honest.join().unwrap()).await.unwrap();
        tokio::task::spawn_blocking(move || attackers.join().unwrap()).await.unwrap();
        let log_bytes = instance.log_bytes() - log_before;
        instance.kill();

        let per_min = |bytes: u64, time: Duration| (bytes as f64 * 60.0 / time.as_secs_f64()) as u64;
        let (device, operator) = (honest.device.p99(), honest.operator.p99());
        let ms = |time: Duration| u64::try_from(time.as_micros().div_ceil(1000)).unwrap();
        let figures = json!({
            "attack": attack,
            "seconds": seconds,
            "attempts": of(&counts.attempts),
            "answered": of(&counts.answered),
            "refused": of(&counts.refused),
            "closed": of(&counts.closed),
            "kept": kept,
            "device_requests": honest.device.count(),
            "device_p99_ms": ms(device),
            "operator_requests": honest.operator.count(),
            "operator_p99_ms": ms(operator),
            "slowest_ms": ms(honest.device.slowest().max(honest.operator.slowest())),
            "database_bytes_per_min": per_min(grown, half),
            "log_bytes_per_min": per_min(log_bytes, 2 * half),
        });
        println!("figures: {figures}");
        assert!(device <= MAX_P99 && operator <= MAX_P99, "the honest ones notice: {figures}");
        // With what an honest device tells, and the pages of a database of a few hundred KiB.
        assert!(grown < 512 << 10, "the database grows: {figures}");
        assert!(log_bytes < 16 << 10, "the log grows: {figures}");
        let least = u64::from(seconds) * 10;
        assert!(honest.device.count() >= least, "too few to tell: {figures}");
        Ended { counts, check_ins: honest.device.count(), metrics, log_bytes, database }
    }
}

impl Ended {
    /// A line of `/metrics`.
    fn metric(&self, name: &str) -> u64 {
        let value = self.metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.map_or(0, |value| value.parse().unwrap())
    }

    /// Rows of a device in a table.
    async fn rows(&mut self, table: &str, device: &str) -> i64 {
        let query = format!("SELECT CAST(COUNT(*) AS BIGINT) FROM {table} WHERE device = '{device}'");
        sqlx::query_scalar(sqlx::AssertSqlSafe(query)).fetch_one(&mut self.database).await.unwrap()
    }
}

/// What the database has, in its file or on the way there.
async fn size_bytes(database: &mut AnyConnection) -> u64 {
    let mut size = 1;
    for pragma in ["PRAGMA page_count", "PRAGMA page_size"] {
        let value: i64 = sqlx::query_scalar(pragma).fetch_one(&mut *database).await.unwrap();
        size *= u64::try_from(value).unwrap();
    }
    size
}

/// A device of product `lamp` that has yet to enroll: its token.
async fn make(remote: &Remote, id: &str) -> String {
    let body = json!({ "id": id, "product": "lamp" }).to_string();
    let made = remote.admin(Method::POST, "/devices", body).await.unwrap().expect(201).json();
    made["enrollment_token"].as_str().unwrap().to_owned()
}

/// A device of product `lamp` with a certificate.
async fn enroll(remote: &Remote, id: &str) -> Identity {
    let token = make(remote, id).await;
    let key = new_key();
    let certificate = remote.enroll(id, &token, &csr(&key)).await.unwrap().expect(200).certificate();
    Identity { certificate, key_der: key.serialize_der() }
}

/// Runs what a test does, alone, unless the process is to be its server.
fn alone(test: impl Future<Output = ()>) {
    serve_if_told();
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    tokio::runtime::Runtime::new().unwrap().block_on(test);
}

/// What the others are to be compared with.
#[test]
fn honest_clients_alone() {
    const TEST: &str = "faults::attacks::honest_clients_alone";
    alone(async {
        let world = World::start(TEST, json!({})).await;
        world.under("none", |target| async move { target.stop.cancelled().await }).await;
    });
}

/// News at every check-in with texts as long as they may be, renewals in a row, and an enrollment without end.
#[test]
fn one_device_cannot_fill_the_disk() {
    const TEST: &str = "faults::attacks::one_device_cannot_fill_the_disk";
    alone(async {
        let world = World::start(TEST, json!({})).await;
        let remote = &world.instance.remote;
        let identity = enroll(remote, "greedy").await;
        let (token, request) = (make(remote, "again").await, csr(&new_key()));
        remote.enroll("again", &token, &request).await.unwrap().expect(200);
        // All that a day allows, before the attack: how many it would get in its time depends on the machine.
        for _ in 0..RENEWALS {
            remote.renew(&identity, &csr(&new_key())).await.unwrap().expect(200);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        let greedy = load::Greedy { identity, credentials: format!("again:{token}"), csr: request };
        let mut ended = world.under("disk", |target| load::news_renewals_enrollments(target, greedy)).await;
        assert_eq!(ended.log_bytes, 0);
        assert_eq!(
            (ended.rows("certificates", "greedy").await, ended.rows("certificates", "again").await),
            (1 + RENEWALS, 1)
        );
        assert_eq!(ended.metric("pitstop_enrollments_total{outcome=\"renewed\"}"), RENEWALS.unsigned_abs());
        // 200 of what it says and one that counts the rest; its making, its enrollment and its renewals.
        for device in ["greedy", "again"] {
            let events = ended.rows("events", device).await;
            assert!(events <= 201 + 2 + RENEWALS, "{device}: {events} events");
            assert!(!is_whole() || events > 200, "{device}: the bound was not reached");
        }
    });
}

/// Four addresses hold as many connections as the server has places, and ask for something every 20 s.
#[test]
fn strangers_cannot_hold_all_connections() {
    const TEST: &str = "faults::attacks::strangers_cannot_hold_all_connections";
    alone(async {
        let places = connections();
        let limits = json!({ "max_connections": places, "limit_loopback": true });
        let world = World::start(TEST, limits).await;
        let ended = world.under("connections", move |target| load::hold_connections(target, places)).await;
        assert!(of(&ended.counts.answered) > 0, "nobody came in");
        let open = ended.metric("pitstop_connections_open{listener=\"device\"}");
        let most = (places + 512) as u64;
        assert!(open <= most, "{open} of {most}");
    });
}

/// More than the admin listener has places for.
#[test]
fn logins_without_a_body_hold_up_nobody() {
    const TEST: &str = "faults::attacks::logins_without_a_body_hold_up_nobody";
    alone(async {
        let places = connections();
        let world = World::start(TEST, json!({ "max_connections": places })).await;
        let count = places + places / 4;
        let ended = world.under("logins", move |target| load::logins_without_a_body(target, count)).await;
        assert!(of(&ended.counts.attempts) >= count as u64, "too few came");
        assert!(of(&ended.counts.closed) > 0, "nobody gave way");
        assert_eq!(of(&ended.counts.answered), 0);
    });
}

/// What is no handshake, in a loop.
#[test]
fn strangers_cannot_fill_the_log() {
    const TEST: &str = "faults::attacks::strangers_cannot_fill_the_log";
    alone(async {
        let world = World::start(TEST, json!({ "limit_loopback": true })).await;
        let ended = world.under("log", load::broken_handshakes).await;
        assert_eq!(ended.log_bytes, 0);
        assert!(of(&ended.counts.attempts) > 100, "hardly anybody came");
        let failed = ended.metric("pitstop_tls_handshakes_total{outcome=\"failed\"}");
        let limited = ended.metric("pitstop_rate_limited_requests_total{by=\"address\"}");
        // Those on the way are not counted yet.
        let counted = failed + limited;
        assert!(counted.abs_diff(of(&ended.counts.closed)) <= 64, "{failed} + {limited}: {counted}");
    });
}

/// An address with as many connections as it may have begins more.
#[test]
fn an_address_past_its_connections_gets_no_handshake() {
    const TEST: &str = "faults::attacks::an_address_past_its_connections_gets_no_handshake";
    alone(async {
        let most = connections() / 4;
        let limits = json!({ "max_connections_per_address": most, "limit_loopback": true });
        let world = World::start(TEST, limits).await;
        let ended = world.under("handshakes", move |target| load::handshakes_past(target, most)).await;
        let limited = ended.metric("pitstop_rate_limited_requests_total{by=\"address\"}");
        assert!(limited > 100, "{limited}");
        // Those who were let in, the honest device and its enrollment; some may be on their way.
        let full = ended.metric("pitstop_tls_handshakes_total{outcome=\"full\"}");
        let most = most as u64 + ended.check_ins + 8;
        assert!(full <= most, "{full} handshakes of {most}");
    });
}

/// Tokens of the API, of the login and of enrollments.
#[test]
fn guesses_hold_up_nobody() {
    const TEST: &str = "faults::attacks::guesses_hold_up_nobody";
    alone(async {
        let world = World::start(TEST, json!({ "limit_loopback": true })).await;
        let ended = world.under("guesses", load::guesses).await;
        assert_eq!(of(&ended.counts.answered), 0);
        let wrong =
            |listener| ended.metric(&format!("pitstop_wrong_credentials_total{{listener=\"{listener}\"}}"));
        let (admin, device) = (wrong("admin"), wrong("device"));
        assert!(admin > 8 && device > 0, "hardly anybody guessed: {admin}, {device}");
        // None was refused for anything else; some are on their way.
        assert!(admin + device + 256 >= of(&ended.counts.refused), "{admin} + {device}");
    });
}
