//! A certificate that has ended is good for one thing: the next one.

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hyper::Method;
use hyper::header::CONTENT_TYPE;
use rcgen::KeyPair;
use rustls::HandshakeKind;
use serde_json::{Value, json};
use server::{Clock, Config, Retention};
use wire::Message as _;

use crate::app::{TestApp, check_in, csr, new_key};
use crate::client::{Answer, Connection, Identity, client_config, request, tls_stream_with};

const REENROLL: &str = "/.well-known/est/simplereenroll";
const DAY_MS: i64 = 24 * 3_600_000;

/// A server whose certificates for devices end after 90 days, and its clock.
async fn start(change: impl FnOnce(&mut Config)) -> (TestApp, Clock) {
    let clock = Clock::default();
    let app = TestApp::start_with(|config| {
        config.clock = clock.clone();
        config.device_certificate_days = 90;
        change(config);
    })
    .await;
    (app, clock)
}

async fn renew(connection: &mut Connection, key: &KeyPair) -> Answer {
    connection.post(REENROLL, "application/pkcs10", BASE64_STANDARD.encode(csr(key))).await
}

/// What is refused to whoever comes with this certificate: everything but a renewal.
async fn assert_served_nothing(connection: &mut Connection, because: &str) {
    let artifact = format!("{}{}", wire::ARTIFACTS_PATH, "0".repeat(64));
    let answers = [
        connection.check_in(&check_in(None)).await,
        connection.report(1, wire::Reason::Installed).await,
        connection.get(&artifact, &[]).await,
    ];
    for answer in answers {
        let text = answer.expect(403).text().to_owned();
        assert!(text.contains(because), "{text}");
    }
}

async fn refused(app: &TestApp) -> Value {
    app.get("/devices/lamp-1").await["certificate_refused"].clone()
}

#[tokio::test]
async fn an_ended_certificate_is_good_for_its_renewal_and_for_nothing_else() {
    let (app, clock) = start(|_| {}).await;
    let (device, old) = app.enrolled().await;
    let mut before = app.connect(Some(&old)).await;
    before.check_in(&check_in(None)).await.expect(200);
    let ends = app.get("/devices/lamp-1").await["certificate"]["not_after"].clone();
    clock.advance_ms(3 * 365 * DAY_MS);

    let mut after = app.connect(Some(&old)).await;
    for connection in [&mut before, &mut after] {
        assert_served_nothing(connection, "has ended").await;
    }
    assert_eq!(refused(&app).await["cause"], "certificate-ended");
    assert!(app.get("/devices/lamp-1").await["last_seen_at"].as_str() < refused(&app).await["at"].as_str());
    // Who has not the key gets nothing, as ever.
    let key = new_key();
    let mut forged = csr(&key);
    *forged.last_mut().unwrap() ^= 1;
    after.post(REENROLL, "application/pkcs10", BASE64_STANDARD.encode(forged)).await.expect(400);
    let new = Identity {
        certificate: renew(&mut after, &key).await.expect(200).certificate(),
        key_der: key.serialize_der(),
    };
    assert_eq!(refused(&app).await, Value::Null);
    app.connect(Some(&new)).await.check_in(&check_in(None)).await.expect(200);

    let events = app.get("/devices/lamp-1/events").await;
    let event =
        events["items"].as_array().unwrap().iter().find(|event| event["kind"] == "ended-certificate-renewed");
    assert_eq!(event.unwrap()["detail"]["ended_at"], ends);
    let lines = app.get("/audit?kind=device").await;
    let line = &lines["items"][0];
    assert_eq!(
        (&line["action"], &line["actor"]["id"]),
        (&json!("device.renew-ended-certificate"), &json!("server"))
    );
    assert_eq!((&line["after"]["ended_at"], &line["product"]), (&ends, &json!("lamp")));
    let mut admin = Connection::plain(app.server.admin_addr()).await.unwrap();
    let metrics = admin.get("/metrics", &[]).await.expect(200);
    for line in [
        "pitstop_enrollments_total{outcome=\"renewed-after-end\"} 1",
        "pitstop_enrollments_total{outcome=\"renewed\"} 0",
    ] {
        assert!(metrics.text().lines().any(|found| found == line), "{line} in {}", metrics.text());
    }
    // It was replaced, and is good for nothing any more.
    assert_served_nothing(&mut after, "replaced").await;
    renew(&mut after, &device.key).await.expect(403);
    assert_eq!(refused(&app).await["cause"], "certificate-replaced");
}

