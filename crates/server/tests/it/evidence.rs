//! Rollouts go on by evidence: what opens a wave, what completes a rollout, whose silence and whose runs count.

use hyper::Method;
use manifest::Digest;
use serde_json::{Value, json};
use wire::{Message as _, Outcome, Reason, Report, ResetCause};

use crate::rollouts::{DAY_MS, HOUR_MS, Lamp, World, counters, one_wave};

impl World {
    /// The first `lab` devices have the tag `lab`, and all were seen.
    async fn with_a_lab(count: usize, lab: usize) -> (Self, Vec<Lamp>) {
        let world = Self::new().await;
        let mut lamps = world.lamps(count).await;
        for (number, lamp) in lamps.iter_mut().enumerate() {
            if number < lab {
                let tags = json!({ "tags": ["lab"] }).to_string();
                world.app.admin(Method::PATCH, &format!("/devices/{}", lamp.id), tags).await.expect(200);
            }
            lamp.offered().await;
            world.until_seen(lamp).await;
        }
        (world, lamps)
    }

    async fn says(&self, id: &str, part: &str) -> Value {
        let next = |rollout: &Value| rollout["next"].as_str().is_some_and(|next| next.contains(part));
        self.app.until(&format!("/rollouts/{id}"), next).await
    }

    async fn settings(&self, settings: Value) {
        self.app.admin(Method::PATCH, "/products/lamp", settings.to_string()).await.expect(200);
    }
}

impl Lamp {
    /// A start after the application ran for so long.
    async fn starts_after(&mut self, world: &World, run_ms: i64, cause: ResetCause) -> Option<u64> {
        world.clock.advance_ms(run_ms);
        self.said.reset_cause = cause;
        let offered = self.offered().await;
        world.until_seen(self).await;
        offered
    }

    async fn state(&self, world: &World) -> Value {
        world.app.get(&format!("/devices/{}", self.id)).await["attempt"]["state"].clone()
    }
}

fn lab_first(soak_s: u64) -> Value {
    json!({ "waves": [
        { "select": { "tags": ["lab"] }, "soak_s": soak_s },
        { "select": { "percent": 100 }, "soak_s": soak_s },
    ] })
}

#[tokio::test]
async fn a_wave_waits_for_its_evidence_and_says_for_what() {
    let (mut world, mut lamps) = World::with_a_lab(6, 5).await;
    let id = world.roll_out(&[], lab_first(3600)).await;
    for lamp in &mut lamps[..2] {
        lamp.install(&world, 2).await;
    }
    let counted =
        world.app.until(&format!("/rollouts/{id}"), |shown| shown["waves"][0]["devices"] == 5).await;
    assert_eq!((&counted["waves"][0]["needed"], &counted["waves"][1]["devices"]), (&json!(3), &json!(1)));
    world.clock.advance_ms(HOUR_MS + 1000);
    let waits = world.says(&id, "waits for evidence: 2 of 5 heard again, 3 needed").await;
    assert_eq!(
        (&waits["state"], &waits["wave"], &waits["has_evidence"]),
        (&json!("running"), &json!(0), &json!(false))
    );
    assert_eq!(lamps[5].offered().await, None);

    // Two more take it and never come back.
    for lamp in &mut lamps[3..5] {
        assert_eq!(lamp.offered().await, Some(2));
        lamp.connection.report(2, Reason::Installed).await.expect(204);
    }
    lamps[2].install(&world, 2).await;
    let waits = world.says(&id, "2 of 5 took the release and are not heard again, 5 % are tolerated").await;
    assert_eq!(waits["wave"], 0);
    let approved = world.act(&id, "approve").await;
    assert_eq!(
        (&approved["state"], &approved["wave"]),
        (&json!("open"), &json!(1)),
        "an operator may know better"
    );
    lamps[5].install(&world, 2).await;
    world.clock.advance_ms(HOUR_MS + 1000);
    let open = world.says(&id, "not completed yet: 4 of 6 have it, 100 % needed").await;
    assert_eq!(open["state"], "open");
    for lamp in &mut lamps[3..5] {
        lamp.runs(&world, 2);
        assert_eq!(lamp.offered().await, None);
    }
    world.in_state(&id, "completed").await;
}

