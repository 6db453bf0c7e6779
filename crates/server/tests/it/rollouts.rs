//! Rollouts from start to end, with a clock that is set ahead instead of waited for.

use std::time::{Duration, Instant};

use http_body_util::BodyExt as _;
use hyper::Method;
use hyper::body::Incoming;
use manifest::{PublisherKeys, Sequence, Signed};
use rollout::bucket;
use serde_json::{Value, json};
use server::Clock;
use tokio::time::timeout;
use wire::{CheckIn, Decision, Outcome, Reason, ResetCause};

use crate::app::{TestApp, check_in, csr, describe, image, publisher, sign};
use crate::client::{Connection, Identity, request};

pub(crate) const HOUR_MS: i64 = 3_600_000;
pub(crate) const DAY_MS: i64 = 24 * HOUR_MS;

/// A server with product `lamp` and its release 1, which is everywhere.
pub(crate) struct World {
    pub(crate) app: TestApp,
    pub(crate) clock: Clock,
    pub(crate) images: Vec<Vec<u8>>,
}

/// A device that runs one of the releases; each check-in is a new start.
pub(crate) struct Lamp {
    pub(crate) id: String,
    pub(crate) identity: Identity,
    pub(crate) connection: Connection,
    pub(crate) said: CheckIn,
}

impl World {
    pub(crate) async fn new() -> Self {
        let clock = Clock::default();
        let app = TestApp::start_with(|config| {
            config.clock = clock.clone();
            config.device_certificate_days = 90;
        })
        .await;
        app.create_product("lamp").await;
        let mut world = Self { app, clock, images: vec![Vec::new()] };
        world.publish(&[], "default").await;
        world
    }

    /// Publishes the next release.
    pub(crate) async fn publish(&mut self, revert_to: &[u64], rollout: &str) {
        let sequence = self.images.len() as u64;
        let version = format!("{sequence}.0.0");
        let image = image(&version);
        self.app.upload(&image).await.expect(201);
        let mut manifest = describe(&image, sequence, &version);
        manifest.revert_to =
            (!revert_to.is_empty()).then(|| revert_to.iter().copied().map(Sequence).collect());
        let body = json!({ "manifest": base64(&sign(&manifest)), "rollout": rollout });
        self.app.post("/products/lamp/releases", &body).await.expect(201);
        self.images.push(image);
    }

    /// Publishes the next release and starts a rollout of it.
    pub(crate) async fn roll_out(&mut self, revert_to: &[u64], plan: Value) -> String {
        let sequence = self.images.len();
        let plan_waves = plan["waves"].as_array().unwrap().len();
        self.publish(revert_to, "none").await;
        let body = json!({ "product": "lamp", "sequence": sequence, "plan": plan, "start": true });
        let made = self.app.post("/rollouts", &body).await.expect(201).json();
        let is_last = plan_waves == 1;
        assert_eq!(made["state"], if is_last { "open" } else { "running" }, "{made}");
        made["id"].as_str().unwrap().to_owned()
    }

    /// A device that runs release 1.
    pub(crate) async fn lamp(&self, id: &str) -> Lamp {
        let device = self.app.create_device(id, "lamp").await;
        let certificate = self.app.enroll(&device, &csr(&device.key)).await.expect(200).certificate();
        let identity = device.identity(certificate);
        let connection = self.app.connect(Some(&identity)).await;
        Lamp { id: id.to_owned(), identity, connection, said: check_in(Some((&self.images[1], 1))) }
    }

    pub(crate) async fn lamps(&self, count: usize) -> Vec<Lamp> {
        let mut lamps = Vec::new();
        for number in 1..=count {
            lamps.push(self.lamp(&format!("lamp-{number}")).await);
        }
        lamps
    }

    /// Lets devices start now and then, so that it is known how often they do.
    pub(crate) async fn habit(&self, lamps: &mut [Lamp], every_ms: i64) {
        for _ in 0..4 {
            self.clock.advance_ms(every_ms);
            for lamp in &mut *lamps {
                lamp.offered().await;
                self.until_seen(lamp).await;
            }
        }
    }

    /// A check-in that changes nothing is stored a moment later.
    pub(crate) async fn until_seen(&self, lamp: &Lamp) {
        let path = format!("/devices/{}", lamp.id);
        self.app.until(&path, |shown| shown["starts"] == lamp.said.starts).await;
    }

    pub(crate) async fn act(&self, id: &str, action: &str) -> Value {
        self.app.post(&format!("/rollouts/{id}/{action}"), &Value::Null).await.expect(200).json()
    }

    pub(crate) async fn in_state(&self, id: &str, state: &str) -> Value {
        self.app.until(&format!("/rollouts/{id}"), |rollout| rollout["state"] == state).await
    }

    /// What the audit log has of a rollout, oldest first: action and actor.
    async fn audit(&self, id: &str) -> Vec<String> {
        let lines = self.app.get(&format!("/audit?kind=rollout&subject={id}")).await;
        let line = |line: &Value| {
            let by_server = line["actor"]["id"] == "server" || line["actor"] == "server";
            format!("{}{}", line["action"].as_str().unwrap(), if by_server { " by server" } else { "" })
        };
        lines["items"].as_array().unwrap().iter().rev().map(line).collect()
    }
}