/// The answer to a renewal may be lost: the certificate before the newest one renews itself too, and none before that.
#[tokio::test]
async fn of_ended_certificates_the_newest_and_the_one_before_it_are_renewed() {
    let (app, clock) = start(|_| {}).await;
    let (device, first) = app.enrolled().await;
    let mut connection = app.connect(Some(&first)).await;
    connection.check_in(&check_in(None)).await.expect(200);
    // The answer is lost.
    let second = device.identity(renew(&mut connection, &device.key).await.expect(200).certificate());
    clock.advance_ms(91 * DAY_MS);
    let mut connection = app.connect(Some(&first)).await;
    renew(&mut connection, &device.key).await.expect(200);
    renew(&mut connection, &device.key).await.expect(200);
    let mut lost = app.connect(Some(&second)).await;
    let text = renew(&mut lost, &device.key).await.expect(403).text().to_owned();
    assert!(text.contains("replaced"), "{text}");
    let newest = device.identity(renew(&mut connection, &device.key).await.expect(200).certificate());
    app.connect(Some(&newest)).await.check_in(&check_in(None)).await.expect(200);
    renew(&mut connection, &device.key).await.expect(403);
    // As ever, 8 in a day.
    clock.advance_ms(91 * DAY_MS);
    let mut connection = app.connect(Some(&newest)).await;
    for _ in 0..8 {
        renew(&mut connection, &device.key).await.expect(200);
    }
    renew(&mut connection, &device.key).await.expect(429);
}

#[tokio::test]
async fn a_revoked_or_suspended_device_does_not_renew_what_has_ended() {
    let (app, clock) = start(|_| {}).await;
    let (device, identity) = app.enrolled().await;
    clock.advance_ms(91 * DAY_MS);
    let mut connection = app.connect(Some(&identity)).await;
    app.post("/devices/lamp-1/suspend", &json!({})).await.expect(200);
    assert_served_nothing(&mut connection, "revoked").await;
    renew(&mut connection, &device.key).await.expect(403);
    assert_eq!(refused(&app).await["cause"], "revoked");
    app.post("/devices/lamp-1/resume", &json!({})).await.expect(200);
    let renewed = device.identity(renew(&mut connection, &device.key).await.expect(200).certificate());
    app.post("/devices/lamp-1/revoke", &json!({})).await.expect(200);
    clock.advance_ms(91 * DAY_MS);
    for identity in [&identity, &renewed] {
        renew(&mut app.connect(Some(identity)).await, &device.key).await.expect(403);
    }
    // One that is deleted is nobody's, although nothing is kept of what had ended; nor is it that of another device.
    app.admin(Method::DELETE, "/devices/lamp-1", "").await.expect(200);
    renew(&mut app.connect(Some(&renewed)).await, &device.key).await.expect(403);
    app.create_device("lamp-1", "lamp").await;
    renew(&mut app.connect(Some(&renewed)).await, &device.key).await.expect(403);
}

#[tokio::test]
async fn how_long_ago_a_certificate_may_have_ended_is_the_operators_to_say() {
    for (limit_days, in_time) in [(Some(30), 119), (Some(0), 90), (None, 9 * 365)] {
        let (app, clock) = start(|config| config.renew_ended_days = limit_days).await;
        let (device, identity) = app.enrolled().await;
        clock.advance_ms(in_time * DAY_MS - 60_000);
        let mut connection = app.connect(Some(&identity)).await;
        renew(&mut connection, &device.key).await.expect(200);
        let Some(_) = limit_days else { continue };
        clock.advance_ms(DAY_MS + 120_000);
        for _ in 0..2 {
            let text = renew(&mut connection, &device.key).await.expect(403).text().to_owned();
            assert!(text.contains("longer ago than"), "{text}");
            assert_served_nothing(&mut connection, "longer ago than").await;
        }
        let noted = refused(&app).await;
        assert_eq!(noted["cause"], "certificate-ended-too-long");
        // Noted once an hour, however often it comes.
        clock.advance_ms(3_500_000);
        renew(&mut connection, &device.key).await.expect(403);
        assert_eq!(refused(&app).await, noted);
        clock.advance_ms(100_000);
        renew(&mut connection, &device.key).await.expect(403);
        assert!(refused(&app).await["at"].as_str() > noted["at"].as_str());
        // A new token is the way back, and ends that.
        let answer = app.post("/devices/lamp-1/enrollment-token", &json!({})).await.expect(201).json();
        let token = answer["enrollment_token"].as_str().unwrap().to_owned();
        app.enroll_as("lamp-1", &token, BASE64_STANDARD.encode(csr(&new_key()))).await.expect(200);
        assert_eq!(refused(&app).await, Value::Null);
    }
}