#[tokio::test]
async fn an_empty_wave_opens_no_other_one_and_completes_nothing() {
    let mut world = World::new().await;
    let waves: Vec<_> = [1, 10, 50, 100].map(|percent| json!({ "select": { "percent": percent } })).into();
    let id = world.roll_out(&[], json!({ "waves": waves })).await;
    world.clock.advance_ms(30 * DAY_MS);
    let waits = world.says(&id, "wave 1 has soaked and waits for evidence: no device of it was seen").await;
    assert_eq!((&waits["state"], &waits["wave"]), (&json!("running"), &json!(0)));

    world.publish(&[], "default").await;
    let newest = world.app.get("/rollouts/ro-lamp-3").await;
    assert_eq!(newest["state"], "open", "not completed at birth");
    assert_eq!(world.act("ro-lamp-3", "pause").await["state"], "paused");
    assert_eq!(world.act("ro-lamp-3", "resume").await["state"], "open");
    world.says("ro-lamp-3", "not completed yet: no device of it was seen").await;
    world.lamp("lamp-1").await.install(&world, 3).await;
    world.in_state("ro-lamp-3", "completed").await;
}

/// 1 % of four devices is nobody, and so is 10 %: the waves have a device each, one after the other, and no wave opens at
/// once.
#[tokio::test]
async fn a_share_of_a_small_fleet_is_at_least_one_device() {
    let (mut world, mut lamps) = World::with_a_lab(4, 0).await;
    for lamp in &lamps {
        assert!(rollout::bucket("ro-lamp-2", &lamp.id) >= 1000, "{} is in a wave by its place", lamp.id);
    }
    let waves: Vec<_> = [1, 10, 100].map(|percent| json!({ "select": { "percent": percent } })).into();
    let id = world.roll_out(&[], json!({ "waves": waves })).await;
    let mut rest = Vec::new();
    for wave in 0..2 {
        let stands_in = |rollout: &Value| rollout["waves"][wave]["stand_in"].is_string();
        let shown = world.app.until(&format!("/rollouts/{id}"), stands_in).await;
        assert_eq!((&shown["state"], &shown["wave"]), (&json!("running"), &json!(wave)), "{shown}");
        assert_eq!(
            (&shown["waves"][wave]["devices"], &shown["waves"][wave]["needed"]),
            (&json!(1), &json!(1))
        );
        let stand_in = lamps.iter().position(|lamp| shown["waves"][wave]["stand_in"] == lamp.id).unwrap();
        let mut stand_in = lamps.remove(stand_in);
        for lamp in &mut lamps {
            assert_eq!(lamp.offered().await, None, "{} is not in wave {wave}", lamp.id);
        }
        stand_in.install(&world, 2).await;
        rest.push(stand_in);
    }
    let all = world.in_state(&id, "open").await;
    assert_eq!((&all["waves"][2]["devices"], &all["waves"][2]["stand_in"]), (&json!(2), &Value::Null));
    for lamp in &mut lamps {
        lamp.install(&world, 2).await;
    }
    let completed = world.in_state(&id, "completed").await;
    let offered = [0, 1, 2].map(|wave| completed["waves"][wave]["counters"]["offered"].clone());
    assert_eq!(offered, [json!(1), json!(1), json!(2)]);
}

