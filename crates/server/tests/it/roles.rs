//! Every endpoint of the API with every role, and with tokens that are for another product. The table is compared with
//! the OpenAPI document: an endpoint without a row fails.

use std::collections::BTreeSet;

use hyper::Method;
use serde_json::{Value, json};
use server::Clock;

use crate::app::{TestApp, csr, describe, image, product_body, publisher, sign};
use crate::client::{Answer, Connection, request};

/// What somebody gets whose token is for another product than the one that the request is about.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Elsewhere {
    /// What belongs to a product looks as if it were not there.
    NotFound,
    /// What belongs to no product is not theirs.
    Forbidden,
    /// A list without it.
    LeftOut,
    /// It is the same for everybody.
    Same,
    /// It is for sessions, not for tokens.
    NoSession,
}
use Elsewhere::{Forbidden, LeftOut, NoSession, NotFound, Same};

/// Method, path as in the document, the least role, what a token for another product gets, and a body.
type Row = (&'static str, &'static str, &'static str, Elsewhere, fn() -> Value);

/// `{product}` is `lamp`, `{id}` of a device `lamp-1`, of one to delete `lamp-2`, which is
/// enrolled, of a token one that is revoked already, of a key alice's, of a rollout that of release 1.
const TABLE: &[Row] = &[
    ("get", "/info", "viewer", Same, nothing),
    ("get", "/ca", "viewer", Same, nothing),
    ("post", "/ca/rollover/begin", "admin", Forbidden, nothing),
    ("post", "/ca/rollover/switch", "admin", Forbidden, || json!({ "force": true })),
    ("post", "/ca/rollover/finish", "admin", Forbidden, || json!({ "force": true })),
    ("get", "/whoami", "viewer", Same, nothing),
    ("get", "/products", "viewer", LeftOut, nothing),
    ("post", "/products", "admin", Forbidden, || product_body("one-more")),
    ("get", "/products/{product}", "viewer", NotFound, nothing),
    ("patch", "/products/{product}", "admin", NotFound, || json!({ "quarantine_after": 4 })),
    ("delete", "/products/{product}", "admin", Forbidden, nothing),
    ("get", "/products/{product}/channels", "viewer", NotFound, nothing),
    ("post", "/products/{product}/channels", "admin", NotFound, || json!({ "name": "nightly" })),
    ("get", "/products/{product}/publisher-keys", "viewer", NotFound, nothing),
    ("post", "/products/{product}/publisher-keys", "admin", NotFound, key),
    (
        "post",
        "/products/{product}/publisher-keys/{id}/revoke",
        "admin",
        NotFound,
        || json!({ "force": true }),
    ),
    ("get", "/products/{product}/releases", "viewer", NotFound, nothing),
    ("post", "/products/{product}/releases", "publisher", NotFound, || json!({ "manifest": "" })),
    ("get", "/products/{product}/releases/{sequence}", "viewer", NotFound, nothing),
    ("get", "/products/{product}/releases/{sequence}/manifest", "viewer", NotFound, nothing),
    ("post", "/products/{product}/releases/{sequence}/archive", "operator", NotFound, nothing),
    ("post", "/products/{product}/releases/{sequence}/unarchive", "operator", NotFound, nothing),
    ("get", "/artifacts", "viewer", LeftOut, nothing),
    ("delete", "/artifacts/{sha256}", "admin", NotFound, nothing),
    ("put", "/artifacts/{sha256}", "publisher", Same, nothing),
    ("get", "/devices", "viewer", LeftOut, nothing),
    ("post", "/devices", "operator", NotFound, || json!({ "product": "lamp" })),
    ("post", "/devices/bulk", "operator", NotFound, || json!({ "product": "lamp", "count": 2 })),
    (
        "post",
        "/devices/bulk/import",
        "operator",
        NotFound,
        || json!({ "product": "lamp", "devices": [{ "id": "mine" }] }),
    ),
    ("post", "/devices/bulk/approve", "operator", NotFound, of_lamp),
    ("post", "/devices/bulk/revoke", "operator", NotFound, of_lamp),
    ("post", "/devices/bulk/resume", "operator", NotFound, of_lamp),
    ("post", "/devices/bulk/delete", "operator", NotFound, of_lamp),
    (
        "post",
        "/devices/bulk/change",
        "operator",
        NotFound,
        || json!({ "filter": { "product": "lamp" }, "channel": "beta" }),
    ),
    ("get", "/devices/{id}", "viewer", NotFound, nothing),
    ("patch", "/devices/{id}", "operator", NotFound, || json!({ "note": "attic" })),
    ("get", "/devices/{id}/events", "viewer", NotFound, nothing),
    ("post", "/devices/{id}/enrollment-token", "operator", NotFound, nothing),
    ("post", "/devices/{id}/approve", "operator", NotFound, nothing),
    ("post", "/devices/{id}/clear-quarantine", "operator", NotFound, nothing),
    ("post", "/devices/{id}/suspend", "operator", NotFound, nothing),
    ("post", "/devices/{id}/resume", "operator", NotFound, nothing),
    ("post", "/devices/{id}/revoke", "operator", NotFound, nothing),
    ("delete", "/devices/{id}", "operator", NotFound, nothing),
    ("get", "/rollouts", "viewer", LeftOut, nothing),
    ("post", "/rollouts", "operator", NotFound, || json!({ "product": "lamp", "sequence": 1 })),
    ("get", "/rollouts/{id}", "viewer", NotFound, nothing),
    ("get", "/rollouts/{id}/stream", "viewer", NotFound, nothing),
    ("post", "/rollouts/{id}/start", "operator", NotFound, nothing),
    ("post", "/rollouts/{id}/pause", "operator", NotFound, nothing),
    ("post", "/rollouts/{id}/resume", "operator", NotFound, nothing),
    ("post", "/rollouts/{id}/approve", "operator", NotFound, nothing),
    ("post", "/rollouts/{id}/abort", "operator", NotFound, nothing),
    ("post", "/evidence", "operator", Same, evidence),
    ("get", "/tokens", "admin", Forbidden, nothing),
    ("post", "/tokens", "admin", Forbidden, || json!({ "name": "x", "role": "viewer" })),
    ("post", "/tokens/{id}/revoke", "admin", Forbidden, nothing),
    ("delete", "/tokens/{id}", "admin", Forbidden, nothing),
    ("get", "/webhooks", "admin", Forbidden, nothing),
    ("post", "/webhooks", "admin", Forbidden, || json!({ "url": "https://backend.example/" })),
    ("get", "/webhooks/{id}/deliveries", "admin", Forbidden, nothing),
    ("post", "/webhooks/{id}/test", "admin", Forbidden, nothing),
    ("delete", "/webhooks/{id}", "admin", Forbidden, nothing),
    ("post", "/sessions", "viewer", Same, nothing),
    ("delete", "/sessions/current", "viewer", NoSession, nothing),
    ("get", "/events/export", "viewer", LeftOut, nothing),
    ("get", "/fleet/summary", "viewer", LeftOut, nothing),
    ("get", "/fleet/history", "viewer", LeftOut, nothing),
    ("get", "/audit", "viewer", LeftOut, nothing),
    ("get", "/audit/export", "viewer", LeftOut, nothing),
];

fn nothing() -> Value {
    Value::Null
}

/// Nothing is expected: they are counted.
fn of_lamp() -> Value {
    json!({ "filter": { "product": "lamp" } })
}

fn key() -> Value {
    json!({ "name": "alice", "key": hex::encode(publisher().publisher_key().to_sec1()) })
}

fn evidence() -> Value {
    json!({ "evidence": [{ "device": "lamp-1", "alive_at": "2026-01-01T00:00:00Z" }] })
}

const ROLES: [&str; 4] = ["viewer", "operator", "publisher", "admin"];

fn is_enough(role: &str, needed: &str) -> bool {
    role == needed || role == "admin" || needed == "viewer"
}

impl TestApp {
    async fn token(&self, body: Value) -> Value {
        self.post("/tokens", &body).await.expect(201).json()
    }

    async fn token_of(&self, role: &str, product: Option<&str>) -> String {
        let body = json!({ "name": format!("a {role}"), "role": role, "product": product });
        self.token(body).await["token"].as_str().unwrap().to_owned()
    }

    async fn as_bearer(&self, token: &str, method: &str, path: &str, body: &Value) -> Answer {
        let bearer = format!("Bearer {token}");
        let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let method: Method = method.to_uppercase().parse().unwrap();
        let mut connection = Connection::plain(self.server.admin_addr()).await.unwrap();
        let request = request(method, &format!("/api/v1{path}"), &headers, body);
        if path.ends_with("/stream") {
            // It does not end.
            connection.open(request).await.unwrap().0
        } else {
            connection.send(request).await.unwrap()
        }
    }

    async fn document(&self) -> Value {
        let mut connection = Connection::plain(self.server.admin_addr()).await.unwrap();
        connection.get("/api/v1/openapi.json", &[]).await.expect(200).json()
    }
}

/// A server with product `lamp`, of which there is one of everything, and product `fan`.
async fn world() -> (TestApp, impl Fn(&str, &str) -> String) {
    let app = TestApp::start().await;
    let (_, _) = app.enrolled().await;
    let other = app.create_device("lamp-2", "lamp").await;
    app.enroll(&other, &csr(&other.key)).await.expect(200);
    app.create_product("fan").await;
    let image = image("1.0.0");
    app.upload(&image).await.expect(201);
    app.publish("lamp", &sign(&describe(&image, 1, "1.0.0"))).await.expect(201);
    let revoked =
        app.token(json!({ "name": "old", "role": "viewer" })).await["id"].as_str().unwrap().to_owned();
    app.post(&format!("/tokens/{revoked}/revoke"), &Value::Null).await.expect(200);
    let key = app.get("/products/lamp/publisher-keys").await["items"][0]["id"].as_str().unwrap().to_owned();
    let webhook = app.post("/webhooks", &json!({ "url": "http://127.0.0.1:9/" })).await.expect(201).json();
    let webhook = webhook["id"].as_str().unwrap().to_owned();
    let digest = manifest::Digest::of(b"").to_string();
    let fill = move |method: &str, path: &str| {
        let id = match path {
            path if path.starts_with("/tokens") => &revoked,
            path if path.starts_with("/webhooks") => &webhook,
            path if path.starts_with("/products") => &key,
            path if path.starts_with("/rollouts") => "ro-lamp-1",
            _ if method == "delete" => "lamp-2",
            _ => "lamp-1",
        };
        path.replace("{product}", "lamp")
            .replace("{id}", id)
            .replace("{sequence}", "1")
            .replace("{sha256}", &digest)
    };
    (app, fill)
}

#[tokio::test]
async fn every_endpoint_is_in_the_table_with_its_role() {
    let app = TestApp::start().await;
    let document = app.document().await;
    let mut described = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let role = operation["security"][0]["token"][0].as_str().unwrap_or("(no role)");
            described.insert(format!("{method} {} {role}", path.strip_prefix("/api/v1").unwrap()));
        }
    }
    let listed: BTreeSet<_> =
        TABLE.iter().map(|(method, path, role, ..)| format!("{method} {path} {role}")).collect();
    let missing: Vec<_> = described.difference(&listed).collect();
    let gone: Vec<_> = listed.difference(&described).collect();
    assert!(
        missing.is_empty() && gone.is_empty(),
        "without a row: {missing:#?}\nnot in the document: {gone:#?}"
    );
}

