//! The ledger of what a server acknowledged, and the comparison of a server with it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hyper::Method;
use manifest::Digest;
use rcgen::KeyPair;
use serde_json::{Value, json};
use sqlx::{AnyConnection, Connection as _};

use super::instance::Remote;
use super::load::{ROLLOUT, VALVE};
use crate::app::{csr, new_key};
use crate::client::{Answer, Identity};
use crate::place::Place;

/// What the server acknowledged, in the words of its clients.
#[derive(Default)]
pub(super) struct Ledger {
    /// Sequence numbers of product `lamp` that were tried, and the last of them.
    pub(super) tried_sequence: u64,
    /// Published: sequence number and digest.
    pub(super) releases: Vec<(u64, Digest)>,
    pub(super) artifacts: Vec<Digest>,
    pub(super) devices: Vec<Device>,
    pub(super) tried_devices: usize,
    /// By id, with those that were not compared yet.
    tokens: BTreeMap<String, Token>,
    /// Whether the rollout runs; both while an answer is awaited.
    valve_runs: Vec<bool>,
    /// No answer may take as long.
    limit: Duration,
    slowest: Duration,
    acknowledged: u64,
    refused: u64,
    pub(super) unanswered: u64,
}

pub(super) type Shared = Arc<Mutex<Ledger>>;

/// How a request ended.
#[derive(Clone, Copy)]
pub(super) enum Settled {
    Acknowledged,
    /// 503 or 507.
    Refused,
    Unanswered,
}

/// A device that the server acknowledged to have made.
pub(super) struct Device {
    pub(super) id: String,
    token: String,
    key: Arc<KeyPair>,
    /// With the acknowledged certificate.
    pub(super) identity: Option<Identity>,
    pub(super) stage: Stage,
    /// The number in the last check-in that was answered.
    pub(super) told: u64,
    pub(super) note: u64,
    pub(super) tried_note: u64,
}

/// How far a device has come with release 1, as the server acknowledged it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    New,
    Offered,
    Failed,
    Installed,
    Healthy,
}

struct Token {
    secret: String,
    tried_to_revoke: bool,
    is_revoked: bool,
}

impl Ledger {
    pub(super) fn new(limit: Duration) -> Shared {
        let ledger = Self { tried_sequence: 1, valve_runs: vec![true], limit, ..Self::default() };
        Arc::new(Mutex::new(ledger))
    }

    pub(super) fn settle(&mut self, settled: Settled, took: Duration) {
        assert!(took < self.limit, "a client waited for {took:?}");
        self.slowest = self.slowest.max(took);
        *match settled {
            Settled::Acknowledged => &mut self.acknowledged,
            Settled::Refused => &mut self.refused,
            Settled::Unanswered => &mut self.unanswered,
        } += 1;
    }

    pub(super) fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    pub(super) fn refused(&self) -> u64 {
        self.refused
    }

    /// Whether a device has come all the way.
    pub(super) fn has_healthy(&self) -> bool {
        self.devices.iter().any(|device| device.stage == Stage::Healthy)
    }

    /// Whether there is something to lose.
    pub(super) fn is_put_to_test(&self) -> bool {
        !self.releases.is_empty() && self.has_healthy()
    }

    pub(super) fn made_device(&mut self, device: Device) -> usize {
        self.devices.push(device);
        self.devices.len() - 1
    }

    pub(super) fn made_token(&mut self, id: &str, secret: String) {
        let token = Token { secret, tried_to_revoke: false, is_revoked: false };
        self.tokens.insert(id.to_owned(), token);
    }

    pub(super) fn revoking(&mut self, id: &str, is_revoked: bool) {
        let token = self.tokens.get_mut(id).unwrap();
        (token.tried_to_revoke, token.is_revoked) = (true, is_revoked);
    }

    pub(super) fn valve_is(&mut self, running: bool) {
        assert!(self.valve_runs.contains(&running), "{VALVE}: what was acknowledged is lost");
        self.valve_runs = vec![running];
    }

    pub(super) fn valve_is_asked(&mut self, running: bool) {
        self.valve_runs.push(running);
    }

    /// Prints the figures, as text and for `cargo xtask campaign`, and fails when nothing was put to the test.
    pub(super) fn tell(&self, test: &str, kind: &str, faults: u32) {
        let Self { acknowledged, refused, unanswered, .. } = self;
        let (devices, releases) = (self.devices.len(), self.releases.len());
        let slowest_ms = u64::try_from(self.slowest.as_millis()).unwrap();
        println!(
            "{faults} {kind}; {acknowledged} requests acknowledged ({devices} devices, {releases} releases), \
             {refused} refused, {unanswered} unanswered; the slowest took {slowest_ms} ms"
        );
        let figures = json!({
            "test": test, "kind": kind, "faults": faults, "acknowledged": acknowledged, "refused": refused,
            "unanswered": unanswered, "slowest_ms": slowest_ms,
        });
        println!("figures: {figures}");
        assert!(faults > 0 && self.is_put_to_test(), "nothing was put to the test");
    }
}