#[tokio::test]
async fn a_newer_rollout_takes_the_place_of_the_older_one() {
    let (mut world, mut lamps) = World::with_a_lab(3, 1).await;
    let older = world.roll_out(&[], lab_first(3600)).await;
    lamps[0].install(&world, 2).await;
    // The release itself says so when it is published with its rollout.
    let image = crate::app::image("3.0.0");
    world.app.upload(&image).await.expect(201);
    let published = world
        .app
        .publish("lamp", &crate::app::sign(&crate::app::describe(&image, 3, "3.0.0")))
        .await
        .expect(201);
    let warnings = published.json()["warnings"].to_string();
    assert!(
        warnings.contains("rollout ro-lamp-2 of release 2 (2.0.0) is running and is superseded"),
        "{warnings}"
    );
    world.images.push(image);

    let newer = world.app.get("/rollouts/ro-lamp-3").await;
    assert_eq!(newer["supersedes"], json!([older]));
    let replaced = world.app.get(&format!("/rollouts/{older}")).await;
    assert_eq!((&replaced["state"], &replaced["superseded_by"]), (&json!("superseded"), &json!("ro-lamp-3")));
    let line = &world.app.get(&format!("/audit?subject={older}&limit=1")).await["items"][0];
    assert_eq!((&line["action"], &line["actor"]["id"]), (&json!("rollout.supersede"), &json!("server")));
    assert_eq!(
        (&line["before"]["state"], &line["after"]["state"]),
        (&json!("running"), &json!("superseded"))
    );
    lamps[1].install(&world, 3).await;
    let refused = world.app.post(&format!("/rollouts/{older}/resume"), &Value::Null).await.expect(409).json();
    assert_eq!(refused["type"], "urn:pitstop:problem:rollout-state");
    // Not even a new one of the older release, while the newer goes on.
    let again = json!({ "product": "lamp", "sequence": 2, "start": true });
    let refused = world.app.post("/rollouts", &again).await.expect(409).json();
    assert_eq!(
        refused["detail"],
        "rollout ro-lamp-3 of the newer release 3 is open on channel stable; abort it first"
    );

    // What was replaced is better than nothing for a device that has nothing.
    world.act("ro-lamp-3", "pause").await;
    assert_eq!(lamps[2].offered().await, None);
    let tags = json!({ "tags": ["lab"] }).to_string();
    world.app.admin(Method::PATCH, "/devices/lamp-3", tags).await.expect(200);
    assert_eq!(lamps[2].offered().await, None, "it runs something");
    lamps[2].said.running = None;
    assert_eq!(lamps[2].offered().await, Some(2));
}

#[tokio::test]
async fn a_way_back_that_does_not_exist_is_not_promised() {
    let mut world = World::new().await;
    world.publish(&[], "none").await;
    let mut plan = one_wave(60);
    plan["on_halt"] = json!("revert");
    let body = json!({ "product": "lamp", "sequence": 2, "plan": plan, "start": true });
    let refused = world.app.post("/rollouts", &body).await.expect(422).json();
    assert_eq!(refused["type"], "urn:pitstop:problem:no-way-back");
    assert!(refused["detail"].as_str().unwrap().contains("found release 2 without revert_to"), "{refused}");

    world.settings(json!({ "default_plan": plan })).await;
    let image = crate::app::image("2.9.0");
    world.app.upload(&image).await.expect(201);
    let signed = crate::app::sign(&crate::app::describe(&image, 3, "2.9.0"));
    let refused = world.app.publish("lamp", &signed).await.expect(422).json();
    assert_eq!(refused["type"], "urn:pitstop:problem:no-way-back");
    world.app.admin(Method::GET, "/products/lamp/releases/3", "").await.expect(404);
    world.publish(&[1], "default").await;
    assert_eq!(world.app.get("/rollouts/ro-lamp-3").await["state"], "open");
}

#[tokio::test]
async fn a_device_whose_habit_nobody_knows_is_unheard_and_halts_nothing() {
    let mut world = World::new().await;
    let mut lamps = world.lamps(5).await;
    let id = world.roll_out(&[], one_wave(3600)).await;
    for lamp in &mut lamps[..4] {
        assert_eq!(lamp.offered().await, Some(2));
        lamp.connection.report(2, Reason::Installed).await.expect(204);
    }
    // They run on, as devices do that are always on: they are heard at resets only.
    world.clock.advance_ms(60 * DAY_MS);
    let unheard = |rollout: &Value| rollout["waves"][0]["counters"]["unheard"] == 4;
    let rollout = world.app.until(&format!("/rollouts/{id}"), unheard).await;
    assert_eq!((&rollout["state"], counters(&rollout, 0)), (&json!("open"), [4, 0, 0, 0, 0, 0]));
    assert_eq!(world.app.get("/devices/lamp-1").await["health"], "unheard");
    world.says(&id, "not completed yet: 0 of 4 heard again, 3 needed").await;
}

