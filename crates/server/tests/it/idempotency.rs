//! Requests that come again with their `Idempotency-Key`.

use hyper::Method;
use serde_json::{Value, json};
use server::Clock;

use crate::app::TestApp;
use crate::client::{Answer, Connection, request};

const DAY_MS: i64 = 24 * 3_600_000;

async fn post_as(app: &TestApp, token: &str, key: &str, path: &str, body: &Value) -> Answer {
    let bearer = format!("Bearer {token}");
    let headers =
        [("authorization", bearer.as_str()), ("content-type", "application/json"), ("idempotency-key", key)];
    let mut connection = Connection::plain(app.server.admin_addr()).await.unwrap();
    let request = request(Method::POST, &format!("/api/v1{path}"), &headers, body.to_string());
    connection.send(request).await.unwrap()
}

async fn post(app: &TestApp, key: &str, path: &str, body: &Value) -> Answer {
    post_as(app, &app.token, key, path, body).await
}

async fn count(app: &TestApp, path: &str) -> usize {
    app.get(path).await["items"].as_array().unwrap().len()
}

#[track_caller]
fn refused(answer: Answer, status: u16, kind: &str) -> String {
    let problem = answer.expect(status).json();
    assert_eq!(problem["type"], format!("urn:pitstop:problem:{kind}"), "{problem}");
    problem["detail"].as_str().unwrap().to_owned()
}

async fn start() -> (TestApp, Clock) {
    let clock = Clock::default();
    let app = TestApp::start_with(|config| config.clock = clock.clone()).await;
    app.create_product("lamp").await;
    (app, clock)
}

#[tokio::test]
async fn a_request_that_comes_again_makes_nothing_more_and_has_the_same_answer() {
    let (app, clock) = start().await;
    let body = json!({ "product": "lamp" });
    let first = post(&app, "k-1", "/devices", &body).await.expect(201);
    for key in ["k-1", "\"k-1\""] {
        let again = post(&app, key, "/devices", &body).await.expect(201);
        assert_eq!(again.body, first.body);
        for name in ["etag", "content-type", "cache-control"] {
            assert_eq!(again.header(name), first.header(name), "{name}");
        }
    }
    assert_eq!(count(&app, "/devices").await, 1);
    let other = json!({ "product": "lamp", "note": "another" });
    let detail = refused(post(&app, "k-1", "/devices", &other).await, 422, "idempotency-key-used");
    assert!(detail.contains("k-1") && detail.contains("use another key"), "{detail}");
    refused(post(&app, "k-1", "/devices/bulk", &body).await, 422, "idempotency-key-used");
    for key in ["", "a b", "\"\"", &"x".repeat(256)] {
        refused(post(&app, key, "/devices", &body).await, 400, "invalid");
    }
    post(&app, "k-2", "/devices", &body).await.expect(201);
    // Somebody else's key is another one.
    let token = app.post("/tokens", &json!({ "name": "ann", "role": "operator" })).await.expect(201).json();
    post_as(&app, token["token"].as_str().unwrap(), "k-1", "/devices", &body).await.expect(201);
    assert_eq!(count(&app, "/devices").await, 3);
    // What was refused may be tried again.
    let fan = json!({ "product": "fan" });
    post(&app, "k-3", "/devices", &fan).await.expect(404);
    app.create_product("fan").await;
    post(&app, "k-3", "/devices", &fan).await.expect(201);
    assert_eq!(count(&app, "/devices").await, 4);
    clock.advance_ms(DAY_MS + 1);
    let later = post(&app, "k-1", "/devices", &body).await.expect(201);
    assert_ne!(later.body, first.body);
    assert_eq!(count(&app, "/devices").await, 5);
}

#[tokio::test]
async fn each_kind_of_creation_is_done_once() {
    let (app, _) = start().await;
    for (path, body, list, made) in [
        ("/products", crate::app::product_body("fan"), "/products", 2),
        ("/products/lamp/channels", json!({ "name": "nightly" }), "/products/lamp/channels", 3),
        ("/devices/bulk", json!({ "product": "lamp", "count": 3 }), "/devices", 3),
        ("/tokens", json!({ "name": "ci", "role": "viewer" }), "/tokens", 2),
        ("/webhooks", json!({ "url": "http://127.0.0.1:9/" }), "/webhooks", 1),
    ] {
        let first = post(&app, path, path, &body).await.expect(201);
        assert_eq!(post(&app, path, path, &body).await.expect(201).body, first.body, "{path}");
        assert_eq!(count(&app, list).await, made, "{path}");
    }
    let lines = app.get("/audit?kind=token").await;
    assert_eq!(lines["items"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn no_secret_of_an_answer_is_stored() {
    let (app, _) = start().await;
    let made =
        post(&app, "k", "/tokens", &json!({ "name": "ci", "role": "viewer" })).await.expect(201).json();
    let mut database = app.dir.connect().await;
    let rows: Vec<(String, String, String)> =
        sqlx::query_as("SELECT id, answer, request_hash FROM idempotency_keys")
            .fetch_all(&mut database)
            .await
            .unwrap();
    assert_eq!(rows.len(), 1);
    let stored = format!("{rows:?}");
    let answer = base64::Engine::decode(&base64::prelude::BASE64_STANDARD, &rows[0].1).unwrap();
    for secret in [made["token"].as_str().unwrap(), &app.token, "\"ci\""] {
        assert!(!stored.contains(secret), "{stored}");
        assert!(!String::from_utf8_lossy(&answer).contains(secret));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_at_once_one_is_done() {
    let (app, _) = start().await;
    let body = json!({ "product": "lamp" });
    for round in 0..5 {
        let key = format!("k-{round}");
        let answers =
            futures_util::future::join_all((0..8).map(|_| post(&app, &key, "/devices", &body))).await;
        let (made, other): (Vec<_>, Vec<_>) = answers.into_iter().partition(|answer| answer.status == 201);
        assert!(!made.is_empty() && made.iter().all(|answer| answer.body == made[0].body));
        for answer in other {
            refused(answer, 409, "idempotency-in-flight");
        }
        assert_eq!(count(&app, "/devices").await, round + 1);
    }
}

#[tokio::test]
async fn a_try_that_was_broken_off_is_done_again_only_when_it_made_nothing() {
    let (app, clock) = start().await;
    let body = json!({ "product": "lamp", "id": "lamp-1" });
    post(&app, "k", "/devices", &body).await.expect(201);
    let mut database = app.dir.connect().await;
    // The server was stopped before it stored the answer.
    let lose = "UPDATE idempotency_keys SET status = NULL, answer = NULL";
    sqlx::query(lose).execute(&mut database).await.unwrap();
    refused(post(&app, "k", "/devices", &body).await, 409, "idempotency-in-flight");
    clock.advance_ms(3 * 60_000);
    let detail = refused(post(&app, "k", "/devices", &body).await, 409, "idempotency-answer-lost");
    assert!(detail.contains("device lamp-1"), "{detail}");
    // It was stopped before it made anything.
    app.admin(Method::DELETE, "/devices/lamp-1", "").await.expect(200);
    let lose = "UPDATE idempotency_keys SET status = NULL, answer = NULL, made = NULL, begun_at_ms = begun_at_ms + 180000";
    sqlx::query(lose).execute(&mut database).await.unwrap();
    refused(post(&app, "k", "/devices", &body).await, 409, "idempotency-in-flight");
    clock.advance_ms(3 * 60_000);
    post(&app, "k", "/devices", &body).await.expect(201);
    assert_eq!(count(&app, "/devices").await, 1);
}
