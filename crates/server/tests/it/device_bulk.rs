//! Many devices at once: of a filter, or of a list.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::app::{TestApp, csr};

fn expected(filter: Value, expect: i64) -> Value {
    json!({ "filter": filter, "expect": expect })
}

fn with(mut body: Value, more: Value) -> Value {
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

async fn bulk(app: &TestApp, action: &str, body: Value) -> Value {
    app.post(&format!("/devices/bulk/{action}"), &body).await.expect(200).json()
}

async fn ids(app: &TestApp, query: &str) -> Vec<String> {
    let page = app.get(&format!("/devices?limit=1000&{query}")).await;
    page["items"].as_array().unwrap().iter().map(|device| device["id"].as_str().unwrap().to_owned()).collect()
}

/// Product `lamp` with three devices, of which two have the tag `lab`.
async fn three() -> TestApp {
    let app = TestApp::start().await;
    app.create_product("lamp").await;
    for (id, tags) in [("a", json!(["lab"])), ("b", json!([])), ("c", json!(["lab", "attic"]))] {
        app.post("/devices", &json!({ "id": id, "product": "lamp", "tags": tags })).await.expect(201);
    }
    app
}

#[tokio::test]
async fn no_more_devices_are_revoked_than_were_seen() {
    let app = three().await;
    let lab = json!({ "product": "lamp", "tag": "lab" });
    let counted = bulk(&app, "revoke", json!({ "filter": lab })).await;
    assert_eq!(counted, json!({ "count": 2, "changed": 0, "next_cursor": null }));
    for wrong in [1, 3, 0] {
        let problem =
            app.post("/devices/bulk/revoke", &expected(lab.clone(), wrong)).await.expect(409).json();
        assert_eq!(problem["type"], "urn:pitstop:problem:count-differs");
        let numbers = format!(
            "expected {wrong} {} of this filter, found 2",
            if wrong == 1 { "device" } else { "devices" }
        );
        assert!(problem["detail"].as_str().unwrap().contains(&numbers), "{problem}");
    }
    assert!(ids(&app, "health=revoked").await.is_empty());

    let body = with(expected(lab.clone(), 2), json!({ "reason": "sold" }));
    assert_eq!(bulk(&app, "revoke", body).await, json!({ "count": 2, "changed": 2, "next_cursor": null }));
    assert_eq!(ids(&app, "health=revoked").await, ["a", "c"]);
    let line = &app.get("/audit?limit=1").await["items"][0];
    assert_eq!((&line["action"], &line["subject"]), (&json!("device.revoke-bulk"), &json!("lamp")));
    assert_eq!(
        line["after"],
        json!({ "filter": lab, "count": 2, "devices": ["a", "c"], "state": "revoked", "reason": "sold" })
    );
    let event = &app.get("/devices/c/events").await["items"][0];
    assert_eq!((&event["kind"], &event["detail"]), (&json!("revoked"), &json!({ "reason": "sold" })));
    // They are revoked for good, and there is nothing left to do: no line of the audit log either.
    assert_eq!(bulk(&app, "revoke", expected(lab, 2)).await["changed"], 0);
    assert_eq!(app.get("/audit?limit=1").await["items"][0], *line);
    app.post("/devices/a/resume", &Value::Null).await.expect(409);
}

/// Of several that count and act at once, one does; the others find that there are others than they saw.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_counted_is_what_it_is_done_to() {
    let app = TestApp::start().await;
    for round in 0..5 {
        let product = format!("lamp{round}");
        app.create_product(&product).await;
        let devices: Vec<_> =
            (0..200).map(|n| json!({ "id": format!("{product}-{n}"), "tags": ["lab"] })).collect();
        app.post("/devices/bulk/import", &json!({ "product": product, "devices": devices }))
            .await
            .expect(201);
        let filter = json!({ "product": product, "tag": "lab" });
        let body = expected(filter.clone(), 200);
        let delete = || app.post("/devices/bulk/delete", &body);
        let change = with(body.clone(), json!({ "remove_tags": ["lab"] }));
        let (one, other, changed) =
            tokio::join!(delete(), delete(), app.post("/devices/bulk/change", &change));
        let mut statuses = [&one, &other, &changed].map(|answer| answer.status.as_u16());
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 409, 409], "{one:?} {other:?} {changed:?}");
        assert_eq!(bulk(&app, "delete", json!({ "filter": filter })).await["count"], 0);
    }
}

