//! Devices as operators see and change them.

use hyper::Method;
use serde_json::{Value, json};

use crate::app::{TestApp, check_in};

async fn ids(app: &TestApp, query: &str) -> Vec<String> {
    let page = app.get(&format!("/devices?{query}")).await;
    page["items"].as_array().unwrap().iter().map(|device| device["id"].as_str().unwrap().to_owned()).collect()
}

async fn patch(app: &TestApp, id: &str, body: Value) -> crate::client::Answer {
    app.admin(Method::PATCH, &format!("/devices/{id}"), body.to_string()).await
}

#[tokio::test]
async fn settings_are_changed_and_audited() {
    let app = TestApp::start().await;
    app.create_product("lamp").await;
    app.create_device("a", "lamp").await;
    app.release(3, "1.0.0").await;
    let body =
        json!({ "note": "attic", "channel": "beta", "tags": ["lab", "attic", "lab"], "pinned_sequence": 3 });
    let device = patch(&app, "a", body).await.expect(200).json();
    assert_eq!(device["tags"], json!(["attic", "lab"]));
    assert_eq!((&device["channel"], &device["pinned_sequence"]), (&json!("beta"), &json!(3)));
    assert_eq!(device["revision"], 2);
    let device =
        patch(&app, "a", json!({ "pinned_sequence": null, "tags": ["lab"] })).await.expect(200).json();
    assert_eq!((&device["pinned_sequence"], &device["note"]), (&Value::Null, &json!("attic")));
    let line = &app.get("/audit?kind=device&subject=a&limit=1").await["items"][0];
    assert_eq!(line["before"], json!({ "tags": ["attic", "lab"], "pinned_sequence": 3 }));
    assert_eq!(line["after"], json!({ "tags": ["lab"], "pinned_sequence": null }));

    for body in [
        json!({ "channel": "nightly" }),
        json!({ "pinned_sequence": 4 }),
        json!({ "tags": ["UPPER"] }),
        json!({ "note": "\u{1b}[2J" }),
        json!({ "colour": "red" }),
    ] {
        patch(&app, "a", body).await.expect(422);
    }
    patch(&app, "nobody", json!({})).await.expect(404);
}

#[tokio::test]
async fn lists_are_filtered() {
    let app = TestApp::start().await;
    let (_, identity) = app.enrolled().await;
    app.create_product("fan").await;
    app.create_device("fan_1", "fan").await;
    app.create_device("fan-1", "fan").await;
    app.create_device("lamp-2", "lamp").await;
    let image = app.release(1, "1.0.0").await;
    app.connect(Some(&identity)).await.check_in(&check_in(Some((&image, 1)))).await.expect(200);
    patch(&app, "lamp-2", json!({ "tags": ["lab"], "channel": "beta" })).await.expect(200);
    app.admin(Method::POST, "/devices/fan-1/revoke", "").await.expect(200);

    for (query, expected) in [
        ("product=lamp", &["lamp-1", "lamp-2"][..]),
        ("channel=beta", &["lamp-2"]),
        ("tag=lab", &["lamp-2"]),
        ("tag=attic", &[]),
        ("state=enrolled", &["lamp-1"]),
        ("state=revoked", &["fan-1"]),
        ("health=ok", &["lamp-1"]),
        ("health=new", &["fan_1", "lamp-2"]),
        ("health=revoked", &["fan-1"]),
        ("sequence=1", &["lamp-1"]),
        ("q=N_", &["fan_1"]),
        ("q=MP-", &["lamp-1", "lamp-2"]),
        ("q=%25", &[]),
        ("product=lamp&health=new&q=2", &["lamp-2"]),
    ] {
        assert_eq!(ids(&app, query).await, expected, "{query}");
    }
    for query in ["health=well", "state=old", "sequence=x", "sequence=-1"] {
        app.admin(Method::GET, &format!("/devices?{query}"), "").await.expect(400);
    }
}