/// A ticket carries the certificate: it is judged as on a connection of its own.
#[tokio::test]
async fn a_resumed_session_renews_what_has_ended_and_gets_nothing_else() {
    let (app, clock) = start(|config| config.tls_tickets = true).await;
    let (device, identity) = app.enrolled().await;
    let config = client_config(app.server.ca_certificate_der(), Some(&identity));
    let mut answers = Vec::new();
    for (path, media_type, body, kind) in [
        (wire::CHECK_IN_PATH, wire::MEDIA_TYPE, check_in(None).to_cbor(), HandshakeKind::Full),
        (wire::CHECK_IN_PATH, wire::MEDIA_TYPE, check_in(None).to_cbor(), HandshakeKind::Resumed),
        (
            REENROLL,
            "application/pkcs10",
            BASE64_STANDARD.encode(csr(&device.key)).into_bytes(),
            HandshakeKind::Resumed,
        ),
    ] {
        let stream = tls_stream_with(app.device_addr(), config.clone()).await.unwrap();
        assert_eq!(stream.get_ref().1.handshake_kind(), Some(kind));
        let mut connection = Connection::over(stream).await.unwrap();
        let headers = [(CONTENT_TYPE.as_str(), media_type)];
        let answer = connection.send(request(Method::POST, path, &headers, body)).await.unwrap();
        answers.push(answer.status.as_u16());
        if kind == HandshakeKind::Full {
            // Tickets of TLS 1.3 end after a week at most, by the client's clock.
            clock.advance_ms(91 * DAY_MS);
        }
    }
    assert_eq!(answers, [200, 403, 200]);
}

