//! Who changed what, and changes that somebody else was faster with.

use hyper::Method;
use serde_json::{Value, json};

use crate::app::{TestApp, describe, image, product_body, sign};
use crate::client::{Connection, request};
use crate::place::Place;

#[tokio::test]
async fn a_change_leaves_a_line_with_what_was_and_what_is() {
    let app = TestApp::start().await;
    app.create_product("lamp").await;
    let body = json!({ "silence_deadline_s": 3600, "enrollment_approval": true });
    app.admin(Method::PATCH, "/products/lamp", body.to_string()).await.expect(200);
    let whoami = app.get("/whoami").await;
    let page = app.get("/audit?limit=1&product=lamp").await;
    let line = &page["items"][0];
    assert_eq!((line["action"].as_str(), line["subject"].as_str()), (Some("product.change"), Some("lamp")));
    assert_eq!(line["actor"], json!({ "id": whoami["id"], "name": "first" }));
    assert_eq!(line["before"], json!({ "silence_deadline_s": 604_800, "enrollment_approval": false }));
    assert_eq!(line["after"], json!({ "silence_deadline_s": 3600, "enrollment_approval": true }));
    let older = app.get(&format!("/audit?cursor={}", page["next_cursor"].as_str().unwrap())).await;
    let actions: Vec<_> =
        older["items"].as_array().unwrap().iter().map(|line| line["action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["product.create", "token.create"]);
    let newer = app.get(&format!("/audit?before={}", older["previous_cursor"].as_str().unwrap())).await;
    assert_eq!((&newer["items"], newer.get("previous_cursor")), (&page["items"], None));
    let oldest = app.get("/audit?order=ascending&limit=1&product=lamp").await;
    assert_eq!(oldest["items"][0]["action"], "product.create");
    assert_eq!(app.get("/audit?actor=server").await["items"].as_array().unwrap().len(), 1);
    assert_eq!(app.get("/audit?until=2001-01-01T00:00:00Z").await["items"], json!([]));
    app.admin(Method::GET, "/audit?since=yesterday", "").await.expect(400);
}

/// `lamp` with a device `a`, and release 1 with a rollout that has not started.
async fn world(place: Place) -> TestApp {
    let app = TestApp::start_at(place, |_| {}).await;
    app.create_product("lamp").await;
    app.create_device("a", "lamp").await;
    app.upload(&image("1.0.0")).await.expect(201);
    app.post("/products/lamp/releases", &release(1, "1.0.0")).await.expect(201);
    app.post("/rollouts", &json!({ "product": "lamp", "sequence": 1 })).await.expect(201);
    let path = format!("/artifacts/{}?product=lamp", manifest::Digest::of(&image("2.0.0")));
    app.admin(Method::PUT, &path, image("2.0.0")).await.expect(201);
    app
}

fn release(sequence: u64, version: &str) -> Value {
    use base64::Engine as _;
    let manifest = sign(&describe(&image(version), sequence, version));
    json!({ "manifest": base64::prelude::BASE64_STANDARD.encode(manifest), "rollout": "none" })
}

fn key() -> Value {
    let bob = manifest::PublisherSigningKey::new(p256::SecretKey::from_slice(&[8; 32]).unwrap());
    json!({ "name": "bob", "key": hex::encode(bob.publisher_key().to_sec1()) })
}

/// A JSON object with one name for every time in it.
fn without_times(mut told: Value) -> Value {
    for member in told.as_object_mut().into_iter().flat_map(|object| object.values_mut()) {
        if member.as_str().is_some_and(|text| text.starts_with("20") && text.ends_with('Z')) {
            *member = json!("some time");
        }
    }
    told
}

/// One change after the other, each with its one line.
#[tokio::test]
async fn every_change_leaves_its_line() {
    let app = world(Place::new().await).await;
    let count = async || app.get("/audit?actor=first&limit=1000").await["items"].as_array().unwrap().len();
    let key_id = |product: Value| product["items"][1]["id"].as_str().unwrap().to_owned();
    let change = async |path: &str, body: Value, action: &str, before: Value, after: Value| {
        let lines = count().await;
        let (method, path) = path.split_once(' ').unwrap();
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let answer = app.admin(method.parse().unwrap(), path, body).await;
        assert!(answer.status.is_success(), "{path}: {}", answer.text());
        assert_eq!(count().await, lines + 1, "{path}");
        let line = app.get("/audit?actor=first&limit=1").await["items"][0].clone();
        assert_eq!((&line["action"], &line["actor"]["name"]), (&json!(action), &json!("first")), "{path}");
        let told = (without_times(line["before"].clone()), without_times(line["after"].clone()));
        assert_eq!(told, (before, after), "{path}");
        if answer.body.is_empty() { Value::Null } else { answer.json() }
    };
    let null = || Value::Null;

    let night = json!({ "name": "nightly" });
    change("POST /products/lamp/channels", night.clone(), "channel.create", null(), night).await;
    change("POST /products/lamp/publisher-keys", key(), "publisher-key.add", null(), key()).await;
    let path = format!(
        "POST /products/lamp/publisher-keys/{}/revoke",
        key_id(app.get("/products/lamp/publisher-keys").await)
    );
    let (good, revoked) =
        (json!({ "name": "bob", "revoked_at": null }), json!({ "name": "bob", "revoked_at": "some time" }));
    change(&path, null(), "publisher-key.revoke", good, revoked).await;

    let digest = manifest::Digest::of(&image("2.0.0")).to_string();
    let published = json!({
        "version": "2.0.0", "channel": "stable", "digest": digest, "revert_to": [], "requires": null, "warnings": [],
    });
    change("POST /products/lamp/releases", release(2, "2.0.0"), "release.publish", null(), published).await;
    for (action, was, is) in [
        ("start", "draft", "open"),
        ("pause", "open", "paused"),
        ("resume", "paused", "open"),
        ("abort", "open", "aborted"),
    ] {
        let state = |state: &str| json!({ "state": state, "wave": 0 });
        let path = format!("POST /rollouts/ro-lamp-1/{action}");
        change(&path, null(), &format!("rollout.{action}"), state(was), state(is)).await;
    }

    let body = json!({ "id": "b", "product": "lamp", "note": "attic" });
    let made = json!({ "note": "attic", "channel": "stable", "tags": [] });
    change("POST /devices", body, "device.create", null(), made).await;
    let approved = (json!({ "approved_at": null }), json!({ "approved_at": "some time" }));
    change("POST /devices/a/approve", null(), "device.approve", approved.0, approved.1).await;
    change("POST /devices/a/enrollment-token", null(), "device.renew-token", null(), null()).await;
    let revoked = (json!({ "state": "new" }), json!({ "state": "revoked", "reason": "stolen" }));
    let why = json!({ "reason": "stolen" });
    change("POST /devices/a/revoke", why, "device.revoke", revoked.0, revoked.1).await;

    let body = json!({ "name": "ann", "role": "operator", "product": "lamp" });
    let made = json!({ "name": "ann", "role": "operator", "product": "lamp", "expires_at": null });
    let token = change("POST /tokens", body, "token.create", null(), made).await;
    let path = format!("POST /tokens/{}/revoke", token["id"].as_str().unwrap());
    let revoked = (json!({ "revoked_at": null }), json!({ "revoked_at": "some time" }));
    change(&path, null(), "token.revoke", revoked.0, revoked.1).await;

    let url = json!({ "url": "http://127.0.0.1:9/", "events": ["rollout.halt"] });
    let webhook = change("POST /webhooks", url.clone(), "webhook.create", null(), url).await;
    let id = webhook["id"].clone();
    let path = format!("DELETE /webhooks/{}", id.as_str().unwrap());
    change(&path, null(), "webhook.remove", json!({ "id": id }), null()).await;
}

/// Who looks at what happened to a product finds what was made for it, and how that ended.
#[tokio::test]
async fn the_end_of_a_webhook_is_told_of_its_product() {
    let app = TestApp::start().await;
    app.create_product("lamp").await;
    for product in [json!("lamp"), json!(null)] {
        let body = json!({ "url": "http://127.0.0.1:9/", "product": product });
        let made = app.post("/webhooks", &body).await.expect(201).json();
        let path = format!("/webhooks/{}", made["id"].as_str().unwrap());
        app.admin(Method::DELETE, &path, "").await.expect(200);
        let line = &app.get("/audit?kind=webhook&limit=1").await["items"][0];
        assert_eq!((&line["action"], &line["product"]), (&json!("webhook.remove"), &product));
    }
}

/// Both or neither: a line that is written on its own may be lost.
#[tokio::test]
async fn a_change_whose_line_cannot_be_written_is_not_made() {
    let app = world(Place::embedded()).await;
    let token = app.post("/tokens", &json!({ "name": "ann", "role": "viewer" })).await.expect(201).json();
    let webhook = app.post("/webhooks", &json!({ "url": "http://127.0.0.1:9/" })).await.expect(201).json();
    let key_id = app.get("/products/lamp/publisher-keys").await["items"][0]["id"].clone();
    let (token, webhook, key_id) =
        (token["id"].as_str().unwrap(), webhook["id"].as_str().unwrap(), key_id.as_str().unwrap());
    let shown = async || {
        let mut shown = Vec::new();
        for path in [
            "/products",
            "/products/lamp/channels",
            "/products/lamp/publisher-keys",
            "/products/lamp/releases",
            "/devices",
            "/rollouts",
            "/tokens",
            "/webhooks",
            "/ca",
        ] {
            shown.push(app.get(path).await);
        }
        shown
    };
    let mut database = app.dir.connect().await;
    let refuse = "CREATE TRIGGER no_lines BEFORE INSERT ON audit BEGIN SELECT RAISE(ABORT, 'no lines'); END";
    sqlx::query(refuse).execute(&mut database).await.unwrap();
    let before = shown().await;
    for (path, body) in [
        ("POST /products", product_body("fan")),
        ("PATCH /products/lamp", json!({ "quarantine_after": 7 })),
        ("POST /products/lamp/channels", json!({ "name": "nightly" })),
        ("POST /products/lamp/publisher-keys", key()),
        (&format!("POST /products/lamp/publisher-keys/{key_id}/revoke"), json!({ "force": true })),
        ("POST /products/lamp/releases", release(2, "2.0.0")),
        ("POST /devices", json!({ "id": "b", "product": "lamp" })),
        ("POST /devices/bulk", json!({ "product": "lamp", "count": 2 })),
        ("PATCH /devices/a", json!({ "note": "attic" })),
        ("POST /devices/a/approve", Value::Null),
        ("POST /devices/a/enrollment-token", Value::Null),
        ("POST /devices/a/revoke", json!({})),
        ("POST /rollouts/ro-lamp-1/start", Value::Null),
        ("POST /rollouts/ro-lamp-1/abort", Value::Null),
        ("POST /tokens", json!({ "name": "bob", "role": "viewer" })),
        (&format!("POST /tokens/{token}/revoke"), Value::Null),
        ("POST /webhooks", json!({ "url": "http://127.0.0.1:9/other" })),
        (&format!("DELETE /webhooks/{webhook}"), Value::Null),
        ("POST /ca/rollover/begin", Value::Null),
    ] {
        let (method, path) = path.split_once(' ').unwrap();
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let answer = app.admin(method.parse().unwrap(), path, body).await;
        assert!(answer.status.is_server_error(), "{method} {path}: {} {}", answer.status, answer.text());
        assert_eq!(shown().await, before, "{method} {path}");
    }
}

#[tokio::test]
async fn lines_are_found_by_who_made_the_change_and_by_what_is_known() {
    let app = TestApp::start().await;
    app.create_product("lamp").await;
    let whoami = app.get("/whoami").await;
    let count =
        async |query: &str| app.get(&format!("/audit?{query}")).await["items"].as_array().unwrap().len();
    let by_id = count(&format!("actor={}", whoami["id"].as_str().unwrap())).await;
    assert_eq!((by_id, count("actor=first").await, count("actor=nobody").await), (1, 1, 0));
    for path in ["/audit?kind=rollouts", "/audit/export?kind=rollouts"] {
        let refused = app.admin(Method::GET, path, "").await.expect(422).json();
        let detail = refused["detail"].as_str().unwrap();
        assert!(
            detail.contains("release, rollout, token") && detail.contains("found \"rollouts\""),
            "{detail}"
        );
    }
}

#[tokio::test]
async fn a_product_that_is_not_there_is_told_and_not_shown_empty() {
    let app = TestApp::start().await;
    app.create_product("lamp").await;
    app.create_product("fan").await;
    let body = json!({ "name": "of lamp", "role": "viewer", "product": "lamp" });
    let token = app.post("/tokens", &body).await.expect(201).json()["token"].as_str().unwrap().to_owned();
    for list in ["/devices", "/rollouts", "/fleet/summary", "/fleet/history", "/audit", "/audit/export"] {
        app.admin(Method::GET, &format!("{list}?product=lamp"), "").await.expect(200);
        let refused = app.admin(Method::GET, &format!("{list}?product=lamb"), "").await.expect(404).json();
        assert_eq!(refused["detail"], "there is no product lamb", "{list}");
        // Whatever belongs to another product looks as if it were not there.
        app.with_token(&token, Method::GET, &format!("{list}?product=fan"), "").await.expect(404);
        app.with_token(&token, Method::GET, &format!("{list}?product=lamp"), "").await.expect(200);
    }
}

#[tokio::test]
async fn an_export_has_every_line() {
    let app = TestApp::start().await;
    app.create_product("lamp").await;
    // More than one read of the export.
    for count in 1..=520 {
        let body = json!({ "quarantine_after": 1 + count % 9 });
        app.admin(Method::PATCH, "/products/lamp", body.to_string()).await.expect(200);
    }
    let export = app.admin(Method::GET, "/audit/export?kind=product", "").await.expect(200);
    assert_eq!(export.header("content-type"), "application/x-ndjson");
    let ids: Vec<String> = export
        .text()
        .lines()
        .map(|line| {
            serde_json::from_str::<serde_json::Value>(line).unwrap()["id"].as_str().unwrap().to_owned()
        })
        .collect();
    assert_eq!(ids.len(), 521);
    assert!(ids.is_sorted_by(|one, next| one > next));
}

#[tokio::test]
async fn a_change_of_another_revision_is_refused() {
    let app = TestApp::start().await;
    app.create_product("lamp").await;
    let bearer = format!("Bearer {}", app.token);
    let change = async |if_match: &str| {
        let headers = [
            ("authorization", bearer.as_str()),
            ("content-type", "application/json"),
            ("if-match", if_match),
        ];
        let body = json!({ "quarantine_after": 5 }).to_string();
        let mut connection = Connection::plain(app.server.admin_addr()).await.unwrap();
        connection.send(request(Method::PATCH, "/api/v1/products/lamp", &headers, body)).await.unwrap()
    };
    let shown = app.admin(Method::GET, "/products/lamp", "").await;
    assert_eq!(shown.header("etag"), "\"r1\"");
    let problem = change("\"r2\"").await.expect(412).json();
    assert_eq!(problem["type"], "urn:pitstop:problem:precondition-failed");
    assert_eq!(app.get("/products/lamp").await["quarantine_after"], 3);
    assert_eq!(change("\"r1\"").await.expect(200).header("etag"), "\"r2\"");
    change("\"r1\"").await.expect(412);
    change("*").await.expect(200);
    assert_eq!(app.get("/audit?kind=product").await["items"].as_array().unwrap().len(), 3);
}