#[tokio::test]
async fn a_list_is_read_both_ways() {
    let app = TestApp::start().await;
    app.create_product("lamp").await;
    for id in ["a", "b", "c", "d", "e"] {
        app.create_device(id, "lamp").await;
    }
    let page = async |query: String| {
        let page = app.get(&format!("/devices?limit=2{query}")).await;
        let ids = page["items"].as_array().unwrap().iter().map(|device| device["id"].as_str().unwrap());
        let cursor = |name: &str| page.get(name).and_then(Value::as_str).map(ToOwned::to_owned);
        (ids.collect::<String>(), cursor("previous_cursor"), cursor("next_cursor"))
    };
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(page(String::new()).await, ("ab".to_owned(), None, some("b")));
    assert_eq!(page("&cursor=b".to_owned()).await, ("cd".to_owned(), some("c"), some("d")));
    assert_eq!(page("&cursor=d".to_owned()).await, ("e".to_owned(), some("e"), None));
    assert_eq!(page("&before=e".to_owned()).await, ("cd".to_owned(), some("c"), some("d")));
    assert_eq!(page("&before=c".to_owned()).await, ("ab".to_owned(), None, some("b")));
    assert_eq!(page("&before=b".to_owned()).await, ("a".to_owned(), None, some("a")));
    let down = "&order=descending";
    assert_eq!(page(down.to_owned()).await, ("ed".to_owned(), None, some("d")));
    assert_eq!(page(format!("{down}&cursor=d")).await, ("cb".to_owned(), some("c"), some("b")));
    assert_eq!(page(format!("{down}&cursor=b")).await, ("a".to_owned(), some("a"), None));
    assert_eq!(page(format!("{down}&before=a")).await, ("cb".to_owned(), some("c"), some("b")));
    assert_eq!(page(format!("{down}&before=c")).await, ("ed".to_owned(), None, some("d")));
    assert_eq!(page("&before=a".to_owned()).await, (String::new(), None, some("a")));
    assert_eq!(
        app.get("/devices?limit=2&total=true").await["total"],
        json!({ "count": 5, "has_more": false })
    );
    assert_eq!(app.get("/devices?limit=2").await.get("total"), None);
    app.admin(Method::GET, "/devices?cursor=a&before=c", "").await.expect(422);
}

#[tokio::test]
async fn many_devices_are_made_at_once_or_none() {
    let app = TestApp::start().await;
    app.create_product("lamp").await;
    let body = json!({ "product": "lamp", "count": 1000, "prefix": "hall", "tags": ["lab"] });
    let made = app.post("/devices/bulk", &body).await.expect(201).json();
    let items = made["items"].as_array().unwrap();
    let tokens: std::collections::BTreeSet<_> =
        items.iter().map(|item| item["enrollment_token"].as_str().unwrap()).collect();
    assert_eq!((items.len(), tokens.len()), (1000, 1000));
    assert!(items[0]["id"].as_str().unwrap().starts_with("hall-"));
    assert_eq!(ids(&app, "tag=lab&limit=1000").await.len(), 1000);
    let line = &app.get("/audit?limit=1").await["items"][0];
    assert_eq!(line["action"], "device.create-bulk");
    assert_eq!(line["after"]["devices"].as_array().unwrap().len(), 1000);
    for (status, body) in [
        (400, json!({ "product": "lamp", "count": 1001 })),
        (400, json!({ "product": "lamp", "count": 0 })),
        (400, json!({ "product": "lamp", "count": 1, "prefix": "a b" })),
        (422, json!({ "product": "lamp", "count": 1, "channel": "nightly" })),
    ] {
        app.post("/devices/bulk", &body).await.expect(status);
    }
    assert_eq!(ids(&app, "limit=1000").await.len(), 1000);
}

/// RFC 5280 section 5.3.1: of all revocations a hold alone is taken back.
#[tokio::test]
async fn a_suspension_is_taken_back_and_a_revocation_is_not() {
    let app = TestApp::start().await;
    let (_, identity) = app.enrolled().await;
    let act = async |action: &str| app.admin(Method::POST, &format!("/devices/lamp-1/{action}"), "").await;
    let suspended = act("suspend").await.expect(200).json();
    assert_eq!((&suspended["state"], &suspended["suspended"]), (&json!("revoked"), &json!(true)));
    assert_eq!(suspended["health"], "suspended");
    app.connect(Some(&identity)).await.check_in(&check_in(None)).await.expect(403);
    for action in ["approve", "enrollment-token"] {
        assert_eq!(act(action).await.expect(409).json()["type"], "urn:pitstop:problem:device-suspended");
    }
    let resumed = act("resume").await.expect(200).json();
    assert_eq!((&resumed["state"], &resumed["suspended"]), (&json!("enrolled"), &json!(false)));
    assert_eq!((&resumed["revoked_at"], &resumed["health"]), (&Value::Null, &json!("new")));
    app.connect(Some(&identity)).await.check_in(&check_in(None)).await.expect(200);

    act("suspend").await.expect(200);
    let revoked = app.post("/devices/lamp-1/revoke", &json!({ "reason": "stolen" })).await.expect(200).json();
    assert_eq!((&revoked["suspended"], &revoked["revoked_reason"]), (&json!(false), &json!("stolen")));
    for action in ["resume", "suspend"] {
        assert_eq!(act(action).await.expect(409).json()["type"], "urn:pitstop:problem:device-revoked");
    }
    let audit = app.get("/audit?kind=device&subject=lamp-1").await;
    let lines: Vec<_> =
        audit["items"].as_array().unwrap().iter().map(|line| line["action"].clone()).collect();
    assert_eq!(
        lines,
        ["device.revoke", "device.suspend", "device.resume", "device.suspend", "device.create"]
    );
    assert_eq!(audit["items"][0]["before"], json!({ "state": "suspended" }));
}