/// What a device had last is kept for as long as the device.
#[tokio::test]
async fn what_a_renewal_after_the_end_needs_is_kept() {
    let retention = Retention {
        certificates_days: 10,
        period: std::time::Duration::from_millis(50),
        ..Retention::default()
    };
    let (app, clock) = start(|config| config.retention = retention).await;
    let (device, first) = app.enrolled().await;
    let mut connection = app.connect(Some(&first)).await;
    let second = device.identity(renew(&mut connection, &device.key).await.expect(200).certificate());
    app.connect(Some(&second)).await.check_in(&check_in(None)).await.expect(200);
    let third = renew(&mut app.connect(Some(&second)).await, &device.key).await.expect(200).certificate();
    clock.advance_ms(800 * DAY_MS);
    let count = async || {
        let mut database = app.dir.connect().await;
        let count = sqlx::query_scalar::<_, i64>("SELECT CAST(COUNT(*) AS BIGINT) FROM certificates");
        count.fetch_one(&mut database).await.unwrap()
    };
    let ends = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while count().await > 2 {
        assert!(std::time::Instant::now() < ends, "nothing is deleted");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    for identity in [&second, &device.identity(third)] {
        let mut connection = app.connect(Some(identity)).await;
        let text = connection.check_in(&check_in(None)).await.expect(403).text().to_owned();
        assert!(text.contains("has ended"), "{text}");
    }
    renew(&mut app.connect(Some(&second)).await, &device.key).await.expect(200);
}

/// The ids of devices that a list has, and its total.
async fn listed(app: &TestApp, query: &str) -> (Vec<String>, Value) {
    let list = app.get(&format!("/devices?total=true&{query}")).await;
    let ids =
        list["items"].as_array().unwrap().iter().map(|device| device["id"].as_str().unwrap().to_owned());
    (ids.collect(), list["total"].clone())
}

#[tokio::test]
async fn devices_whose_certificates_end_are_listed_counted_and_told_once_a_month() {
    let (app, clock) = start(|_| {}).await;
    let (_, first) = app.enrolled().await;
    app.create_device("lamp-new", "lamp").await;
    let mut identities = Vec::new();
    for (id, days) in [("lamp-2", 40), ("lamp-3", 40), ("lamp-4", 0)] {
        clock.advance_ms(days * DAY_MS);
        let device = app.create_device(id, "lamp").await;
        let certificate = app.enroll(&device, &csr(&device.key)).await.expect(200).certificate();
        identities.push((device.identity(certificate), device));
    }
    app.post("/devices/lamp-4/suspend", &json!({ "reason": "a test" })).await.expect(200);
    // The first has 10 days left, the second 50, the third and the fourth 90.
    for (days, expected) in [(0, 0), (9, 0), (10, 1), (49, 1), (50, 2), (90, 4)] {
        let (ids, total) = listed(&app, &format!("certificate_ends_within_days={days}")).await;
        assert_eq!((ids.len(), &total["count"]), (expected, &json!(expected)), "{days}: {total}");
    }
    let certificates = json!({ "ended": 0, "ending": 1, "refused": 0 });
    app.until("/fleet/summary", |summary| summary["certificates"] == certificates).await;

    clock.advance_ms(51 * DAY_MS);
    let mut connection = app.connect(Some(&first)).await;
    assert_served_nothing(&mut connection, "has ended").await;
    assert_eq!(listed(&app, "certificate_refused=true").await.0, ["lamp-1"]);
    assert_eq!(listed(&app, "certificate_ends_within_days=0").await.0, ["lamp-1", "lamp-2"]);
    // Every list takes it: ordered by a time, and narrowed.
    let query = "certificate_ends_within_days=30&sort=created&order=descending&health=new";
    assert_eq!(listed(&app, query).await.0, ["lamp-2", "lamp-1"]);
    let certificates = json!({ "ended": 2, "ending": 0, "refused": 1 });
    app.until("/fleet/summary", |summary| summary["certificates"] == certificates).await;
    app.until("/fleet/summary?product=lamp", |summary| summary["certificates"] == certificates).await;

    let app = app.restart_with(|config| config.clock = clock.clone()).await;
    let is_told = |line: &Value| line["action"] == "certificate.devices-end";
    let lines = app.until("/audit?kind=product", |lines| is_told(&lines["items"][0])).await;
    let line = &lines["items"][0];
    assert_eq!((&line["subject"], &line["product"]), (&json!("lamp"), &json!("lamp")));
    assert_eq!(line["after"], json!({ "ended": 2, "ending": 0, "within_days": 30, "refused": 1 }));
    let mut admin = Connection::plain(app.server.admin_addr()).await.unwrap();
    let counted = [("ended", 2), ("ending", 0), ("refused", 1)].map(|(state, devices)| {
        format!("pitstop_device_certificates{{product=\"lamp\",state=\"{state}\"}} {devices}")
    });
    let ends = Instant::now() + Duration::from_secs(20);
    loop {
        let metrics = admin.get("/metrics", &[]).await.expect(200);
        if counted.iter().all(|line| metrics.text().lines().any(|found| found == line)) {
            break;
        }
        assert!(Instant::now() < ends, "{counted:?} in {}", metrics.text());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // Who renews is none of them, and what was told is not told again before the next month.
    let (identity, device) = &identities[0];
    let mut connection = app.connect(Some(identity)).await;
    renew(&mut connection, &device.key).await.expect(200);
    assert_eq!(listed(&app, "certificate_ends_within_days=0").await.0, ["lamp-1"]);
    let app = app.restart_with(|config| config.clock = clock.clone()).await;
    app.until("/fleet/summary", |summary| summary["certificates"]["ended"] == 1).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let lines = app.get("/audit?kind=product").await;
    assert_eq!(lines["items"].as_array().unwrap().iter().filter(|line| is_told(line)).count(), 1);
    for wrong in ["-1", "3651", "30d"] {
        app.admin(Method::GET, &format!("/devices?certificate_ends_within_days={wrong}"), "")
            .await
            .expect(400);
    }
}