#[tokio::test]
async fn a_role_may_what_the_table_says_and_nothing_else() {
    let (app, fill) = world().await;
    for role in ROLES {
        let token = app.token_of(role, None).await;
        for (method, path, needed, _, body) in TABLE {
            let answer = app.as_bearer(&token, method, &fill(method, path), &body()).await;
            let status = answer.status.as_u16();
            let what = format!("{role}: {method} {path}: {status} {}", String::from_utf8_lossy(&answer.body));
            if is_enough(role, needed) {
                assert!(!matches!(status, 401 | 403 | 404 | 405 | 500..), "{what}");
            } else {
                assert_eq!(status, 403, "{what}");
                let problem = answer.json();
                assert_eq!(problem["type"], "urn:pitstop:problem:forbidden", "{what}");
                assert!(problem["detail"].as_str().unwrap().contains(&format!("role {needed}")), "{what}");
            }
        }
    }
}

#[tokio::test]
async fn a_token_for_one_product_reaches_no_other() {
    let (app, fill) = world().await;
    let fan = app.token_of("admin", Some("fan")).await;
    for (method, path, _, elsewhere, body) in TABLE {
        let answer = app.as_bearer(&fan, method, &fill(method, path), &body()).await;
        let status = answer.status.as_u16();
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        let what = format!("{method} {path}: {status} {text}");
        match elsewhere {
            NotFound => assert_eq!(status, 404, "{what}"),
            Forbidden => assert_eq!(status, 403, "{what}"),
            LeftOut => assert!(status == 200 && !text.contains("lamp"), "{what}"),
            Same => assert!(matches!(status, 200 | 201), "{what}"),
            NoSession => assert_eq!(status, 422, "{what}"),
        }
    }
    assert_eq!(app.get("/devices/lamp-1").await["note"], "");
    let own = app.as_bearer(&fan, "get", "/products/fan", &Value::Null).await.expect(200);
    assert_eq!(own.json()["name"], "fan");
    app.as_bearer(&fan, "post", "/devices", &json!({ "product": "fan" })).await.expect(201);
}