impl Lamp {
    async fn decision(&mut self) -> Decision {
        self.said.starts += 1;
        self.connection.check_in(&self.said).await.expect(200).decision()
    }

    /// The release that it is offered at a check-in.
    pub(crate) async fn offered(&mut self) -> Option<u64> {
        let decision = self.decision().await;
        let keys: PublisherKeys = [publisher().publisher_key()].into_iter().collect();
        let signed = Signed::<manifest::Manifest>::from_bytes(decision.manifest_bytes()?.to_vec());
        Some(signed.verify(&keys).unwrap().sequence.0)
    }

    /// Takes what it is offered, reports it, and starts again with it.
    pub(crate) async fn install(&mut self, world: &World, sequence: u64) {
        assert_eq!(self.offered().await, Some(sequence), "{}", self.id);
        self.connection.report(sequence, Reason::Installed).await.expect(204);
        self.runs(world, sequence);
        assert_eq!(self.offered().await, None, "{}", self.id);
    }

    /// Takes what it is offered, and starts with it: there it is offered something else.
    async fn install_on(&mut self, world: &World, sequence: u64) {
        assert_eq!(self.offered().await, Some(sequence), "{}", self.id);
        self.connection.report(sequence, Reason::Installed).await.expect(204);
        self.runs(world, sequence);
    }

    pub(crate) fn runs(&mut self, world: &World, sequence: u64) {
        self.said.running = check_in(Some((&world.images[sequence as usize], sequence))).running;
    }

    pub(crate) async fn fail(&mut self, sequence: u64) {
        assert_eq!(self.offered().await, Some(sequence), "{}", self.id);
        self.connection.report(sequence, Reason::ImageDigest).await.expect(204);
    }
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::prelude::BASE64_STANDARD.encode(bytes)
}

/// One wave of all devices that is judged from three devices on.
pub(crate) fn one_wave(soak_s: u64) -> Value {
    json!({ "waves": [{ "select": { "percent": 100 }, "soak_s": soak_s, "limits": { "min_sample": 3 } }] })
}

pub(crate) fn counters(rollout: &Value, wave: usize) -> [u64; 6] {
    ["offered", "installed", "healthy", "failed", "crashed", "silent"]
        .map(|name| rollout["waves"][wave]["counters"][name].as_u64().unwrap())
}

#[tokio::test]
async fn from_one_percent_to_all_with_approval() {
    let mut world = World::new().await;
    world.publish(&[], "none").await;
    let plan = json!({ "waves": [
        { "select": { "percent": 1 }, "soak_s": 3600 },
        { "select": { "percent": 100 }, "soak_s": 60, "approval": "manual" },
    ] });
    let draft = json!({ "product": "lamp", "sequence": 2, "plan": plan });
    let draft = world.app.post("/rollouts", &draft).await.expect(201).json();
    assert_eq!((draft["id"].as_str(), draft["state"].as_str()), (Some("ro-lamp-2"), Some("draft")));
    assert_eq!(draft["release"]["version"], "2.0.0");

    let is_first = |number: &u32| bucket("ro-lamp-2", &format!("lamp-{number}")) < 100;
    let first = (1..).find(is_first).unwrap();
    let second = (1..).find(|number| !is_first(number)).unwrap();
    let mut first = world.lamp(&format!("lamp-{first}")).await;
    let mut second = world.lamp(&format!("lamp-{second}")).await;
    assert_eq!(first.offered().await, None, "a draft is not offered");
    let started = world.act("ro-lamp-2", "start").await;
    assert_eq!(started["waves"][0]["state"], "open");
    assert_eq!(started["waves"][1]["state"], "waiting");
    assert!(started["next"].as_str().unwrap().starts_with("wave 2 of 2 (100 %) can be approved from"));
    assert_eq!(second.offered().await, None, "not its turn");
    first.install(&world, 2).await;
    let early = world.app.post("/rollouts/ro-lamp-2/approve", &Value::Null).await.expect(409).json();
    let detail = early["detail"].as_str().unwrap();
    assert!(
        detail.starts_with("no wave of rollout ro-lamp-2 waits for an approval: wave 1 soaks until 20"),
        "{detail}"
    );

    world.clock.advance_ms(HOUR_MS + 1000);
    let waiting = world.in_state("ro-lamp-2", "awaiting-approval").await;
    assert_eq!(counters(&waiting, 0), [1, 0, 1, 0, 0, 0]);
    assert_eq!(second.offered().await, None);
    let approved = world.act("ro-lamp-2", "approve").await;
    assert_eq!((approved["state"].as_str(), approved["wave"].as_u64()), (Some("open"), Some(1)));
    second.install(&world, 2).await;
    world.clock.advance_ms(61_000);
    let completed = world.in_state("ro-lamp-2", "completed").await;
    assert_eq!(counters(&completed, 1), [1, 0, 1, 0, 0, 0]);
    assert_eq!(completed["waves"][1]["state"], "done");

    // It stays in force: a new device gets it at its first check-in.
    world.lamp("lamp-new").await.install(&world, 2).await;
    let expected = [
        "rollout.create",
        "rollout.start",
        "rollout.await-approval by server",
        "rollout.approve",
        "rollout.complete by server",
    ];
    assert_eq!(world.audit("ro-lamp-2").await, expected);
}