#[tokio::test]
async fn devices_of_a_filter_are_approved_suspended_and_changed() {
    let app = three().await;
    let all = json!({ "product": "lamp" });
    assert_eq!(bulk(&app, "approve", expected(all.clone(), 3)).await["changed"], 3);
    assert_eq!(bulk(&app, "approve", expected(all.clone(), 3)).await["changed"], 0);
    assert!(app.get("/devices/b").await["approved_at"].is_string());

    let change = json!({ "channel": "beta", "add_tags": ["hall", "lab"], "remove_tags": ["attic"] });
    assert_eq!(bulk(&app, "change", with(expected(all.clone(), 3), change)).await["changed"], 3);
    assert_eq!(app.get("/devices/c").await["tags"], json!(["hall", "lab"]));
    assert_eq!(ids(&app, "channel=beta&tag=hall").await, ["a", "b", "c"]);
    let event = &app.get("/devices/b/events").await["items"][0];
    assert_eq!(event["detail"], json!({ "channel": "beta", "tags": ["hall", "lab"] }));

    let suspend = with(expected(json!({ "product": "lamp", "q": "A" }), 1), json!({ "suspend": true }));
    assert_eq!(bulk(&app, "revoke", suspend).await["changed"], 1);
    assert_eq!(app.get("/devices/a").await["suspended"], true);
    assert_eq!(
        bulk(&app, "revoke", expected(json!({ "product": "lamp", "state": "revoked" }), 1)).await["changed"],
        1
    );
    assert_eq!(app.get("/devices/a").await["suspended"], false);

    let many: Vec<_> = (0..32).map(|index| format!("t{index}")).collect();
    let too_many = with(expected(all.clone(), 3), json!({ "add_tags": many }));
    for (status, action, body) in [
        (422, "change", too_many),
        (422, "change", expected(all.clone(), 3)),
        (422, "change", with(expected(all.clone(), 3), json!({ "channel": "nightly" }))),
        (422, "approve", json!({ "filter": {} })),
        (422, "approve", json!({ "filter": { "product": "lamp", "colour": "red" } })),
        (404, "approve", json!({ "filter": { "product": "fan" } })),
        (400, "approve", json!({ "filter": { "product": "lamp", "sequence": -1 } })),
    ] {
        app.post(&format!("/devices/bulk/{action}"), &body).await.expect(status);
    }
    assert_eq!(app.get("/devices/b").await["tags"], json!(["hall", "lab"]));
}

#[tokio::test]
async fn suspended_devices_are_listed_and_resumed_together() {
    let app = three().await;
    let lamps = json!({ "product": "lamp" });
    app.post("/devices/b/revoke", &Value::Null).await.expect(200);
    let suspend = with(expected(lamps.clone(), 3), json!({ "suspend": true, "reason": "flood" }));
    assert_eq!(bulk(&app, "revoke", suspend).await["changed"], 2);
    for query in ["suspended=true", "health=suspended"] {
        assert_eq!(ids(&app, query).await, ["a", "c"], "{query}");
    }
    assert_eq!(ids(&app, "health=revoked").await, ["b"]);
    assert_eq!(ids(&app, "state=revoked").await, ["a", "b", "c"]);
    assert_eq!(ids(&app, "state=enrolled").await, Vec::<String>::new());

    let lab = json!({ "product": "lamp", "tag": "attic" });
    assert_eq!(bulk(&app, "resume", json!({ "filter": lab })).await["count"], 1);
    app.post("/devices/bulk/resume", &expected(lab.clone(), 2)).await.expect(409);
    assert_eq!(ids(&app, "suspended=true").await, ["a", "c"]);
    assert_eq!(bulk(&app, "resume", expected(lab, 1)).await["changed"], 1);
    let event = &app.get("/devices/c/events").await["items"][0];
    assert_eq!(event["kind"], "resumed");
    // The one that is revoked stays so, and so does the one that is resumed.
    let all = bulk(&app, "resume", expected(lamps.clone(), 3)).await;
    assert_eq!(all, json!({ "count": 3, "changed": 1, "next_cursor": null }));
    let line = &app.get("/audit?limit=1").await["items"][0];
    assert_eq!(line["action"], "device.resume-bulk");
    assert_eq!(line["after"], json!({ "filter": lamps, "count": 1, "devices": ["a"] }));
    assert_eq!(
        (ids(&app, "state=new").await, ids(&app, "state=revoked").await),
        (vec!["a".into(), "c".into()], vec!["b".into()])
    );
    let none = json!({ "product": "lamp", "suspended": true, "clone_suspected": true });
    assert_eq!(bulk(&app, "resume", expected(none, 0)).await["count"], 0);
}

#[tokio::test]
async fn more_devices_than_one_call_takes_are_done_with_by_cursor() {
    let app = TestApp::start().await;
    app.create_product("lamp").await;
    for count in [1000, 5] {
        app.post("/devices/bulk", &json!({ "product": "lamp", "count": count })).await.expect(201);
    }
    let all = json!({ "product": "lamp" });
    let first = bulk(&app, "approve", expected(all.clone(), 1005)).await;
    assert_eq!((&first["count"], &first["changed"]), (&json!(1005), &json!(1000)));
    let cursor = first["next_cursor"].as_str().unwrap();
    let rest = with(expected(all.clone(), 5), json!({ "cursor": cursor }));
    assert_eq!(bulk(&app, "approve", rest).await, json!({ "count": 5, "changed": 5, "next_cursor": null }));
    assert_eq!(bulk(&app, "approve", expected(all, 1005)).await["changed"], 0);
}

