//! Check-ins, reports and decisions.

use std::time::Duration;

use hyper::Method;
use manifest::{Manifest, PublisherKeys, Signed};
use serde_json::{Value, json};
use server::Clock;
use wire::{CheckIn, Message as _, Outcome, Reason, ResetCause, Slot};

use crate::app::{TestApp, check_in, csr, new_key, publisher};
use crate::client::{Identity, request};

fn kinds(events: &Value) -> Vec<String> {
    events["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|event| event["kind"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn the_main_job() {
    let app = TestApp::start().await;
    let (_, identity) = app.enrolled().await;
    let mut connection = app.connect(Some(&identity)).await;
    let decision = connection.check_in(&check_in(None)).await.expect(200).decision();
    assert_eq!(decision.manifest, None);
    assert!(decision.server_time_s > 1_700_000_000);

    let image = app.release(1, "1.0.0").await;
    let answer = connection.check_in(&check_in(None)).await.expect(200);
    assert_eq!(answer.header("content-type"), wire::MEDIA_TYPE);
    let decision = answer.decision();
    let keys: PublisherKeys = [publisher().publisher_key()].into_iter().collect();
    let signed = Signed::<Manifest>::from_bytes(decision.manifest_bytes().unwrap().to_vec());
    let manifest = signed.verify(&keys).unwrap();
    assert_eq!((manifest.sequence.0, manifest.version.as_str()), (1, "1.0.0"));

    // As an updater does: chunk by chunk, on the same connection.
    let mut downloaded = Vec::new();
    for index in 0..manifest.artifact.chunks.len() {
        let (offset_bytes, length_bytes) = manifest.artifact.chunk(index as u32).unwrap();
        let range = format!("bytes={offset_bytes}-{}", offset_bytes + length_bytes - 1);
        let path = format!("{}{}", wire::ARTIFACTS_PATH, manifest.artifact.digest);
        let part = connection.get(&path, &[("range", &range)]).await.expect(206);
        assert_eq!(part.body.len(), length_bytes as usize);
        assert_eq!(part.header("content-range"), format!("{}/{}", range.replace('=', " "), image.len()));
        downloaded.extend_from_slice(&part.body);
    }
    assert_eq!(downloaded, image);
    connection.report(1, Reason::Installed).await.expect(204);

    let decision = connection.check_in(&check_in(Some((&image, 1)))).await.expect(200).decision();
    assert_eq!(decision.manifest, None);
    let device = app.get("/devices/lamp-1").await;
    assert_eq!(device["running"]["sequence"], 1);
    assert_eq!(device["running"]["digest"], manifest.artifact.digest.to_string());
    assert_eq!(device["slots"], json!([{ "label": "ota_0", "size_bytes": 0x2f_0000, "bootable": true }]));
    assert_eq!(device["updater_version"], "0.1.0");
    assert_eq!(device["reset_cause"], "power-on");
    assert_eq!(device["free_heap_bytes"], 100_000);

    app.release(2, "1.1.0").await;
    let decision = connection.check_in(&check_in(Some((&image, 1)))).await.expect(200).decision();
    assert!(decision.manifest.is_some());
}

#[tokio::test]
async fn an_event_is_stored_only_when_something_changed() {
    let app = TestApp::start().await;
    let (_, identity) = app.enrolled().await;
    let mut connection = app.connect(Some(&identity)).await;
    let mut said = check_in(None);
    for _ in 0..3 {
        said.starts += 1;
        connection.check_in(&said).await.expect(200);
    }
    assert_eq!(kinds(&app.get("/devices/lamp-1/events").await), ["check-in", "enrolled", "created"]);
    // What only says that it was seen is written soon after.
    app.until("/devices/lamp-1", |device| device["starts"] == 4).await;

    said.last_outcome = Some(Outcome { sequence: Some(3), reason: Reason::ImageDigest.code() });
    for _ in 0..2 {
        connection.check_in(&said).await.expect(200);
    }
    said.reset_cause = ResetCause::Panic;
    connection.check_in(&said).await.expect(200);
    let events = app.get("/devices/lamp-1/events?limit=2").await;
    assert_eq!(events["items"][0]["detail"], json!({ "reset_cause": "panic" }));
    assert_eq!(events["items"][1]["detail"]["outcome"]["reason"], "image-digest");
    let cursor = events["next_cursor"].as_str().unwrap();
    let rest = app.get(&format!("/devices/lamp-1/events?limit=2&cursor={cursor}")).await;
    assert_eq!(kinds(&rest), ["check-in", "enrolled"]);
}

/// A device that always has news, and one that comes with a used token again and again, do not make the database grow.
#[tokio::test]
async fn past_the_events_of_a_day_one_says_how_many_more_there_were() {
    let clock = Clock::default();
    let app = TestApp::start_with(|config| config.clock = clock.clone()).await;
    let (_, identity) = app.enrolled().await;
    let mut connection = app.connect(Some(&identity)).await;
    let mut said = check_in(None);
    // At the begin of a day, so that the test does not see its end.
    let day_ms = 24 * 3_600_000;
    clock.advance_ms(day_ms - clock.now_ms() % day_ms);
    for number in 0..205 {
        said.updater_version = number.to_string();
        connection.check_in(&said).await.expect(200);
    }
    connection.report(1, Reason::ImageDigest).await.expect(204);
    let events = app.get("/devices/lamp-1/events?limit=1000").await;
    let found = kinds(&events);
    let count = |kind: &str| found.iter().filter(|found| *found == kind).count();
    let counts = ["check-in", "report", "events-left-out"].map(count);
    assert_eq!((counts, found.len()), ([200, 0, 1], 203), "and made and enrolled the day before");
    assert_eq!(events["items"][0]["detail"], json!({ "count": 6 }));
    assert_eq!(
        app.get("/devices/lamp-1").await["updater_version"],
        "204",
        "what it says is stored all the same"
    );

    clock.advance_ms(day_ms);
    connection.report(2, Reason::ImageDigest).await.expect(204);
    let found = kinds(&app.get("/devices/lamp-1/events?limit=2").await);
    assert_eq!(found, ["report", "events-left-out"], "another day");

    // Whoever has a token that was used by another key.
    let device = app.create_device("lamp-2", "lamp").await;
    app.enroll(&device, &csr(&device.key)).await.expect(200);
    let stranger = csr(&new_key());
    for _ in 0..202 {
        app.enroll(&device, &stranger).await.expect(401);
    }
    let events = app.get("/devices/lamp-2/events?limit=1000").await;
    assert_eq!(kinds(&events).len(), 203, "{events:#}");
    assert_eq!(events["items"][0]["detail"], json!({ "count": 2 }));
}

#[tokio::test]
async fn a_refused_release_is_not_offered_again_at_once() {
    let app = TestApp::start().await;
    let (_, identity) = app.enrolled().await;
    app.release(1, "1.0.0").await;
    let mut connection = app.connect(Some(&identity)).await;
    let mut said = check_in(Some((b"what ran before", 0)));

    // A broken connection is no refusal, and neither is one of another release.
    for (sequence, reason) in
        [(1, Reason::ConnectionLost), (1, Reason::ApplicationConfirmedItself), (9, Reason::ImageDigest)]
    {
        said.last_outcome = Some(Outcome { sequence: Some(sequence), reason: reason.code() });
        assert!(connection.check_in(&said).await.expect(200).decision().manifest.is_some());
        assert_eq!(app.get("/devices/lamp-1").await["last_outcome"]["reason"], reason.name());
    }

    connection.report(1, Reason::ImageDigest).await.expect(204);
    said.last_outcome = Some(Outcome { sequence: Some(1), reason: Reason::ImageDigest.code() });
    let decision = connection.check_in(&said).await.expect(200).decision();
    assert_eq!(decision.manifest, None);
    // Up to a quarter longer, by the device.
    assert!((3500..=4500).contains(&decision.backoff_s.unwrap()), "{decision:?}");
    assert_eq!(app.get("/devices/lamp-1").await["last_outcome"]["reason"], "image-digest");

    // A device with nothing to run is not made to wait.
    let nothing_to_run = CheckIn { running: None, ..said.clone() };
    assert!(connection.check_in(&nothing_to_run).await.expect(200).decision().manifest.is_some());
    app.release(2, "1.1.0").await;
    assert!(connection.check_in(&said).await.expect(200).decision().manifest.is_some());
}

#[tokio::test]
async fn a_report_says_what_runs_now() {
    let app = TestApp::start().await;
    let (_, identity) = app.enrolled().await;
    let mut connection = app.connect(Some(&identity)).await;
    connection.report(5, Reason::Installed).await.expect(204);
    let device = app.get("/devices/lamp-1").await;
    assert_eq!(device["running"], json!({ "digest": "07".repeat(32), "sequence": 5, "version": null }));
    assert_eq!(device["last_outcome"]["reason"], "installed");
    let event = &app.get("/devices/lamp-1/events").await["items"][0];
    assert_eq!(
        (event["kind"].as_str(), event["detail"]["erased_bytes"].as_u64()),
        (Some("report"), Some(4096))
    );
}

#[tokio::test]
async fn a_report_outlasts_the_check_in_before_it() {
    let app = TestApp::start().await;
    let (_, identity) = app.enrolled().await;
    report_after_a_rest(&app, &app, &identity).await;
}

/// A check-in with nothing new in it rests on one instance while another, or the same one, takes a report.
pub(crate) async fn report_after_a_rest(one: &TestApp, other: &TestApp, identity: &Identity) {
    let mut connection = one.connect(Some(identity)).await;
    for _ in 0..2 {
        connection.check_in(&check_in(None)).await.expect(200);
    }
    other.connect(Some(identity)).await.report(5, Reason::ImageDigest).await.expect(204);
    let told = one.get("/devices/lamp-1").await;
    assert_eq!((&told["last_outcome"]["sequence"], &told["failures"]["count"]), (&json!(5), &json!(1)));
    // By now what rested is written.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(one.get("/devices/lamp-1").await, told);
    let again = CheckIn {
        last_outcome: Some(Outcome { sequence: Some(5), reason: Reason::ImageDigest.code() }),
        ..check_in(None)
    };
    connection.check_in(&again).await.expect(200);
    let device = one.get("/devices/lamp-1").await;
    assert_eq!(device["failures"]["count"], 1, "the failure that was reported is told once more");
}

#[tokio::test]
async fn a_revoked_device_is_refused_at_its_next_request_on_an_open_connection() {
    let app = TestApp::start().await;
    let (_, identity) = app.enrolled().await;
    let mut connection = app.connect(Some(&identity)).await;
    connection.check_in(&check_in(None)).await.expect(200);
    let revoked = app.post("/devices/lamp-1/revoke", &json!({ "reason": "stolen" })).await.expect(200).json();
    assert_eq!(
        (revoked["state"].as_str(), revoked["revoked_reason"].as_str()),
        (Some("revoked"), Some("stolen"))
    );
    let refused = connection.check_in(&check_in(None)).await.expect(403);
    assert_eq!(refused.text(), "this device is revoked or suspended\n", "the reason is the operator's");
    connection.report(1, Reason::Installed).await.expect(403);
    connection.get(&format!("/v1/artifacts/{}", "0".repeat(64)), &[]).await.expect(403);
}

#[tokio::test]
async fn unreadable_bodies_are_refused() {
    let app = TestApp::start().await;
    let (_, identity) = app.enrolled().await;
    let mut connection = app.connect(Some(&identity)).await;
    let good = check_in(None).to_cbor();
    let answer = connection.post(wire::CHECK_IN_PATH, "application/json", good.clone()).await.expect(415);
    assert!(answer.text().contains("expected the content type application/cbor, found application/json"));
    let answer = connection.post(wire::CHECK_IN_PATH, wire::MEDIA_TYPE, &b"\xa0"[..]).await.expect(400);
    assert!(answer.text().starts_with("expected a check-in in CBOR"), "{}", answer.text());
    let cut = good[..good.len() - 1].to_vec();
    connection.post(wire::CHECK_IN_PATH, wire::MEDIA_TYPE, cut).await.expect(400);
    connection.post(wire::REPORTS_PATH, wire::MEDIA_TYPE, good).await.expect(400);
    connection.get(wire::CHECK_IN_PATH, &[]).await.expect(405);
    connection.get("/v1/nothing", &[]).await.expect(404);
    let mut long = connection;
    let body = vec![0; wire::MAX_REQUEST_BYTES + 1];
    long.post(wire::CHECK_IN_PATH, wire::MEDIA_TYPE, body).await.expect(413);
}

/// Whatever a device says of itself is kept short, and shown on no terminal as an order.
#[tokio::test]
async fn texts_of_a_check_in_are_bounded_and_printable() {
    let app = TestApp::start().await;
    let (_, identity) = app.enrolled().await;
    let hostile = format!("\x1b[2J\u{202e}{}\0", "ü".repeat(100));
    let expected = format!("[2J{}", "ü".repeat(30));
    let mut said = check_in(Some((b"image", 0)));
    said.running.as_mut().unwrap().version = Some(hostile.clone());
    said.updater_version.clone_from(&hostile);
    said.slots = vec![Slot { label: "\x07\u{2066}a".to_owned(), size_bytes: 1, bootable: false }; 100];
    said.slots[0].label.clone_from(&hostile);
    app.connect(Some(&identity)).await.check_in(&said).await.expect(200);
    let device = app.get("/devices/lamp-1").await;
    assert_eq!(device["running"]["version"], expected);
    assert_eq!(device["updater_version"], expected);
    let labels: Vec<_> =
        device["slots"].as_array().unwrap().iter().map(|slot| slot["label"].as_str().unwrap()).collect();
    assert_eq!((labels.len(), labels[0], labels[1]), (wire::MAX_SLOTS, expected.as_str(), "a"));
    let events = app.get("/devices/lamp-1/events?limit=1").await;
    assert_eq!(events["items"][0]["detail"]["updater_version"], expected);
}

#[tokio::test]
async fn without_a_client_certificate_there_is_nothing() {
    let app = TestApp::start().await;
    let (_, identity) = app.enrolled().await;
    let certificate = hex::encode(&identity.certificate);
    let headers = [
        ("content-type", wire::MEDIA_TYPE),
        // Identity comes from the handshake alone.
        ("x-client-cert", certificate.as_str()),
        ("x-forwarded-client-cert", "Subject=\"CN=lamp-1\""),
        ("x-ssl-client-s-dn", "CN=lamp-1"),
        ("x-device-id", "lamp-1"),
    ];
    let artifact = format!("/v1/artifacts/{}", "0".repeat(64));
    for (method, path) in
        [(Method::POST, wire::CHECK_IN_PATH), (Method::POST, wire::REPORTS_PATH), (Method::GET, &artifact)]
    {
        let request = request(method, path, &headers, check_in(None).to_cbor());
        app.connect(None).await.send(request).await.unwrap().expect(401);
    }
}