#[tokio::test]
async fn nobody_without_a_token_learns_anything() {
    let (app, fill) = world().await;
    for (method, path, ..) in TABLE {
        let mut connection = Connection::plain(app.server.admin_addr()).await.unwrap();
        let path = fill(method, path);
        let method: Method = method.to_uppercase().parse().unwrap();
        connection.send(request(method, &format!("/api/v1{path}"), &[], "")).await.unwrap().expect(401);
    }
}

/// What a browser holds may what its token may, and no longer.
#[tokio::test]
async fn a_session_may_what_its_token_may_until_it_ends() {
    let clock = Clock::default();
    let app = TestApp::start_with(|config| config.clock = clock.clone()).await;
    let ask = async |secret: &str, method: &str, path: &str| {
        app.as_bearer(secret, method, path, &Value::Null).await
    };
    let begin = async |token: &str| {
        let begun = ask(token, "post", "/sessions").await.expect(201).json();
        begun["secret"].as_str().unwrap().to_owned()
    };
    let is_refused = async |secret: &str, kind: &str| {
        let problem = ask(secret, "get", "/whoami").await.expect(401).json();
        assert_eq!(problem["type"], format!("urn:pitstop:problem:{kind}"));
    };
    let made = app.token(json!({ "name": "ann", "role": "viewer" })).await;
    let (id, token) = (made["id"].as_str().unwrap(), made["token"].as_str().unwrap());
    let (one, other) = (begin(token).await, begin(token).await);
    assert!(one != other && one != token);
    let who = ask(token, "get", "/whoami").await.expect(200).json();
    assert_eq!(ask(&one, "get", "/whoami").await.expect(200).json(), who);
    ask(&one, "post", "/products").await.expect(403);
    let problem = ask(&one, "post", "/sessions").await.expect(403).json();
    assert!(problem["detail"].as_str().unwrap().contains("a session makes no other one"), "{problem}");
    let problem = ask(token, "delete", "/sessions/current").await.expect(422).json();
    assert_eq!(problem["type"], "urn:pitstop:problem:no-session");

    // Logged out: this one alone.
    ask(&one, "delete", "/sessions/current").await.expect(204);
    is_refused(&one, "token-unknown").await;
    ask(&other, "get", "/whoami").await.expect(200);
    // By time.
    clock.advance_ms(12 * 3_600_000);
    is_refused(&other, "session-expired").await;
    // With its token.
    let last = begin(token).await;
    ask(&last, "get", "/whoami").await.expect(200);
    app.post(&format!("/tokens/{id}/revoke"), &Value::Null).await.expect(200);
    is_refused(&last, "token-revoked").await;
    for text in [app.get("/audit").await.to_string(), app.get("/tokens").await.to_string()] {
        assert!(!text.contains(&last) && !text.contains(&one));
    }
}