#[tokio::test]
async fn a_device_is_silent_by_its_own_habit_and_not_before() {
    let mut world = World::new().await;
    let mut lamps = world.lamps(2).await;
    // Every four days, and once more at once: three are usual, so that it is silent after twelve, not after the product's
    // seven.
    world.habit(&mut lamps, 4 * DAY_MS).await;
    let id = world.roll_out(&[], one_wave(80 * 24 * 3600)).await;
    for lamp in &mut lamps {
        assert_eq!(lamp.offered().await, Some(2));
    }
    let path = format!("/rollouts/{id}");
    world.clock.advance_ms(11 * DAY_MS);
    tokio::time::sleep(std::time::Duration::from_millis(1500)).await;
    assert_eq!(counters(&world.app.get(&path).await, 0), [2, 0, 0, 0, 0, 0]);
    assert_eq!(world.app.get("/devices/lamp-1").await["health"], "updating");
    world.clock.advance_ms(2 * DAY_MS);
    world.app.until(&path, |rollout| counters(rollout, 0)[5] == 2).await;
}

#[tokio::test]
async fn a_lower_silence_deadline_holds_for_attempts_under_way() {
    let mut world = World::new().await;
    let mut lamps = world.lamps(2).await;
    world.habit(&mut lamps, 60_000).await;
    let id = world.roll_out(&[], one_wave(80 * 24 * 3600)).await;
    for lamp in &mut lamps {
        assert_eq!(lamp.offered().await, Some(2));
    }
    let path = format!("/rollouts/{id}");
    world.clock.advance_ms(2 * HOUR_MS);
    world.settings(json!({ "silence_deadline_s": 3 * 3600 })).await;
    tokio::time::sleep(std::time::Duration::from_millis(1500)).await;
    assert_eq!(counters(&world.app.get(&path).await, 0), [2, 0, 0, 0, 0, 0]);
    world.settings(json!({ "silence_deadline_s": 3600 })).await;
    world.app.until(&path, |rollout| counters(rollout, 0)[5] == 2).await;
}

#[tokio::test]
async fn an_application_that_restarts_itself_all_the_time_is_not_healthy() {
    let mut world = World::new().await;
    world.settings(json!({ "min_run_s": 60 })).await;
    let mut lamps = world.lamps(3).await;
    let id = world.roll_out(&[1], one_wave(3600)).await;
    for lamp in &mut lamps {
        assert_eq!(lamp.offered().await, Some(2));
        lamp.connection.report(2, Reason::Installed).await.expect(204);
        lamp.runs(&world, 2);
    }
    for start in 1..=4 {
        assert_eq!(lamps[0].starts_after(&world, 9000, ResetCause::Software).await, None);
        assert_eq!(lamps[0].state(&world).await, "installed", "start {start}: a short run shows nothing");
    }
    lamps[0].starts_after(&world, 9000, ResetCause::Software).await;
    assert_eq!(lamps[0].state(&world).await, "crashed");
    let events = world.app.get("/devices/lamp-1/events?limit=1").await;
    assert_eq!(events["items"][0]["detail"]["short_runs"], 5, "{events}");
    for lamp in &mut lamps[1..] {
        lamp.starts_after(&world, 90_000, ResetCause::Software).await;
        assert_eq!(lamp.state(&world).await, "healthy");
    }
    let halted = world.in_state(&id, "halted").await;
    assert_eq!(
        (&halted["halt"]["cause"], &halted["halt"]["devices"]),
        (&json!("crashes"), &json!(["lamp-1"]))
    );
}

