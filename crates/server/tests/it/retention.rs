//! What is kept for a time only, and the way to keep it elsewhere.

use std::collections::BTreeSet;
use std::time::Duration;

use hyper::Method;
use manifest::Digest;
use serde_json::{Value, json};
use server::{Clock, Retention};

use crate::app::{TestApp, check_in, csr};
use crate::client::Connection;

const DAY_MS: i64 = 24 * 3_600_000;

async fn start(retention: Retention) -> (TestApp, Clock) {
    let clock = Clock::default();
    let app = TestApp::start_with(|config| {
        config.clock = clock.clone();
        config.retention = Retention { period: Duration::from_millis(50), ..retention };
        config.device_certificate_days = 3650;
    })
    .await;
    (app, clock)
}

async fn lines(app: &TestApp, path: &str) -> Vec<Value> {
    let export = app.admin(Method::GET, path, "").await.expect(200);
    assert_eq!(export.header("content-type"), "application/x-ndjson");
    export.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

async fn kinds(app: &TestApp, query: &str) -> Vec<String> {
    let lines = lines(app, &format!("/events/export?{query}")).await;
    lines
        .iter()
        .map(|line| format!("{} {}", line["device"].as_str().unwrap(), line["kind"].as_str().unwrap()))
        .collect()
}

async fn metric(app: &TestApp, name: &str) -> u64 {
    let mut connection = Connection::plain(app.server.admin_addr()).await.unwrap();
    let text = connection.get("/metrics", &[]).await.expect(200).text().to_owned();
    let line = text.lines().find(|line| line.starts_with(name)).unwrap();
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

/// Asks until it is so.
async fn until(what: impl AsyncFn() -> bool) {
    for _ in 0..400 {
        if what().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("it does not come to that");
}

#[tokio::test]
async fn events_are_exported_by_product_and_time_and_go_when_they_are_old() {
    let (app, clock) = start(Retention { events_days: 30, ..Retention::default() }).await;
    app.create_product("lamp").await;
    app.create_product("fan").await;
    app.create_device("lamp-1", "lamp").await;
    app.create_device("fan-1", "fan").await;
    clock.advance_ms(20 * DAY_MS);
    app.create_device("lamp-2", "lamp").await;
    assert_eq!(kinds(&app, "").await, ["lamp-2 created", "fan-1 created", "lamp-1 created"]);
    assert_eq!(kinds(&app, "product=lamp").await, ["lamp-2 created", "lamp-1 created"]);
    let middle = time::OffsetDateTime::now_utc() + time::Duration::days(10);
    let middle = middle.format(&time::format_description::well_known::Rfc3339).unwrap();
    assert_eq!(kinds(&app, &format!("since={middle}")).await, ["lamp-2 created"]);
    assert_eq!(kinds(&app, &format!("until={middle}")).await, ["fan-1 created", "lamp-1 created"]);
    app.admin(Method::GET, "/events/export?product=lamb", "").await.expect(404);
    app.admin(Method::GET, "/events/export?since=yesterday", "").await.expect(400);

    clock.advance_ms(11 * DAY_MS);
    until(async || kinds(&app, "").await == ["lamp-2 created"]).await;
    assert_eq!(metric(&app, "pitstop_expired_rows_total{kind=\"events\"}").await, 2);
    // The audit log is kept for ever when nobody said otherwise.
    assert_eq!(lines(&app, "/audit/export?kind=device").await.len(), 3);
}

#[tokio::test]
async fn an_export_of_many_events_has_every_one() {
    let (app, _) = start(Retention::default()).await;
    app.create_product("lamp").await;
    for _ in 0..3 {
        app.post("/devices/bulk", &json!({ "product": "lamp", "count": 900 })).await.expect(201);
    }
    let exported = lines(&app, "/events/export").await;
    assert_eq!(exported.len(), 2700);
    let ids: BTreeSet<_> = exported.iter().map(|line| line["id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), 2700);
}

#[tokio::test]
async fn certificates_that_ended_go_but_for_what_a_device_had_last() {
    let (app, clock) = start(Retention { certificates_days: 10, ..Retention::default() }).await;
    let (device, identity) = app.enrolled().await;
    app.connect(Some(&identity)).await.check_in(&check_in(None)).await.expect(200);
    let mut renewed = identity;
    for _ in 0..2 {
        let body = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, csr(&device.key));
        let mut connection = app.connect(Some(&renewed)).await;
        let answer = connection.post("/.well-known/est/simplereenroll", "application/pkcs10", body).await;
        renewed = device.identity(answer.expect(200).certificate());
        app.connect(Some(&renewed)).await.check_in(&check_in(None)).await.expect(200);
    }
    let count = async || {
        let mut database = app.dir.connect().await;
        sqlx::query_scalar::<_, i64>("SELECT CAST(COUNT(*) AS BIGINT) FROM certificates")
            .fetch_one(&mut database)
            .await
            .unwrap()
    };
    assert_eq!(count().await, 3);
    clock.advance_ms(3661 * DAY_MS);
    until(async || count().await == 1).await;
    assert_eq!(metric(&app, "pitstop_expired_rows_total{kind=\"certificates\"}").await, 2);
    assert!(app.get("/devices/lamp-1").await["certificate"]["serial"].is_string());
}

#[tokio::test]
async fn lines_of_the_audit_log_go_when_that_is_asked_for_and_a_line_says_so() {
    let (app, clock) = start(Retention { audit_days: 365, ..Retention::default() }).await;
    app.create_product("lamp").await;
    clock.advance_ms(200 * DAY_MS);
    app.create_product("fan").await;
    let actions = async || {
        let lines = lines(&app, "/audit/export").await;
        lines.iter().map(|line| line["action"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let before = ["product.create", "product.create", "token.create"];
    assert_eq!(actions().await, before);
    clock.advance_ms(200 * DAY_MS);
    until(async || actions().await == ["audit.expire", "product.create"]).await;
    let line = &app.get("/audit?kind=audit").await["items"][0];
    assert_eq!((&line["actor"]["id"], &line["subject"]), (&json!("server"), &json!("audit")));
    assert!(line["after"]["deleted_before"].as_str().unwrap().ends_with("T00:00:00Z"), "{line}");
    assert_eq!(metric(&app, "pitstop_expired_rows_total{kind=\"audit\"}").await, 2);
    // What is younger the database itself still keeps.
    let mut database = app.dir.connect().await;
    let error = sqlx::query("DELETE FROM audit").execute(&mut database).await.unwrap_err().to_string();
    assert!(error.contains("append-only"), "{error}");
}

#[tokio::test]
async fn a_deletion_of_an_artifact_that_was_broken_off_is_ended() {
    let (app, clock) = start(Retention::default()).await;
    let path = format!("/artifacts/{}", Digest::of(b"spare"));
    app.admin(Method::PUT, &path, "spare").await.expect(201);
    let mut database = app.dir.connect().await;
    let now_ms = i64::try_from(std::time::UNIX_EPOCH.elapsed().unwrap().as_millis()).unwrap();
    sqlx::query("UPDATE artifacts SET deleting_at_ms = $1")
        .bind(now_ms)
        .execute(&mut database)
        .await
        .unwrap();
    drop(database);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(app.dir.stored_artifacts().await.len(), 1);
    clock.advance_ms(11 * 60_000);
    until(async || app.get("/artifacts").await["items"] == json!([])).await;
    assert_eq!(app.dir.stored_artifacts().await, []);
}