#[tokio::test]
async fn a_session_ends_no_later_than_its_token() {
    let clock = Clock::default();
    let app = TestApp::start_with(|config| config.clock = clock.clone()).await;
    let ends = time::OffsetDateTime::from_unix_timestamp(clock.now_ms() / 1000 + 3600).unwrap();
    let ends = ends.format(&time::format_description::well_known::Rfc3339).unwrap();
    let made = app.token(json!({ "name": "ann", "role": "viewer", "expires_at": ends })).await;
    let begun = app.as_bearer(made["token"].as_str().unwrap(), "post", "/sessions", &Value::Null).await;
    let begun = begun.expect(201).json();
    let session = begun["secret"].as_str().unwrap();
    app.as_bearer(session, "get", "/whoami", &Value::Null).await.expect(200);
    clock.advance_ms(3_600_000);
    let problem = app.as_bearer(session, "get", "/whoami", &Value::Null).await.expect(401).json();
    assert_eq!(problem["type"], "urn:pitstop:problem:token-expired");
}

/// Another admin is no way back in when it ends some day, or may only see one product.
#[tokio::test]
async fn the_last_admin_that_stays_is_not_revoked() {
    let app = TestApp::start().await;
    app.create_product("lamp").await;
    let first = app.get("/whoami").await["id"].as_str().unwrap().to_owned();
    for other in [json!({ "expires_at": "2999-01-01T00:00:00Z" }), json!({ "product": "lamp" })] {
        let mut body = json!({ "name": "other", "role": "admin" });
        body.as_object_mut().unwrap().extend(other.as_object().unwrap().clone());
        app.token(body).await;
        let problem = app.post(&format!("/tokens/{first}/revoke"), &Value::Null).await.expect(409).json();
        assert_eq!(problem["type"], "urn:pitstop:problem:last-admin-token", "{other}");
    }
    app.token(json!({ "name": "other", "role": "admin" })).await;
    app.post(&format!("/tokens/{first}/revoke"), &Value::Null).await.expect(200);
}