#[tokio::test]
async fn what_recovers_after_a_resume_hides_no_later_failure() {
    let mut world = World::new().await;
    let mut lamps = world.lamps(8).await;
    let id = world.roll_out(&[], one_wave(3600)).await;
    for lamp in &mut lamps[..4] {
        lamp.install(&world, 2).await;
    }
    for lamp in &mut lamps[..3] {
        lamp.said.reset_cause = ResetCause::Panic;
        lamp.offered().await;
        lamp.said.reset_cause = ResetCause::Software;
    }
    world.in_state(&id, "halted").await;
    let resumed = world.act(&id, "resume").await;
    assert_eq!((&resumed["state"], counters(&resumed, 0)), (&json!("open"), [4, 0, 1, 0, 3, 0]));
    // All three recover, and three others crash.
    for lamp in &mut lamps[..3] {
        assert_eq!(lamp.offered().await, None);
        assert_eq!(lamp.state(&world).await, "healthy");
    }
    for lamp in &mut lamps[4..7] {
        lamp.install(&world, 2).await;
    }
    let open = world.app.get(&format!("/rollouts/{id}")).await;
    assert_eq!((&open["state"], counters(&open, 0)), (&json!("open"), [7, 0, 7, 0, 0, 0]));
    lamps[4].said.reset_cause = ResetCause::Panic;
    lamps[4].offered().await;
    let halted = world.in_state(&id, "halted").await;
    assert_eq!(halted["halt"]["devices"], json!(["lamp-5"]), "not those of before");
    assert_eq!((&halted["halt"]["observed"], &halted["halt"]["sample"]), (&json!(1), &json!(6)));
    assert_eq!(counters(&halted, 0), [7, 0, 6, 0, 1, 0]);

    // Nor is the same device's second crash an old one.
    world.act(&id, "resume").await;
    for lamp in &mut lamps[..3] {
        assert_eq!(lamp.offered().await, None);
    }
    lamps[4].offered().await;
    let halted = world.in_state(&id, "halted").await;
    assert_eq!((&halted["halt"]["observed"], &halted["halt"]["sample"]), (&json!(1), &json!(4)));
    assert_eq!(counters(&halted, 0), [7, 0, 6, 0, 1, 0]);
}

/// Whoever pauses a rollout to look at a failure has not judged it yet.
#[tokio::test]
async fn a_pause_forgets_no_failure() {
    let mut world = World::new().await;
    let mut lamps = world.lamps(3).await;
    let id = world.roll_out(&[], one_wave(3600)).await;
    lamps[0].fail(2).await;
    world.act(&id, "pause").await;
    world.act(&id, "resume").await;
    lamps[1].install(&world, 2).await;
    lamps[2].install(&world, 2).await;
    let halted = world.in_state(&id, "halted").await;
    assert_eq!((&halted["halt"]["observed"], &halted["halt"]["sample"]), (&json!(1), &json!(3)));
}

#[tokio::test]
async fn a_halt_after_a_resume_names_those_that_failed_since() {
    let mut world = World::new().await;
    let mut lamps = world.lamps(6).await;
    let id = world.roll_out(&[], one_wave(3600)).await;
    for (three, failed) in [(0..3, "lamp-1"), (3..6, "lamp-4")] {
        for number in three.clone().skip(1) {
            lamps[number].install(&world, 2).await;
        }
        lamps[three.start].fail(2).await;
        let halted = world.in_state(&id, "halted").await;
        assert_eq!(halted["halt"]["devices"], json!([failed]));
        world.act(&id, "resume").await;
    }
}

/// It tells so itself: what runs is what ran before.
#[tokio::test]
async fn a_device_that_fell_back_has_failed() {
    let mut world = World::new().await;
    let mut lamp = world.lamp("lamp-1").await;
    let id = world.roll_out(&[], one_wave(3600)).await;
    assert_eq!(lamp.offered().await, Some(2));
    lamp.connection.report(2, Reason::Installed).await.expect(204);
    assert_eq!(lamp.offered().await, None, "not at once");
    let known = world.app.get("/devices/lamp-1").await;
    assert_eq!((&known["failures"]["sequence"], &known["failures"]["count"]), (&json!(2), &json!(1)));
    let rollout = world.app.get(&format!("/rollouts/{id}")).await;
    assert_eq!(counters(&rollout, 0), [1, 0, 0, 1, 0, 0]);
}