#[tokio::test]
async fn an_approval_and_a_revocation_count_once() {
    let app = TestApp::start().await;
    app.create_product("lamp").await;
    app.create_device("a", "lamp").await;
    app.change("/devices/a/approve", "\"r7\"").await.expect(412);
    let approved = app.admin(Method::POST, "/devices/a/approve", "").await.expect(200).json();
    assert!(approved["approved_at"].is_string());
    assert_eq!(app.admin(Method::POST, "/devices/a/approve", "").await.expect(200).json(), approved);
    let cleared = app.admin(Method::POST, "/devices/a/clear-quarantine", "").await.expect(200).json();
    assert_eq!(cleared, approved);
    for _ in 0..2 {
        app.post("/devices/a/revoke", &json!({ "reason": "stolen" })).await.expect(200);
    }
    app.admin(Method::POST, "/devices/a/approve", "").await.expect(409);
    app.admin(Method::POST, "/devices/a/enrollment-token", "").await.expect(409);
    let audit = app.get("/audit?kind=device&subject=a").await;
    let actions: Vec<_> = audit["items"].as_array().unwrap().iter().map(|line| &line["action"]).collect();
    assert_eq!(actions, ["device.revoke", "device.approve", "device.create"]);
}

#[tokio::test]
async fn lists_are_sorted_by_when_devices_were_seen_and_made_and_paged_both_ways() {
    let app = TestApp::start().await;
    app.create_product("lamp").await;
    for id in ["d", "b", "a", "c", "e"] {
        app.create_device(id, "lamp").await;
    }
    let mut database = app.dir.connect().await;
    for (id, created_at_ms, last_seen_at_ms) in
        [("a", 30, Some(7)), ("b", 20, None), ("c", 20, Some(9)), ("d", 10, Some(8)), ("e", 40, Some(7))]
    {
        sqlx::query("UPDATE devices SET created_at_ms = $1, last_seen_at_ms = $2 WHERE id = $3")
            .bind(created_at_ms)
            .bind(last_seen_at_ms)
            .bind(id)
            .execute(&mut database)
            .await
            .unwrap();
    }
    for (query, expected) in [
        ("sort=id", ["a", "b", "c", "d", "e"]),
        ("sort=created", ["d", "b", "c", "a", "e"]),
        ("sort=last-seen", ["b", "a", "e", "d", "c"]),
        ("sort=last-seen&order=descending", ["c", "d", "e", "a", "b"]),
        ("sort=created&order=descending&product=lamp", ["e", "a", "c", "b", "d"]),
    ] {
        assert_eq!(ids(&app, query).await, expected, "{query}");
        // By twos to the end, and back.
        let (mut page, mut seen) =
            (app.get(&format!("/devices?{query}&limit=2&total=true")).await, Vec::new());
        assert_eq!(page["total"], json!({ "count": 5, "has_more": false }));
        let of = |page: &Value| {
            page["items"].as_array().unwrap().iter().map(|device| device["id"].clone()).collect::<Vec<_>>()
        };
        loop {
            seen.extend(of(&page));
            let Some(cursor) = page["next_cursor"].as_str() else { break };
            page = app.get(&format!("/devices?{query}&limit=2&cursor={cursor}")).await;
        }
        assert_eq!(seen, expected, "{query}");
        let before = page["previous_cursor"].as_str().unwrap();
        let back = app.get(&format!("/devices?{query}&limit=2&before={before}")).await;
        assert_eq!(of(&back), expected[2..4], "{query}");
    }
    for (status, query) in [
        (422, "sort=created&cursor=a"),
        (422, "sort=last-seen&before=x.a"),
        (400, "sort=health"),
        (400, "sort=created&order=up"),
    ] {
        app.admin(Method::GET, &format!("/devices?{query}"), "").await.expect(status);
    }
}
