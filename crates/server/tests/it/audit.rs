//! Who changed what, and changes that somebody else was faster with.

use hyper::Method;
use serde_json::json;

use crate::app::TestApp;
use crate::client::{Connection, request};

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