/// It will not come back, and nobody waits for it.
#[tokio::test]
async fn revoked_devices_are_not_silent() {
    let mut world = World::new().await;
    let mut lamps = world.lamps(4).await;
    world.habit(&mut lamps, HOUR_MS).await;
    let id = world.roll_out(&[], one_wave(30 * 24 * 3600)).await;
    for lamp in &mut lamps {
        assert_eq!(lamp.offered().await, Some(2));
        lamp.connection.report(2, Reason::Installed).await.expect(204);
    }
    for lamp in &lamps[..3] {
        world.app.post(&format!("/devices/{}/revoke", lamp.id), &json!({})).await.expect(200);
    }
    world.clock.advance_ms(7 * DAY_MS + HOUR_MS);
    // The one that is not revoked: it has the same time as the others.
    world.app.until("/devices/lamp-4", |lamp| lamp["attempt"]["state"] == "silent").await;
    let rollout = world.app.get(&format!("/rollouts/{id}")).await;
    assert_eq!(counters(&rollout, 0), [4, 3, 0, 0, 0, 1]);
}

#[tokio::test]
async fn a_report_that_comes_twice_is_one_failure() {
    let mut world = World::new().await;
    let mut lamp = world.lamp("lamp-1").await;
    world.publish(&[], "default").await;
    lamp.fail(2).await;
    for _ in 0..3 {
        // The answer was lost.
        lamp.connection.report(2, Reason::ImageDigest).await.expect(204);
    }
    let known = world.app.get("/devices/lamp-1").await;
    assert_eq!((&known["failures"]["count"], &known["quarantine"]), (&json!(1), &Value::Null));
    let events = world.app.get("/devices/lamp-1/events").await;
    let reports =
        events["items"].as_array().unwrap().iter().filter(|event| event["kind"] == "report").count();
    assert_eq!(reports, 1);
    // Offered again, it fails again: that is another one, also of a device that tells of the first one meanwhile.
    world.clock.advance_ms(HOUR_MS + 1000);
    lamp.said.last_outcome = Some(Outcome { sequence: Some(2), reason: Reason::ImageDigest.code() });
    lamp.fail(2).await;
    assert_eq!(world.app.get("/devices/lamp-1").await["failures"]["count"], 2);
    // What went well in the end is no failure any more.
    world.clock.advance_ms(3 * HOUR_MS);
    assert_eq!(lamp.offered().await, Some(2));
    lamp.connection.report(2, Reason::Installed).await.expect(204);
    assert_eq!(world.app.get("/devices/lamp-1").await["failures"], Value::Null);
}

#[tokio::test]
async fn a_release_is_promoted_to_another_channel_without_signing_it_again() {
    let (mut world, mut lamps) = World::with_a_lab(2, 0).await;
    let beta = json!({ "channel": "beta" }).to_string();
    world.app.admin(Method::PATCH, "/devices/lamp-1", beta).await.expect(200);
    world.publish(&[1], "none").await;
    let on = |channel: &str| json!({ "product": "lamp", "sequence": 2, "channel": channel, "plan": one_wave(60), "start": true });
    let first = world.app.post("/rollouts", &on("beta")).await.expect(201).json();
    assert_eq!((&first["id"], &first["channel"]), (&json!("ro-lamp-2"), &json!("beta")));
    assert_eq!(lamps[1].offered().await, None, "it is on stable");
    lamps[0].install(&world, 2).await;
    let promoted = world.app.post("/rollouts", &on("stable")).await.expect(201).json();
    assert_eq!((&promoted["id"], &promoted["channel"]), (&json!("ro-lamp-2.2"), &json!("stable")));
    assert_eq!(world.app.get("/rollouts/ro-lamp-2").await["state"], "open", "each channel has its own");
    lamps[1].install(&world, 2).await;
    let twice = world.app.post("/rollouts", &on("stable")).await.expect(409).json();
    assert_eq!(
        twice["detail"],
        "rollout ro-lamp-2.2 of this release is open on this channel; abort it first"
    );
    world.app.post("/rollouts", &on("nightly")).await.expect(422);
    // What is taken back on one channel stays on the other.
    world.act("ro-lamp-2", "abort").await;
    assert_eq!(lamps[0].offered().await, Some(1));
    assert_eq!(lamps[1].offered().await, None);
}

