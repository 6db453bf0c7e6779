//! Two boards with one identity.

use serde_json::{Value, json};

use crate::app::{TestApp, check_in, csr, new_key};
use crate::client::{Connection, Identity};

/// What a board says at its starts, one after the other; each says it with news, which is not waited with.
struct Board {
    connection: Connection,
    starts: u32,
}

impl Board {
    async fn of(app: &TestApp, identity: &Identity, starts: u32) -> Self {
        Self { connection: app.connect(Some(identity)).await, starts }
    }

    async fn start(&mut self) {
        let mut said = check_in(None);
        said.starts = self.starts;
        said.updater_version = self.starts.to_string();
        self.connection.check_in(&said).await.expect(200);
        self.starts += 1;
    }
}

fn ids(page: &Value) -> Vec<&str> {
    page["items"].as_array().unwrap().iter().map(|device| device["id"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn two_boards_with_one_identity_are_told_apart_from_one() {
    let app = TestApp::start().await;
    let (device, identity) = app.enrolled().await;
    // One board, whose power is cut now and then.
    let mut board = Board::of(&app, &identity, 1).await;
    for start in 0..30 {
        if start % 7 == 6 {
            board.starts = 1;
        }
        board.start().await;
    }
    assert_eq!(app.get("/devices/lamp-1").await["clone_suspected_since"], Value::Null);

    board.starts = 400;
    let mut copy = Board::of(&app, &identity, 1).await;
    for _ in 0..6 {
        board.start().await;
        copy.start().await;
    }
    let shown = app.get("/devices/lamp-1").await;
    assert!(shown["clone_suspected_since"].is_string(), "{shown:#}");
    let events = app.get("/devices/lamp-1/events?limit=1000").await;
    let told = events["items"].as_array().unwrap().iter().filter(|event| event["kind"] == "clone-suspected");
    assert_eq!(told.count(), 1, "it is told once");
    let audit = app.get("/audit?kind=device&limit=1").await;
    assert_eq!(
        (&audit["items"][0]["action"], &audit["items"][0]["subject"], &audit["items"][0]["product"]),
        (&json!("device.suspect-clone"), &json!("lamp-1"), &json!("lamp"))
    );
    app.create_device("lamp-2", "lamp").await;
    assert_eq!(ids(&app.get("/devices?clone_suspected=true&total=true").await), ["lamp-1"]);
    assert_eq!(ids(&app.get("/devices").await), ["lamp-1", "lamp-2"]);
    let cloned =
        json!({ "filter": { "product": "lamp", "clone_suspected": true }, "expect": 1, "suspend": true });
    assert_eq!(app.post("/devices/bulk/revoke", &cloned).await.expect(200).json()["changed"], 1);
    assert_eq!(ids(&app.get("/devices?suspended=true").await), ["lamp-1"]);
    app.post("/devices/lamp-1/resume", &json!({})).await.expect(200);

    // A new token and a new vault: whoever has the old certificate is shut out.
    let token = app.post("/devices/lamp-1/enrollment-token", &json!({})).await.expect(201).json();
    let token = token["enrollment_token"].as_str().unwrap().to_owned();
    let renewed = crate::app::TestDevice { id: device.id, token, key: new_key() };
    let certificate = app.enroll(&renewed, &csr(&renewed.key)).await.expect(200).certificate();
    assert_eq!(app.get("/devices/lamp-1").await["clone_suspected_since"], Value::Null);
    Board::of(&app, &renewed.identity(certificate), 1).await.start().await;
    copy.connection.check_in(&check_in(None)).await.expect(403);
    assert_eq!(app.get("/devices?clone_suspected=true").await["items"], json!([]));
}