impl Device {
    pub(super) fn new(id: &str, token: &str, key: Arc<KeyPair>) -> Self {
        Self {
            id: id.to_owned(),
            token: token.to_owned(),
            key,
            identity: None,
            stage: Stage::New,
            told: 0,
            note: 0,
            tried_note: 0,
        }
    }
}

/// Compares what a server has with what was acknowledged. Nobody works meanwhile.
pub(super) async fn check(remote: &Remote, place: &Place, ledger: &Shared) {
    let mut taken = std::mem::take(&mut *ledger.lock().unwrap());
    check_artifacts(place, &taken).await;
    check_devices(remote, &mut taken).await;
    check_releases(remote, &taken).await;
    check_tokens(remote, &mut taken).await;
    let valve =
        remote.admin(Method::GET, &format!("/rollouts/{VALVE}"), "").await.unwrap().expect(200).json();
    taken.valve_is(valve["state"] == "open");
    check_database(place.connect().await).await;
    *ledger.lock().unwrap() = taken;
}

async fn check_artifacts(place: &Place, ledger: &Ledger) {
    let stored = place.stored_artifacts().await;
    for (name, content) in &stored {
        assert_eq!(*name, content.to_string(), "half an artifact is left");
    }
    for digest in &ledger.artifacts {
        assert!(stored.iter().any(|(_, content)| content == digest), "{digest} was uploaded and is lost");
    }
}

async fn check_devices(remote: &Remote, ledger: &mut Ledger) {
    let shown = remote.list("/devices").await;
    for device in &mut ledger.devices {
        let id = &device.id;
        let shown = shown.iter().find(|shown| shown["id"] == id.as_str());
        let shown = shown.unwrap_or_else(|| panic!("{id} was made and is lost"));
        let note = shown["note"].as_str().unwrap_or_default().parse().unwrap_or(0);
        assert!((device.note..=device.tried_note).contains(&note), "{id}: {note} of {}", device.note);
        if device.identity.is_none() {
            // It got no answer, and asks again with the same key, as devices do.
            let again = async || remote.enroll(&device.id, &device.token, &csr(&device.key)).await.unwrap();
            let certificate = once_served(again).await.expect(200).certificate();
            device.identity = Some(Identity { certificate, key_der: device.key.serialize_der() });
            continue;
        }
        assert_eq!(shown["state"], "enrolled", "{id}");
        let told =
            shown["updater_version"].as_str().and_then(|version| version.strip_prefix("0.1.")?.parse().ok());
        assert!(told.unwrap_or(0) >= device.told, "{id}: {told:?} of {}", device.told);
        let attempt = shown["attempt"]["state"].as_str();
        let is_as_acknowledged = match (device.stage, attempt) {
            (Stage::New, _) => true,
            (_, None) => false,
            (Stage::Offered, Some(_)) => true,
            (Stage::Failed, Some(state)) => state == "failed",
            (Stage::Installed, Some(state)) => matches!(state, "installed" | "healthy"),
            (Stage::Healthy, Some(state)) => state == "healthy",
        };
        assert!(is_as_acknowledged, "{id}: {attempt:?}, acknowledged was {:?}", device.stage);
    }
    // A token that was used stays so, for every other key.
    for device in ledger.devices.iter().rev().take(4) {
        let key = new_key();
        let other = async || remote.enroll(&device.id, &device.token, &csr(&key)).await.unwrap();
        once_served(other).await.expect(401);
    }
}

