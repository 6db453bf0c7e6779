//! A clock that jumps, and a server that was away.

use std::time::{Duration, Instant};

use hyper::Method;
use rollout::bucket;
use serde_json::{Value, json};
use server::{Clock, StartError};
use sqlx::Connection as _;

use crate::app::{TestApp, check_in, csr, start_in};
use crate::client::Connection;
use crate::place::Place;
use crate::rollouts::{DAY_MS, HOUR_MS, Lamp, World, counters, one_wave};

const YEAR_MS: i64 = 365 * DAY_MS;

impl World {
    /// Returns when the server has looked at the clock as it is now: it stores so.
    async fn until_looked(&self) {
        let ends = Instant::now() + Duration::from_secs(20);
        let now_ms = self.clock.machine_ms();
        let mut database = self.app.dir.connect().await;
        loop {
            let stored: Option<String> =
                sqlx::query_scalar("SELECT value FROM settings WHERE name = 'watch'")
                    .fetch_optional(&mut database)
                    .await
                    .unwrap();
            let stored = stored.map(|stored| serde_json::from_str::<Value>(&stored).unwrap());
            let stored_ms = stored.map_or(0, |stored| stored["last_ms"].as_i64().unwrap());
            if stored_ms.abs_diff(now_ms) < 30_000 {
                break;
            }
            assert!(Instant::now() < ends, "the clock shows {now_ms}, the server looked at {stored_ms}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        database.close().await.unwrap();
    }

    async fn jump(&self, by_ms: i64) {
        self.clock.jump_ms(by_ms);
        self.until_looked().await;
    }
}

impl Lamp {
    /// The status of a check-in on a new connection; 0 when there is none.
    async fn status(&self, app: &TestApp) -> u16 {
        let connection =
            Connection::tls(app.device_addr(), app.server.ca_certificate_der(), Some(&self.identity)).await;
        let Ok(mut connection) = connection else { return 0 };
        let headers = [("content-type", wire::MEDIA_TYPE)];
        let body = wire::Message::to_cbor(&check_in(None));
        let request = crate::client::request(Method::POST, wire::CHECK_IN_PATH, &headers, body);
        connection.send(request).await.map_or(0, |answer| answer.status.as_u16())
    }
}

/// Two devices that have the release and two that took it, a rollout that tolerates hardly any silence.
async fn world_with_silent_ones() -> (World, Vec<Lamp>, String) {
    let mut world = World::new().await;
    let mut lamps = world.lamps(4).await;
    world.habit(&mut lamps, HOUR_MS).await;
    let id = world.roll_out(&[], one_wave(30 * 24 * 3600)).await;
    for (number, lamp) in lamps.iter_mut().enumerate() {
        match number {
            0 | 1 => lamp.install(&world, 2).await,
            _ => assert_eq!(lamp.offered().await, Some(2)),
        }
    }
    world.until_looked().await;
    (world, lamps, id)
}

async fn assert_nothing_happened(world: &World, id: &str) {
    let rollout = world.app.get(&format!("/rollouts/{id}")).await;
    assert_eq!((&rollout["state"], counters(&rollout, 0)), (&json!("open"), [4, 0, 2, 0, 0, 0]));
}

/// The time that a device has begins anew, and then it is judged.
async fn assert_silence_is_found(world: &World, id: &str) {
    world.clock.advance_ms(7 * DAY_MS - HOUR_MS);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_nothing_happened(world, id).await;
    world.clock.advance_ms(2 * HOUR_MS);
    let halted = world.in_state(id, "halted").await;
    assert_eq!((&halted["halt"]["cause"], counters(&halted, 0)), (&json!("silence"), [4, 0, 2, 0, 0, 2]));
}

#[tokio::test]
async fn a_clock_that_jumps_ahead_makes_nobody_silent() {
    let (world, _, id) = world_with_silent_ones().await;
    world.jump(YEAR_MS).await;
    assert_nothing_happened(&world, &id).await;
    assert_silence_is_found(&world, &id).await;
}

#[tokio::test]
async fn a_clock_that_was_ahead_for_a_while_leaves_nothing_behind() {
    let (world, lamps, id) = world_with_silent_ones().await;
    world.jump(YEAR_MS).await;
    // Its certificate has ended by this clock.
    assert!(matches!(lamps[0].status(&world.app).await, 0 | 403));
    let late = world.lamp("lamp-5").await;
    assert_eq!(late.status(&world.app).await, 200);
    let seen_ahead = |lamp: &Value| lamp["last_seen_at"].as_str().is_some_and(|at| at > "2027-06");
    world.app.until("/devices/lamp-5", seen_ahead).await;
    world.jump(-YEAR_MS).await;
    for lamp in lamps.iter().take(2) {
        assert_eq!(lamp.status(&world.app).await, 200, "a device is locked out");
    }
    // It took the release a year ahead.
    let rollout = world.app.get(&format!("/rollouts/{id}")).await;
    assert_eq!((&rollout["state"], counters(&rollout, 0)[0]), (&json!("open"), 5));
    world.clock.advance_ms(7 * DAY_MS + HOUR_MS);
    let halted = world.in_state(&id, "halted").await;
    assert_eq!(halted["halt"]["cause"], "silence");
    // Nobody knows how often it starts.
    world.app.until("/devices/lamp-5", |lamp| lamp["attempt"]["state"] == "unheard").await;
    assert_eq!(late.status(&world.app).await, 200, "a certificate from the future is good");
}

#[tokio::test]
async fn a_clock_that_starts_ten_years_back_locks_nobody_out() {
    let (world, mut lamps, id) = world_with_silent_ones().await;
    world.jump(-10 * YEAR_MS).await;
    assert_nothing_happened(&world, &id).await;
    assert_eq!(lamps[0].status(&world.app).await, 200, "no certificate is from the future");
    // What is made meanwhile is good when the clock is right.
    let late = world.lamp("lamp-5").await;
    world.app.create_device("lamp-6", "lamp").await;
    assert_eq!(late.status(&world.app).await, 200);
    world.app.post("/devices/lamp-6/revoke", &json!({ "reason": "lost" })).await.expect(200);

    world.jump(10 * YEAR_MS).await;
    assert_eq!(late.status(&world.app).await, 200, "its certificate has ended");
    assert_eq!(lamps[1].status(&world.app).await, 200);
    lamps[2].install(&world, 2).await;
    let rollout = world.app.get(&format!("/rollouts/{id}")).await;
    assert_eq!((&rollout["state"], counters(&rollout, 0)[5]), (&json!("open"), 0));

    // The log tells what came after what.
    world.app.create_device("lamp-7", "lamp").await;
    let lines = world.app.get("/audit?kind=device&limit=4").await;
    let line =
        |line: &Value| format!("{} {}", line["action"].as_str().unwrap(), line["subject"].as_str().unwrap());
    let lines: Vec<_> = lines["items"].as_array().unwrap().iter().map(line).collect();
    let expected =
        ["device.create lamp-7", "device.revoke lamp-6", "device.create lamp-6", "device.create lamp-5"];
    assert_eq!(lines, expected);
}

#[tokio::test]
async fn a_wave_opens_when_it_has_soaked_and_not_when_the_clock_says_so() {
    let mut world = World::new().await;
    let wave = |percent| json!({ "select": { "percent": percent }, "soak_s": 3600 });
    let is_first = |number: &u32| bucket("ro-lamp-2", &format!("lamp-{number}")) < 5000;
    let first = (1..).find(is_first).unwrap();
    let second = (1..).find(|number| !is_first(number)).unwrap();
    let mut first = world.lamp(&format!("lamp-{first}")).await;
    let mut second = world.lamp(&format!("lamp-{second}")).await;
    let id = world.roll_out(&[], json!({ "waves": [wave(50), wave(100)] })).await;
    let path = format!("/rollouts/{id}");
    let open = async |world: &World| world.app.get(&path).await["wave"].clone();
    first.install(&world, 2).await;
    world.until_looked().await;
    world.jump(2 * HOUR_MS).await;
    assert_eq!(open(&world).await, 0);
    world.clock.advance_ms(HOUR_MS - 60_000);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(open(&world).await, 0, "it has an hour from the jump on");
    world.clock.advance_ms(120_000);
    world.app.until(&path, |rollout| rollout["wave"] == 1).await;
    second.install(&world, 2).await;
    // Back: it does not stand still for the hours that come again.
    world.jump(-5 * HOUR_MS).await;
    assert_eq!(open(&world).await, 1);
    world.clock.advance_ms(HOUR_MS + 60_000);
    world.in_state(&id, "completed").await;
}

#[tokio::test]
async fn nobody_is_silent_while_the_server_is_down() {
    let (world, _, id) = world_with_silent_ones().await;
    let World { app: TestApp { server, token, dir }, clock, images } = world;
    server.shutdown().await;
    clock.jump_ms(10 * DAY_MS);
    let server = start_in(&dir, |config| config.clock = clock.clone()).await;
    let world = World { app: TestApp { server, token, dir }, clock, images };
    world.until_looked().await;
    assert_nothing_happened(&world, &id).await;
    assert_silence_is_found(&world, &id).await;
}

#[tokio::test]
async fn no_time_is_too_much_for_the_server() {
    let (world, lamps, id) = world_with_silent_ones().await;
    let began_ms = world.clock.now_ms();
    // 1970; before 1970; past 2^31 s (2038), 2^32 s (2106), the year 9999, and what 64 bits can tell.
    for at_ms in [0, -YEAR_MS, 2_147_483_648_000, 4_294_967_296_000, 253_402_300_800_000, i64::MAX / 2] {
        let back_ms = world.clock.now_ms();
        world.clock.jump_ms(at_ms - back_ms);
        for path in
            ["/info", "/fleet/summary", "/fleet/history", "/devices", "/audit", "/rollouts", "/tokens"]
        {
            let answer = world.app.admin(Method::GET, path, "").await;
            assert!(answer.status == 200, "{at_ms} {path}: {} {}", answer.status, answer.text());
        }
        world.app.post("/tokens", &json!({ "name": "x", "role": "viewer" })).await.expect(201);
        for path in ["/readyz", "/metrics", "/.well-known/pitstop/crl.der"] {
            Connection::plain(world.app.server.admin_addr()).await.unwrap().get(path, &[]).await.expect(200);
        }
        let status = lamps[0].status(&world.app).await;
        assert!(matches!(status, 0 | 200 | 403), "{at_ms}: {status}");
    }
    world.jump(began_ms - world.clock.now_ms()).await;
    assert_eq!(lamps[0].status(&world.app).await, 200);
    let rollout = world.app.get(&format!("/rollouts/{id}")).await;
    assert_eq!(rollout["state"], "open");
}

#[tokio::test]
async fn no_ca_is_made_by_a_clock_that_has_not_been_set() {
    for at_ms in [0, 946_684_800_000] {
        let place = Place::new().await;
        let clock = Clock::default();
        clock.jump_ms(at_ms - clock.machine_ms());
        let mut config = place.config();
        config.clock = clock.clone();
        let error = server::start(config).await.err().unwrap();
        assert!(matches!(error, StartError::Clock { .. }), "{error}");
        assert!(!place.path().join("ca/ca.pem").exists());
        let mut config = place.config();
        config.clock = Clock::default();
        server::start(config).await.unwrap().shutdown().await;
    }
}

#[tokio::test]
async fn a_ca_that_was_made_by_a_clock_years_ahead_is_good_when_it_is_right() {
    let clock = Clock::default();
    clock.jump_ms(9 * YEAR_MS);
    let app = TestApp::start_with(|config| config.clock = clock.clone()).await;
    app.create_product("lamp").await;
    let lamp = |id: &'static str| async {
        let device = app.create_device(id, "lamp").await;
        let certificate = app.enroll(&device, &csr(&device.key)).await.expect(200).certificate();
        device.identity(certificate)
    };
    let ahead = lamp("lamp-1").await;
    clock.jump_ms(-9 * YEAR_MS);
    app.connect(Some(&ahead)).await.check_in(&check_in(None)).await.expect(200);
    let right = lamp("lamp-2").await;
    app.connect(Some(&right)).await.check_in(&check_in(None)).await.expect(200);
    let days = async |id: &str| {
        let device = app.get(&format!("/devices/{id}")).await;
        let end = device["certificate"]["not_after"].as_str().unwrap().to_owned();
        end[..4].parse::<i32>().unwrap()
    };
    let this_year = clock.now_ms() / YEAR_MS + 1970;
    assert!(i64::from(days("lamp-1").await) > this_year + 8);
    assert!(i64::from(days("lamp-2").await) <= this_year + 1, "one wrong certificate lengthens all others");
    let app = app.restart().await;
    let device = app.create_device("lamp-3", "lamp").await;
    app.enroll(&device, &csr(&device.key)).await.expect(200);
    let end = app.get("/devices/lamp-3").await["certificate"]["not_after"].as_str().unwrap().to_owned();
    assert!(end[..4].parse::<i64>().unwrap() <= this_year + 1, "{end}");
}