#[tokio::test]
async fn a_token_is_shown_once_and_ends_by_time_or_by_hand() {
    let app = TestApp::start().await;
    let refused = async |token: &str, kind: &str| {
        let problem = app.as_bearer(token, "get", "/whoami", &Value::Null).await.expect(401).json();
        assert_eq!(problem["type"], format!("urn:pitstop:problem:{kind}"));
    };
    refused("pst_nobody_has_this", "token-unknown").await;
    let none = app.as_bearer("", "get", "/whoami", &Value::Null).await.expect(401).json();
    assert_eq!(none["type"], "urn:pitstop:problem:unauthorized");
    let made =
        app.token(json!({ "name": "ci", "role": "publisher", "expires_at": "2999-01-01T00:00:00Z" })).await;
    let (id, token) = (made["id"].as_str().unwrap(), made["token"].as_str().unwrap());
    let whoami = app.as_bearer(token, "get", "/whoami", &Value::Null).await.expect(200).json();
    assert_eq!(
        whoami,
        json!({ "id": id, "name": "ci", "role": "publisher", "product": null, "expires_at": "2999-01-01T00:00:00Z" })
    );
    let list = app.get("/tokens").await;
    assert_eq!(list["items"].as_array().unwrap().len(), 2);
    for text in [list.to_string(), app.get("/audit").await.to_string()] {
        assert!(!text.contains(token) && !text.contains(&manifest::Digest::of(token.as_bytes()).to_string()));
    }
    app.post(&format!("/tokens/{id}/revoke"), &Value::Null).await.expect(200);
    refused(token, "token-revoked").await;

    let past = json!({ "name": "x", "role": "viewer", "expires_at": "2001-01-01T00:00:00Z" });
    app.post("/tokens", &past).await.expect(422);
    let soon = time::OffsetDateTime::now_utc() + time::Duration::milliseconds(1500);
    let soon = soon.format(&time::format_description::well_known::Rfc3339).unwrap();
    let made = app.token(json!({ "name": "x", "role": "viewer", "expires_at": soon })).await;
    let token = made["token"].as_str().unwrap();
    app.as_bearer(token, "get", "/whoami", &Value::Null).await.expect(200);
    tokio::time::sleep(std::time::Duration::from_millis(1600)).await;
    refused(token, "token-expired").await;

    let first = app.get("/whoami").await["id"].as_str().unwrap().to_owned();
    let problem = app.post(&format!("/tokens/{first}/revoke"), &Value::Null).await.expect(409).json();
    assert_eq!(problem["type"], "urn:pitstop:problem:last-admin-token");
    app.get("/whoami").await;
}