/// The answer of a server that has just come back, which may be busy with what was begun before: a session of PostgreSQL that
/// nobody can reach holds its locks for 15 s. Who is told to come again has lost nothing.
async fn once_served(ask: impl AsyncFn() -> Answer) -> Answer {
    let ends = Instant::now() + Duration::from_secs(25);
    loop {
        let answer = ask().await;
        if answer.status != 503 || Instant::now() > ends {
            return answer;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn check_releases(remote: &Remote, ledger: &Ledger) {
    let shown = remote.list("/products/lamp/releases").await;
    for (sequence, digest) in &ledger.releases {
        let is_it = |shown: &&Value| {
            shown["sequence"].as_u64() == Some(*sequence) && shown["digest"] == digest.to_string().as_str()
        };
        assert!(shown.iter().any(|shown| is_it(&shown)), "release {sequence} was published and is lost");
    }
    // What is served is whole, acknowledged or not.
    let identity = ledger.devices.iter().find_map(|device| device.identity.as_ref());
    let Some(identity) = identity else { return };
    for release in shown {
        let digest = release["digest"].as_str().unwrap();
        let path = format!("{}{digest}", wire::ARTIFACTS_PATH);
        let download = async || remote.device(Some(identity)).await.unwrap().get(&path, &[]).await;
        let image = once_served(download).await.expect(200).body;
        assert_eq!(Digest::of(&image).to_string(), digest);
    }
}

async fn check_tokens(remote: &Remote, ledger: &mut Ledger) {
    for (id, token) in std::mem::take(&mut ledger.tokens) {
        let status = remote.with_token(token.secret).admin(Method::GET, "/whoami", "").await.unwrap().status;
        let is_good = match status.as_u16() {
            200 => true,
            401 => false,
            other => panic!("{id}: {other}"),
        };
        assert!(is_good || token.tried_to_revoke, "{id} was made and is lost");
        assert!(!is_good || !token.is_revoked, "{id} was revoked and is good");
    }
}

/// What must hold in the database whatever was acknowledged: nothing is there by half.
async fn check_database(mut database: AnyConnection) {
    for (what, rows) in [
        (
            "devices without exactly one audit line",
            "SELECT id FROM devices d WHERE \
                 (SELECT COUNT(*) FROM audit WHERE kind = 'device' AND action = 'device.create' AND subject = d.id) <> 1",
        ),
        (
            "audit lines without their device",
            "SELECT subject FROM audit WHERE action = 'device.create' AND subject NOT IN (SELECT id FROM devices)",
        ),
        (
            "releases without exactly one audit line",
            "SELECT CAST(sequence AS TEXT) FROM releases r WHERE r.product = 'lamp' AND \
                 (SELECT COUNT(*) FROM audit WHERE action = 'release.publish' AND product = 'lamp' \
                      AND subject = r.product || ' ' || CAST(r.sequence AS TEXT)) <> 1",
        ),
        (
            "tokens without exactly one audit line",
            "SELECT id FROM api_tokens t WHERE name <> 'first' AND \
                 (SELECT COUNT(*) FROM audit WHERE action = 'token.create' AND subject = t.id) <> 1",
        ),
        (
            "revoked tokens without exactly one audit line",
            "SELECT id FROM api_tokens t WHERE \
                 (SELECT COUNT(*) FROM audit WHERE action = 'token.revoke' AND subject = t.id) \
                 <> CASE WHEN revoked_at_ms IS NULL THEN 0 ELSE 1 END",
        ),
        (
            "devices whose certificate is not there",
            "SELECT id FROM devices WHERE certificate_serial IS NOT NULL \
                 AND certificate_serial NOT IN (SELECT serial FROM certificates)",
        ),
    ] {
        let found: Vec<String> = sqlx::query_scalar(rows).fetch_all(&mut database).await.unwrap();
        assert_eq!(found, Vec::<String>::new(), "{what}");
    }
    // No device has left the rollout, so that its counters are the devices'; there are none before the first was offered it.
    let counters: (i64, i64, i64, i64, i64, i64, i64) = sqlx::query_as(
        "SELECT CAST(COALESCE(SUM(offered), 0) AS BIGINT), CAST(COALESCE(SUM(installed), 0) AS BIGINT), \
             CAST(COALESCE(SUM(healthy), 0) AS BIGINT), CAST(COALESCE(SUM(failed), 0) AS BIGINT), \
             CAST(COALESCE(SUM(crashed), 0) AS BIGINT), CAST(COALESCE(SUM(silent), 0) AS BIGINT), \
             CAST(COALESCE(SUM(unheard), 0) AS BIGINT) FROM rollout_counters WHERE rollout = $1",
    )
    .bind(ROLLOUT)
    .fetch_one(&mut database)
    .await
    .unwrap();
    let states: Vec<(String, i64)> = sqlx::query_as(
        "SELECT attempt_state, CAST(COUNT(*) AS BIGINT) FROM devices WHERE attempt_rollout = $1 GROUP BY attempt_state",
    )
    .bind(ROLLOUT)
    .fetch_all(&mut database)
    .await
    .unwrap();
    let in_state =
        |wanted: &str| states.iter().find(|(state, _)| state == wanted).map_or(0, |(_, count)| *count);
    let all: i64 = states.iter().map(|(_, count)| count).sum();
    let of_devices = (
        all,
        in_state("installed"),
        in_state("healthy"),
        in_state("failed"),
        in_state("crashed"),
        in_state("silent"),
        in_state("unheard"),
    );
    assert_eq!(counters, of_devices, "the counters of {ROLLOUT} are not those of its devices");
    database.close().await.unwrap();
}