#[tokio::test]
async fn a_backend_that_hears_the_application_gives_evidence() {
    let mut world = World::new().await;
    let mut lamps = world.lamps(4).await;
    let id = world.roll_out(&[], one_wave(0)).await;
    let installed = Report {
        protocol: wire::PROTOCOL_VERSION,
        outcome: Outcome { sequence: Some(2), reason: Reason::Installed.code() },
        running_digest: Some(Digest::of(&world.images[2]).0.into()),
        downloaded_bytes: None,
        erased_bytes: None,
    };
    for lamp in &mut lamps[..3] {
        assert_eq!(lamp.offered().await, Some(2));
        lamp.connection.post(wire::REPORTS_PATH, wire::MEDIA_TYPE, installed.to_cbor()).await.expect(204);
    }
    let at = |ms: i64| {
        let at = time::OffsetDateTime::from_unix_timestamp_nanos(i128::from(ms) * 1_000_000).unwrap();
        at.format(&time::format_description::well_known::Rfc3339).unwrap()
    };
    let installed_ms = world.clock.now_ms();
    world.clock.advance_ms(HOUR_MS);
    let alive = |device: &str, ms: i64| json!({ "device": device, "alive_at": at(ms) });
    let now_ms = world.clock.now_ms();
    let mut failing = alive("lamp-3", now_ms);
    failing["failure"] = json!("no word from its sensor");
    let body = json!({ "evidence": [
        alive("lamp-1", now_ms), alive("lamp-2", installed_ms - HOUR_MS), failing, alive("lamp-4", now_ms),
        alive("lamp-9", now_ms),
    ] });
    for new in [2, 0] {
        let taken = world.app.post("/evidence", &body).await.expect(200).json();
        assert_eq!((&taken["counted"], &taken["unchanged"]), (&json!(new), &json!(2 - new)), "{taken}");
        assert_eq!(taken["unknown"], json!(["lamp-9"]));
        let reasons: Vec<_> = taken["ignored"].as_array().unwrap().iter().map(|one| &one["reason"]).collect();
        let expected = ["at that time it did not have the release yet", "no rollout offered it a release"];
        assert_eq!(reasons, expected);
        let rollout = world.app.get(&format!("/rollouts/{id}")).await;
        assert_eq!(counters(&rollout, 0), [3, 1, 1, 0, 1, 0], "like a start, and once");
    }
    let events = world.app.get("/devices/lamp-3/events?limit=1").await;
    assert_eq!(events["items"][0]["detail"]["failure"], "no word from its sensor");

    let lines = world.app.get("/audit?kind=evidence&product=lamp").await;
    let told = |index: usize| {
        let line = &lines["items"][index];
        assert_eq!((&line["action"], &line["actor"]["name"]), (&json!("evidence.add"), &json!("first")));
        line["after"].clone()
    };
    let line = |counted: u64| {
        json!({
            "devices": 5, "failures": 1, "counted": counted, "unchanged": 2 - counted, "unknown": 1, "ignored": 2,
        })
    };
    assert_eq!((told(1), told(0), &lines["items"][2]), (line(2), line(0), &json!(null)));

    let too_late = json!({ "evidence": [alive("lamp-2", now_ms + HOUR_MS)] });
    world.app.post("/evidence", &too_late).await.expect(422);
    world.app.post("/evidence", &json!({ "evidence": [] })).await.expect(400);
}