/// The certificate of somebody who is not revoked would be anybody's.
#[tokio::test]
async fn what_is_not_enrolled_is_deleted_together_and_the_rest_stays() {
    let app = TestApp::start().await;
    app.create_product("lamp").await;
    let mut devices = Vec::new();
    for id in ["lamp-1", "lamp-2", "lamp-3", "lamp-4"] {
        devices.push(app.create_device(id, "lamp").await);
    }
    for device in &devices[..3] {
        app.enroll(device, &csr(&device.key)).await.expect(200);
    }
    app.post("/devices/lamp-2/suspend", &json!({})).await.expect(200);
    app.post("/devices/lamp-3/revoke", &json!({})).await.expect(200);
    let all = json!({ "product": "lamp" });
    app.post("/devices/bulk/delete", &expected(all.clone(), 3)).await.expect(409);
    assert_eq!(ids(&app, "").await.len(), 4);
    let done = json!({ "count": 4, "changed": 2, "next_cursor": null });
    assert_eq!(bulk(&app, "delete", expected(all.clone(), 4)).await, done);
    assert_eq!(ids(&app, "").await, ["lamp-1", "lamp-2"]);
    let line = &app.get("/audit?limit=1").await["items"][0];
    assert_eq!(
        (&line["action"], &line["after"]["devices"]),
        (&json!("device.delete-bulk"), &json!(["lamp-3", "lamp-4"]))
    );
    // The ids are free; certificates of before are good for nothing.
    app.create_device("lamp-3", "lamp").await;
    assert_eq!(bulk(&app, "delete", expected(all, 3)).await["changed"], 1);
}

#[tokio::test]
async fn ids_of_ones_own_are_imported_all_or_none() {
    let app = TestApp::start().await;
    app.create_product("lamp").await;
    let import = async |devices: Value| {
        app.post("/devices/bulk/import", &json!({ "product": "lamp", "devices": devices })).await
    };
    let made = import(json!([
        { "id": "AA:BB:CC:DD:EE:FF", "channel": "beta", "tags": ["hall", "attic"] },
        { "id": "SN-2" },
    ]));
    let made = made.await.expect(201).json();
    let tokens: BTreeSet<_> =
        made["items"].as_array().unwrap().iter().map(|item| item["enrollment_token"].to_string()).collect();
    assert_eq!(tokens.len(), 2);
    let device = app.get("/devices/AA:BB:CC:DD:EE:FF").await;
    assert_eq!((&device["channel"], &device["tags"]), (&json!("beta"), &json!(["attic", "hall"])));
    assert_eq!(app.get("/devices/AA%3ABB%3ACC%3ADD%3AEE%3AFF").await["id"], device["id"]);
    assert_eq!(
        app.get("/audit?limit=1").await["items"][0]["after"]["devices"],
        json!(["AA:BB:CC:DD:EE:FF", "SN-2"])
    );

    for (status, devices) in [
        (409, json!([{ "id": "SN-3" }, { "id": "SN-2" }])),
        (422, json!([{ "id": "SN-3" }, { "id": "SN-3" }])),
        (422, json!([{ "id": "SN-3" }, { "id": "bulk" }])),
        (422, json!([{ "id": "SN-3", "channel": "nightly" }])),
        (400, json!([{ "id": "SN-3" }, { "id": "-rf" }])),
        (400, json!([{ "id": ".." }])),
        (400, json!([{ "id": "." }])),
        (400, json!([{ "id": ":a" }])),
        (400, json!([])),
    ] {
        import(devices).await.expect(status);
    }
    assert_eq!(ids(&app, "q=SN-3").await, Vec::<String>::new());
}

/// The user of HTTP Basic has colons then, which the standard does not allow (RFC 7617 section 2).
#[tokio::test]
async fn a_device_whose_id_is_its_mac_address_enrolls() {
    let app = TestApp::start().await;
    app.create_product("lamp").await;
    let device = app.create_device("AA:BB:CC:DD:EE:FF", "lamp").await;
    let certificate = app.enroll(&device, &csr(&device.key)).await.expect(200).certificate();
    let identity = device.identity(certificate);
    app.connect(Some(&identity)).await.check_in(&crate::app::check_in(None)).await.expect(200);
    assert_eq!(app.get("/devices/AA:BB:CC:DD:EE:FF").await["state"], "enrolled");
}