#[tokio::test]
async fn failures_halt_a_rollout_until_it_is_resumed() {
    let mut world = World::new().await;
    let mut lamps = world.lamps(5).await;
    let id = world.roll_out(&[], one_wave(3600)).await;
    lamps[0].install(&world, 2).await;
    lamps[1].fail(2).await;
    let running = world.app.get(&format!("/rollouts/{id}")).await;
    assert_eq!((running["state"].as_str(), counters(&running, 0)), (Some("open"), [2, 0, 1, 1, 0, 0]));
    lamps[2].install(&world, 2).await;
    let halted = world.in_state(&id, "halted").await;
    let halt = &halted["halt"];
    assert_eq!((halt["cause"].as_str(), halt["wave"].as_u64()), (Some("failures"), Some(0)));
    assert_eq!((halt["observed"].as_u64(), halt["sample"].as_u64()), (Some(1), Some(3)));
    assert_eq!((&halt["limit_percent"], &halt["devices"]), (&json!(5.0), &json!(["lamp-2"])));
    // The counters and the halt lead to their devices.
    let of = async |query: &str| {
        let page = world.app.get(&format!("/devices?rollout={id}&total=true&{query}")).await;
        let devices = page["items"].as_array().unwrap();
        assert_eq!(page["total"], json!({ "count": devices.len(), "has_more": false }), "{query}");
        devices.iter().map(|device| device["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(of("wave=0").await.len() as u64, counters(&halted, 0)[0]);
    assert_eq!(of("wave=0&attempt=healthy").await.len() as u64, counters(&halted, 0)[2]);
    assert_eq!(of("wave=1").await, [""; 0]);
    let epoch = halt["epoch"].as_i64().unwrap();
    assert_eq!(of(&format!("wave=0&attempt=failed&epoch={epoch}")).await, ["lamp-2"]);
    assert_eq!(of(&format!("wave=0&attempt=failed&epoch={}", epoch + 1)).await, [""; 0]);
    for (query, status) in [
        ("attempt=failed", 422),
        ("wave=0", 422),
        ("wave=0&attempt=failed", 422),
        (&format!("rollout={id}&attempt=failed"), 422),
        ("epoch=0", 422),
        ("rollout=ro-fan-1", 404),
        (&format!("rollout={id}&wave=-1"), 400),
        (&format!("rollout={id}&wave=0&attempt=well"), 400),
    ] {
        world.app.admin(Method::GET, &format!("/devices?{query}"), "").await.expect(status);
    }
    // The list is read both ways: release 1 had a rollout too.
    let newest = world.app.get("/rollouts?limit=1").await;
    let older = world.app.get(&format!("/rollouts?cursor={}", newest["next_cursor"].as_str().unwrap())).await;
    let back = older["previous_cursor"].as_str().unwrap();
    let newer = world.app.get(&format!("/rollouts?before={back}")).await;
    assert_eq!((&newer["items"], newer.get("previous_cursor")), (&newest["items"], None));
    let oldest = world.app.get("/rollouts?order=ascending&limit=1").await;
    assert_eq!(oldest["items"][0]["id"], "ro-lamp-1");
    assert_eq!(world.audit(&id).await, ["rollout.create", "rollout.halt by server"]);
    assert_eq!(lamps[3].offered().await, None);
    assert_eq!(lamps[0].offered().await, None, "without on_halt: revert a device keeps it");

    let resumed = world.act(&id, "resume").await;
    assert_eq!((&resumed["state"], &resumed["halt"]), (&json!("open"), &Value::Null));
    lamps[3].install(&world, 2).await;
    lamps[4].install(&world, 2).await;
    world.clock.advance_ms(HOUR_MS + 1000);
    let waits = |rollout: &Value| rollout["next"].as_str().unwrap().ends_with("4 of 5 have it, 100 % needed");
    let open = world.app.until(&format!("/rollouts/{id}"), waits).await;
    assert_eq!((&open["state"], counters(&open, 0)), (&json!("open"), [5, 0, 4, 1, 0, 0]));
    lamps[1].install(&world, 2).await;
    let completed = world.in_state(&id, "completed").await;
    assert_eq!(counters(&completed, 0), [5, 0, 5, 0, 0, 0]);
}

#[tokio::test]
async fn an_image_whose_number_was_lost_is_no_failure() {
    let mut world = World::new().await;
    let mut lamp = world.lamp("lamp-1").await;
    let id = world.roll_out(&[], one_wave(3600)).await;
    assert_eq!(lamp.offered().await, Some(2));
    // Power was lost when the image was whole and the outcome kept, and the record with the number was not.
    lamp.runs(&world, 2);
    lamp.said.running.as_mut().unwrap().sequence = None;
    lamp.said.last_outcome = Some(Outcome { sequence: Some(2), reason: Reason::Installed.code() });
    assert_eq!(lamp.offered().await, Some(2), "so that it learns the number");
    lamp.connection.report(2, Reason::Installed).await.expect(204);
    lamp.runs(&world, 2);
    assert_eq!(lamp.offered().await, None);
    let rollout = world.app.get(&format!("/rollouts/{id}")).await;
    assert_eq!(counters(&rollout, 0), [1, 0, 1, 0, 0, 0]);
    assert_eq!(world.app.get("/devices/lamp-1").await["failures"], Value::Null);
}

#[tokio::test]
#[ignore = "needs Postgres: cargo xtask ci --only server-backends"]
async fn two_instances_count_for_one_rollout_and_both_heed_its_halt() {
    let mut world = World::new().await;
    let mut lamps = world.lamps(4).await;
    let id = world.roll_out(&[], one_wave(3600)).await;
    let other = world.app.beside().await;
    lamps[1].connection = other.connect(Some(&lamps[1].identity)).await;
    // Three devices are the sample: neither instance has seen so many.
    lamps[0].install(&world, 2).await;
    lamps[1].fail(2).await;
    lamps[2].install(&world, 2).await;
    for app in [&world.app, &other] {
        let halted = app.until(&format!("/rollouts/{id}"), |rollout| rollout["state"] == "halted").await;
        assert_eq!(counters(&halted, 0), [3, 0, 2, 1, 0, 0]);
        assert_eq!(halted["halt"]["devices"], json!(["lamp-2"]));
    }
    for app in [&world.app, &other] {
        lamps[3].connection = app.connect(Some(&lamps[3].identity)).await;
        assert_eq!(lamps[3].offered().await, None);
    }
    assert_eq!(world.audit(&id).await, ["rollout.create", "rollout.halt by server"], "halted once");
}

#[tokio::test]
async fn crashes_halt_a_rollout_and_devices_go_back() {
    let mut world = World::new().await;
    let mut lamps = world.lamps(4).await;
    let mut plan = one_wave(3600);
    plan["on_halt"] = json!("revert");
    let id = world.roll_out(&[1], plan).await;
    for lamp in &mut lamps[..3] {
        lamp.install(&world, 2).await;
    }
    lamps[1].said.reset_cause = ResetCause::Panic;
    assert_eq!(lamps[1].offered().await, None);
    let halted = world.in_state(&id, "halted").await;
    assert_eq!(counters(&halted, 0), [3, 0, 2, 0, 1, 0]);
    assert_eq!(
        (&halted["halt"]["cause"], &halted["halt"]["devices"]),
        (&json!("crashes"), &json!(["lamp-2"]))
    );
    assert_eq!(world.app.get("/devices/lamp-2").await["health"], "crashing");

    for lamp in &mut lamps[..3] {
        lamp.said.reset_cause = ResetCause::Software;
        assert_eq!(lamp.offered().await, Some(1), "{}", lamp.id);
        lamp.connection.report(1, Reason::Installed).await.expect(204);
        lamp.runs(&world, 1);
        assert_eq!(lamp.offered().await, None, "{}", lamp.id);
    }
    assert_eq!(lamps[3].offered().await, None);
    let known = world.app.get("/devices/lamp-2").await;
    assert_eq!((&known["health"], &known["attempt"]), (&json!("ok"), &Value::Null));
    let kept = world.app.get(&format!("/rollouts/{id}")).await;
    assert_eq!(counters(&kept, 0), [3, 0, 2, 0, 1, 0], "the counters stay");
}

/// The application did not run: it is neither at fault nor shown to be good.
#[tokio::test]
async fn a_crash_of_the_updater_is_not_booked_on_the_release() {
    let mut world = World::new().await;
    let mut lamps = world.lamps(3).await;
    let id = world.roll_out(&[1], one_wave(3600)).await;
    for lamp in &mut lamps {
        lamp.install(&world, 2).await;
    }
    lamps[0].offered().await;
    let before = counters(&world.app.get(&format!("/rollouts/{id}")).await, 0);
    for _ in 0..3 {
        for lamp in &mut lamps[..2] {
            lamp.said.starts += 1;
            lamp.said.reset_cause = ResetCause::UpdaterCrash;
            assert_eq!(lamp.offered().await, None, "{}", lamp.id);
        }
    }
    let rollout = world.app.get(&format!("/rollouts/{id}")).await;
    assert_eq!((&rollout["state"], counters(&rollout, 0)), (&json!("open"), before));
    let events = world.app.get("/devices/lamp-1/events?limit=1").await;
    assert_eq!(events["items"][0]["detail"], json!({ "reset_cause": "updater-crash" }));
    assert_eq!(world.app.get("/devices/lamp-1").await["reset_cause"], "updater-crash");
}

#[tokio::test]
async fn silence_halts_a_rollout_and_a_sign_of_life_corrects_it() {
    let mut world = World::new().await;
    let mut lamps = world.lamps(4).await;
    world.habit(&mut lamps, HOUR_MS).await;
    let id = world.roll_out(&[], one_wave(30 * 24 * 3600)).await;
    lamps[0].install(&world, 2).await;
    lamps[1].install(&world, 2).await;
    for silent in [2, 3] {
        assert_eq!(lamps[silent].offered().await, Some(2));
    }
    lamps[2].connection.report(2, Reason::Installed).await.expect(204);
    // A device that is seen is not silent, although it did not install anything yet.
    world.clock.advance_ms(6 * DAY_MS);
    assert_eq!(lamps[3].offered().await, Some(2));
    world.app.until("/devices/lamp-4", |lamp| lamp["starts"] == lamps[3].said.starts).await;
    world.clock.advance_ms(DAY_MS + HOUR_MS);
    let halted = world.in_state(&id, "halted").await;
    assert_eq!(counters(&halted, 0), [4, 0, 2, 0, 0, 1]);
    assert_eq!(
        (&halted["halt"]["cause"], &halted["halt"]["devices"]),
        (&json!("silence"), &json!(["lamp-3"]))
    );

    lamps[2].runs(&world, 2);
    assert_eq!(lamps[2].offered().await, None);
    let corrected = world.app.get(&format!("/rollouts/{id}")).await;
    assert_eq!(counters(&corrected, 0), [4, 0, 3, 0, 0, 0]);
}

#[tokio::test]
async fn an_abort_takes_a_completed_release_back() {
    let mut world = World::new().await;
    let mut lamps = world.lamps(2).await;
    world.publish(&[1], "default").await;
    assert_eq!(world.app.get("/rollouts/ro-lamp-2").await["state"], "open", "nobody has it");
    lamps[0].install(&world, 2).await;
    world.in_state("ro-lamp-2", "completed").await;
    world.act("ro-lamp-2", "abort").await;
    assert_eq!(lamps[0].offered().await, Some(1));
    assert_eq!(lamps[1].offered().await, None);
    let refused = world.app.post("/rollouts/ro-lamp-2/resume", &Value::Null).await.expect(409).json();
    assert_eq!(refused["type"], "urn:pitstop:problem:rollout-state");
    assert_eq!(
        refused["detail"],
        "resume needs a rollout that is paused or halted, found one that is aborted"
    );

    // Another try of the same release is another rollout.
    let again = json!({ "product": "lamp", "sequence": 2, "start": true });
    let again = world.app.post("/rollouts", &again).await.expect(201).json();
    assert_eq!(again["id"], "ro-lamp-2.2");
    assert_eq!(lamps[1].offered().await, Some(2));
}

#[tokio::test]
async fn a_paused_rollout_offers_nothing_and_a_release_has_one_rollout_at_a_time() {
    let mut world = World::new().await;
    let mut lamps = world.lamps(2).await;
    let id = world.roll_out(&[], one_wave(3600)).await;
    let paused = world.act(&id, "pause").await;
    assert_eq!(lamps[0].offered().await, None);
    world.clock.advance_ms(2 * HOUR_MS);
    let second = json!({ "product": "lamp", "sequence": 2 });
    let refused = world.app.post("/rollouts", &second).await.expect(409).json();
    assert_eq!(
        refused["detail"],
        "rollout ro-lamp-2 of this release is paused on this channel; abort it first"
    );

    let stale = world.app.change(&format!("/rollouts/{id}/resume"), "\"r1\"").await;
    assert_eq!(stale.status, 412, "{}", stale.text());
    let current = format!("\"r{}\"", paused["revision"]);
    assert_eq!(world.app.change(&format!("/rollouts/{id}/resume"), &current).await.status, 200);
    lamps[0].install(&world, 2).await;
    // The soak began anew.
    assert_eq!(world.app.get(&format!("/rollouts/{id}")).await["state"], "open");
    world.clock.advance_ms(HOUR_MS + 1000);
    world.in_state(&id, "completed").await;
}

#[tokio::test]
async fn outside_its_window_a_rollout_offers_nothing() {
    let mut world = World::new().await;
    let mut lamp = world.lamp("lamp-1").await;
    let now_ms = world.clock.now_ms();
    let clock_time = |ms: i64| format!("{:02}:{:02}", ms / HOUR_MS % 24, ms / 60_000 % 60);
    let opens_ms = now_ms + 2 * HOUR_MS;
    let mut plan = one_wave(60);
    plan["window"] = json!({ "from": clock_time(opens_ms), "to": clock_time(opens_ms + HOUR_MS) });
    let id = world.roll_out(&[], plan).await;
    let decision = lamp.decision().await;
    assert_eq!(decision.manifest, None);
    let backoff_s = decision.backoff_s.unwrap();
    // Up to a minute less because the window has no seconds, and up to 10 minutes more so that a fleet does not come
    // back at once.
    assert!((7140..=7800).contains(&backoff_s), "{backoff_s}");
    assert_eq!(
        world.app.get(&format!("/rollouts/{id}")).await["state"],
        "open",
        "closed hours complete nothing"
    );
    world.clock.advance_ms(2 * HOUR_MS);
    lamp.install(&world, 2).await;
    world.clock.advance_ms(61_000);
    world.in_state(&id, "completed").await;
}

#[tokio::test]
async fn a_release_that_fails_again_and_again_is_quarantined_until_an_operator_clears_it() {
    let mut world = World::new().await;
    let settings = json!({ "quarantine_after": 2 }).to_string();
    world.app.admin(Method::PATCH, "/products/lamp", settings).await.expect(200);
    let mut lamp = world.lamp("lamp-1").await;
    world.publish(&[], "default").await;
    lamp.fail(2).await;
    assert_eq!(lamp.offered().await, None, "backoff");
    world.clock.advance_ms(HOUR_MS + 1000);
    lamp.fail(2).await;
    world.clock.advance_ms(30 * DAY_MS);
    assert_eq!(lamp.offered().await, None);
    let known = world.app.get("/devices/lamp-1").await;
    assert_eq!((&known["quarantine"]["sequence"], &known["health"]), (&json!(2), &json!("failing")));
    let rollout = world.app.get("/rollouts/ro-lamp-2").await;
    assert_eq!(counters(&rollout, 0), [1, 0, 0, 1, 0, 0], "one device, however often it fails");

    world.app.post("/devices/lamp-1/clear-quarantine", &Value::Null).await.expect(200);
    let line = &world.app.get("/audit?kind=device&limit=1").await["items"][0];
    assert_eq!(line["action"], "device.clear-quarantine");
    assert_eq!((&line["before"]["sequence"], &line["before"]["count"]), (&json!(2), &json!(2)));
    lamp.fail(2).await;
    let known = world.app.get("/devices/lamp-1").await;
    assert_eq!(
        (&known["failures"]["count"], &known["quarantine"]),
        (&json!(1), &Value::Null),
        "it began anew"
    );
    world.clock.advance_ms(HOUR_MS + 1000);
    lamp.install(&world, 2).await;
    let known = world.app.get("/devices/lamp-1").await;
    assert_eq!((&known["quarantine"], &known["failures"]), (&Value::Null, &Value::Null));
}

#[tokio::test]
async fn a_pinned_device_follows_its_pin_and_no_rollout() {
    let mut world = World::new().await;
    let mut lamp = world.lamp("lamp-1").await;
    world.publish(&[1], "none").await;
    world.publish(&[], "default").await;
    let pin = async |sequence: Value| {
        let body = json!({ "pinned_sequence": sequence }).to_string();
        world.app.admin(Method::PATCH, "/devices/lamp-1", body).await.expect(200);
    };
    pin(json!(1)).await;
    assert_eq!(lamp.offered().await, None);
    pin(json!(2)).await;
    lamp.install(&world, 2).await;
    pin(json!(1)).await;
    assert_eq!(lamp.offered().await, Some(1), "2 allows to return to 1");
    pin(Value::Null).await;
    lamp.install(&world, 3).await;
    pin(json!(1)).await;
    assert_eq!(lamp.offered().await, None, "3 allows nothing");
}

#[tokio::test]
async fn a_device_that_says_everything_at_once_counts_once() {
    let mut world = World::new().await;
    let mut lamp = world.lamp("lamp-1").await;
    let id = world.roll_out(&[], one_wave(3600)).await;
    let mut connections = Vec::new();
    for _ in 0..8 {
        connections.push(world.app.connect(Some(&lamp.identity)).await);
    }
    let at_once = async |connections: &mut [Connection], said: &CheckIn| {
        let check_ins = connections.iter_mut().map(|connection| connection.check_in(said));
        for answer in futures_util::future::join_all(check_ins).await {
            answer.expect(200);
        }
    };
    at_once(&mut connections, &lamp.said).await;
    let rollout = world.app.get(&format!("/rollouts/{id}")).await;
    assert_eq!(counters(&rollout, 0), [1, 0, 0, 0, 0, 0]);
    let reports = connections.iter_mut().map(|connection| connection.report(2, Reason::Installed));
    for answer in futures_util::future::join_all(reports).await {
        answer.expect(204);
    }
    let rollout = world.app.get(&format!("/rollouts/{id}")).await;
    assert_eq!(counters(&rollout, 0), [1, 1, 0, 0, 0, 0]);
    lamp.runs(&world, 2);
    lamp.said.starts += 1;
    at_once(&mut connections, &lamp.said).await;
    let rollout = world.app.get(&format!("/rollouts/{id}")).await;
    assert_eq!(counters(&rollout, 0), [1, 0, 1, 0, 0, 0]);
}

#[tokio::test]
async fn devices_that_an_abort_sends_back_do_not_count_as_failed() {
    let mut world = World::new().await;
    let mut lamps = world.lamps(2).await;
    let id = world.roll_out(&[1], one_wave(3600)).await;
    // One has it and was not seen again, the other one is well with it.
    assert_eq!(lamps[0].offered().await, Some(2));
    lamps[0].connection.report(2, Reason::Installed).await.expect(204);
    lamps[0].runs(&world, 2);
    lamps[1].install(&world, 2).await;
    world.act(&id, "abort").await;
    for lamp in &mut lamps {
        lamp.runs(&world, 1);
        lamp.offered().await;
        world.until_seen(lamp).await;
        lamp.offered().await;
        world.until_seen(lamp).await;
    }
    let rollout = world.app.get(&format!("/rollouts/{id}")).await;
    assert_eq!(counters(&rollout, 0), [2, 1, 1, 0, 0, 0]);
    for lamp in &lamps {
        assert_ne!(world.app.get(&format!("/devices/{}", lamp.id)).await["health"], "failing");
    }
}

#[tokio::test]
async fn a_wave_that_had_its_evidence_shows_it_when_the_next_one_is_open() {
    let mut world = World::new().await;
    world.publish(&[], "none").await;
    let is_first = |number: &u32| bucket("ro-lamp-2", &format!("lamp-{number}")) < 5000;
    let mut lamps = Vec::new();
    for number in [(1..).find(is_first).unwrap(), (1..).find(|number| !is_first(number)).unwrap()] {
        lamps.push(world.lamp(&format!("lamp-{number}")).await);
        lamps.last_mut().unwrap().offered().await;
        world.until_seen(lamps.last().unwrap()).await;
    }
    let waves = json!([{ "select": { "percent": 50 } }, { "select": { "percent": 100 }, "soak_s": 3600 }]);
    let body = json!({ "product": "lamp", "sequence": 2, "plan": { "waves": waves }, "start": true });
    let made = world.app.post("/rollouts", &body).await.expect(201).json();
    assert_eq!((&made["waves"][0]["has_evidence"], &made["soaks_until"]), (&json!(false), &Value::Null));
    lamps[0].install(&world, 2).await;
    let open = world.in_state("ro-lamp-2", "open").await;
    assert_eq!(
        (&open["waves"][0]["has_evidence"], &open["waves"][1]["has_evidence"]),
        (&json!(true), &json!(false))
    );
    assert!(open["soaks_until"].is_string() && open["has_evidence"] == false, "{open}");
}

#[tokio::test]
async fn a_rollout_over_a_million_devices_is_made_at_once() {
    let mut world = World::new().await;
    world.publish(&[], "none").await;
    let mut database = world.app.dir.connect().await;
    // PostgreSQL's disk is shared with every other test.
    let devices: i64 = if world.app.dir.is_embedded() { 1_000_000 } else { 100_000 };
    sqlx::query(
        "INSERT INTO devices (id, product, note, created_at_ms, token_hash, last_seen_at_ms) \
         WITH RECURSIVE numbers (number) AS \
             (SELECT 1000001 UNION ALL SELECT number + 1 FROM numbers WHERE number < 1000000 + $2) \
         SELECT 'lamp-' || CAST(number AS TEXT), 'lamp', '', 0, '', \
             CASE WHEN number % 10 = 0 THEN $1 ELSE NULL END FROM numbers",
    )
    .bind(world.clock.now_ms())
    .bind(devices)
    .execute(&mut database)
    .await
    .unwrap();
    // Whoever writes next tidies up SQLite's log after a transaction as large as that.
    world.app.post("/products/lamp/channels", &json!({ "name": "gamma" })).await.expect(201);
    let plan = json!({ "waves": [{ "select": { "percent": 1 } }, { "select": { "percent": 100 } }] });
    let body = json!({ "product": "lamp", "sequence": 2, "plan": plan, "start": true });
    let began = Instant::now();
    world.app.post("/rollouts", &body).await.expect(201);
    let took = began.elapsed();
    assert!(took < Duration::from_secs(2), "{took:?}");
    let count = async |database: &mut sqlx::AnyConnection, query: &'static str| {
        sqlx::query_scalar::<_, i64>(query).fetch_one(database).await.unwrap()
    };
    assert_eq!(count(&mut database, "SELECT COUNT(*) FROM devices").await, devices);
    let waves = "SELECT COUNT(*) FROM rollout_waves WHERE rollout = 'ro-lamp-2'";
    assert_eq!(count(&mut database, waves).await, 2);
    let touched = "SELECT COUNT(*) FROM devices WHERE attempt_rollout IS NOT NULL";
    assert_eq!(count(&mut database, touched).await, 0, "no row is touched");
    // One in ten was seen of late: those are counted, beside everything else.
    let in_wave = |rollout: &Value, wave: usize| rollout["waves"][wave]["devices"].as_u64();
    let counted = world.app.until("/rollouts/ro-lamp-2", |rollout| in_wave(rollout, 0).is_some()).await;
    let first = in_wave(&counted, 0).unwrap();
    let seen = u64::try_from(devices / 10).unwrap();
    assert!((seen / 125..=seen / 83).contains(&first), "{first}");
    assert_eq!(first + in_wave(&counted, 1).unwrap(), seen);
    assert_eq!(
        (&counted["state"], counted["waves"][0]["needed"].as_u64()),
        (&json!("running"), Some(first.div_ceil(2)))
    );
    world.act("ro-lamp-2", "approve").await;
    world.lamp("one-more").await.install(&world, 2).await;
}

#[tokio::test]
async fn a_device_below_what_a_release_requires_goes_by_that() {
    let mut world = World::new().await;
    let mut lamps = world.lamps(3).await;
    for lamp in &mut lamps {
        assert_eq!(lamp.offered().await, None);
        world.until_seen(lamp).await;
    }
    world.publish(&[1], "default").await;
    lamps[0].install(&world, 2).await;
    let image = image("3.0.0");
    world.app.upload(&image).await.expect(201);
    let mut manifest = describe(&image, 3, "3.0.0");
    manifest.revert_to = Some(vec![Sequence(1)]);
    let body = json!({ "manifest": base64(&sign(&manifest)), "requires": 2 });
    let published = world.app.post("/products/lamp/releases", &body).await.expect(201).json();
    assert_eq!(published["warnings"], json!([]));
    world.images.push(image);
    let step = world.app.get("/rollouts/ro-lamp-2").await;
    assert_eq!(step["state"], "open", "devices need it on their way");
    lamps[0].install(&world, 3).await;
    lamps[1].install_on(&world, 2).await;
    lamps[1].install(&world, 3).await;

    assert_eq!(lamps[2].offered().await, Some(2));
    let waits = |rollout: &Value| rollout["waiting"] == 1;
    let waiting = world.app.until("/rollouts/ro-lamp-3", waits);
    world.clock.advance_ms(2 * 60_000);
    assert_eq!(waiting.await["release"]["requires"], 2);
    world.act("ro-lamp-2", "pause").await;
    assert_eq!(lamps[2].offered().await, None);
    world.act("ro-lamp-2", "resume").await;
    // Back to release 1, and forward by the same way.
    let pin = |to: Value| json!({ "pinned_sequence": to }).to_string();
    world.app.admin(Method::PATCH, "/devices/lamp-1", pin(json!(1))).await.expect(200);
    lamps[0].install(&world, 1).await;
    world.app.admin(Method::PATCH, "/devices/lamp-1", pin(json!(3))).await.expect(200);
    lamps[0].install_on(&world, 2).await;
    lamps[0].install(&world, 3).await;
    assert_eq!(lamps[2].offered().await, Some(2));
    world.act("ro-lamp-2", "abort").await;
    assert_eq!(lamps[2].offered().await, None);
    lamps[2].said.running = None;
    assert_eq!(lamps[2].offered().await, Some(1), "the newest that it can take: its data may be old");
    // Another rollout of it may start beside the newer one.
    let body = json!({ "product": "lamp", "sequence": 2, "start": true });
    world.app.post("/rollouts", &body).await.expect(201);
    assert_eq!(lamps[2].offered().await, Some(2));
    // Steps of steps stay too.
    let image = crate::app::image("4.0.0");
    world.app.upload(&image).await.expect(201);
    let body = json!({ "manifest": base64(&sign(&describe(&image, 4, "4.0.0"))), "requires": 3 });
    world.app.post("/products/lamp/releases", &body).await.expect(201);
    for id in ["ro-lamp-3", "ro-lamp-2.2"] {
        let rollout = world.app.get(&format!("/rollouts/{id}")).await;
        assert_eq!(rollout["superseded_by"], Value::Null, "{rollout}");
    }
}

#[tokio::test]
async fn nobody_stands_in_who_lacks_what_the_release_requires_and_an_image_is_known_by_its_digest() {
    let mut world = World::new().await;
    let mut lamp = world.lamp("lamp-1").await;
    assert_eq!(lamp.offered().await, None);
    world.until_seen(&lamp).await;
    let mut other = world.lamp("lamp-2").await;
    if bucket("ro-lamp-3", "lamp-1") > bucket("ro-lamp-3", "lamp-2") {
        std::mem::swap(&mut lamp, &mut other);
    }
    world.publish(&[], "none").await;
    // Flashed by cable: its image is that of release 2, and it knows no number.
    other.runs(&world, 2);
    other.said.running.as_mut().unwrap().sequence = None;
    assert_eq!(other.offered().await, Some(1));
    world.until_seen(&other).await;
    let image = image("3.0.0");
    world.app.upload(&image).await.expect(201);
    let manifest = base64(&sign(&describe(&image, 3, "3.0.0")));
    let body = json!({ "manifest": manifest, "requires": 2, "rollout": "none" });
    world.app.post("/products/lamp/releases", &body).await.expect(201);
    world.images.push(image);
    let plan = json!({ "waves": [
        { "select": { "percent": 0.01 }, "soak_s": 60 }, { "select": { "percent": 100 } }
    ] });
    let body = json!({ "product": "lamp", "sequence": 3, "plan": plan, "start": true });
    world.app.post("/rollouts", &body).await.expect(201);
    let has_one = |rollout: &Value| rollout["waves"][0]["stand_in"] == other.id && rollout["waiting"] == 0;
    world.app.until("/rollouts/ro-lamp-3", has_one).await;
    world.clock.advance_ms(2 * 60_000);
    world.act("ro-lamp-3", "approve").await;
    world.clock.advance_ms(2 * 60_000);
    let waits = |rollout: &Value| rollout["waiting"] == 1;
    world.app.until("/rollouts/ro-lamp-3", waits).await;
    assert_eq!(lamp.offered().await, None);
    other.install(&world, 3).await;
}

#[tokio::test]
async fn a_stream_tells_every_change() {
    let mut world = World::new().await;
    let mut lamp = world.lamp("lamp-1").await;
    let id = world.roll_out(&[], one_wave(3600)).await;
    let bearer = format!("Bearer {}", world.app.token);
    let path = format!("/api/v1/rollouts/{id}/stream");
    let mut connection = Connection::plain(world.app.server.admin_addr()).await.unwrap();
    let request = request(Method::GET, &path, &[("authorization", &bearer)], "");
    let (head, mut body) = connection.open(request).await.unwrap();
    assert_eq!((head.status.as_u16(), head.header("content-type")), (200, "text/event-stream"));
    assert_eq!(event(&mut body).await["state"], "open");
    assert_eq!(lamp.offered().await, Some(2));
    while counters(&event(&mut body).await, 0) != [1, 0, 0, 0, 0, 0] {}
    world.act(&id, "pause").await;
    while event(&mut body).await["state"] != "paused" {}
}

/// The next event of a stream.
async fn event(body: &mut Incoming) -> Value {
    loop {
        let frame = timeout(Duration::from_secs(20), body.frame()).await.unwrap().unwrap().unwrap();
        let data = frame.into_data().unwrap();
        let text = std::str::from_utf8(&data).unwrap();
        if let Some(json) = text.strip_prefix("data: ") {
            return serde_json::from_str(json.trim()).unwrap();
        }
    }
}
