//! The admin API: who may use it, products, devices.

use hyper::Method;
use serde_json::{Value, json};

use crate::app::{TestApp, product_body};
use crate::client::{Connection, request};

#[tokio::test]
async fn everything_needs_a_token_but_the_health_check() {
    let app = TestApp::start().await;
    let mut connection = Connection::plain(app.server.admin_addr()).await.unwrap();
    assert_eq!(connection.get("/healthz", &[]).await.expect(200).text().trim(), "ok");
    for path in ["/api/v1/info", "/api/v1/products", "/api/v1/nothing"] {
        for authorization in ["", "Bearer wrong", "Basic YTpi", "Bearer "] {
            let answer = connection.get(path, &[("authorization", authorization)]).await.expect(401);
            assert_eq!(answer.header("content-type"), "application/problem+json");
            assert_eq!(answer.header("cache-control"), "no-store");
            assert!(answer.header("www-authenticate").starts_with("Bearer"));
        }
    }
    let bearer = format!("Bearer {}", app.token);
    let authorized = [("authorization", bearer.as_str())];
    let info = connection.get("/api/v1/info", &authorized).await.expect(200);
    assert_eq!(info.header("cache-control"), "no-store");
    let answer = connection.get("/api/v1/nothing", &authorized).await.expect(404);
    assert_eq!(answer.json()["type"], "urn:pitstop:problem:no-such-path");
    connection.send(request(Method::DELETE, "/api/v1/products", &authorized, "")).await.unwrap().expect(405);
    // Devices' routes are not here, and the admin's are not there.
    connection.get("/.well-known/est/cacerts", &authorized).await.expect(404);
    app.connect(None).await.get("/api/v1/info", &authorized).await.expect(404);
}

#[tokio::test]
async fn info_tells_what_a_device_needs() {
    let app = TestApp::start().await;
    let info = app.get("/info").await;
    assert_eq!(info["device_url"], format!("https://localhost:{}", app.device_addr().port()));
    assert_eq!(info["device_url"], app.server.device_url());
    assert_eq!(info["ca_pem"], app.server.ca_certificate_pem());
    assert_eq!(info["server_name"], "localhost");
    let token = std::fs::read_to_string(app.server.admin_token_path()).unwrap();
    assert_eq!(token.trim(), app.token);
}

#[tokio::test]
async fn products_are_checked() {
    let app = TestApp::start().await;
    let product = app.post("/products", &product_body("lamp")).await.expect(201).json();
    assert_eq!(product["strategy"], "chain-load");
    assert_eq!(product["slots"], json!([{ "label": "ota_0", "size_bytes": 3_080_192 }]));
    assert_eq!(product["publisher_keys"][0]["id"].as_str().unwrap().len(), 16);
    assert_eq!(app.get("/products/lamp").await, product);
    app.post("/products", &product_body("lamp")).await.expect(409);
    for name in ["", "Lamp", "a b", &"a".repeat(65), "../x"] {
        app.post("/products", &product_body(name)).await.expect(400);
    }
    let mut broken = product_body("fan");
    broken["layout"]["csv"] = json!("# comment\nnvs, data, nvs, 0x9000\n");
    let detail = app.post("/products", &broken).await.expect(422).json()["detail"].to_string();
    assert!(detail.contains("line 2"), "{detail}");
    broken["layout"]["csv"] = json!("nvs, data, nvs, 0x9000, 0x6000\nfactory, app, factory, 0x10000, 1M\n");
    let detail = app.post("/products", &broken).await.expect(422).json()["detail"].to_string();
    assert!(detail.contains("there is no partition `vault`"), "{detail}");
    let mut chip = product_body("fan");
    chip["chip"] = json!("esp8266");
    app.post("/products", &chip).await.expect(422);
    app.admin(Method::POST, "/products", "{").await.expect(400);
    app.admin(Method::GET, "/products/fan", "").await.expect(404);
}

/// A product keeps its layout: what no device could work on is refused before there is one.
#[tokio::test]
async fn a_product_that_no_updater_can_work_on_is_refused() {
    let app = TestApp::start().await;
    let builtin = |name: &str| flashfmt::layout::BUILTIN.iter().find(|(known, _)| *known == name).unwrap().1;
    let refused = async |chip: &str, csv: &str| {
        let mut body = product_body("lamp");
        (body["chip"], body["layout"]["csv"]) = (json!(chip), json!(csv));
        app.post("/products", &body).await.expect(422).json()["detail"].as_str().unwrap().to_owned()
    };
    let four = builtin("4mb");
    for (changed, expected) in [
        (four.replace("vault,", "files,"), "there is no partition `vault`"),
        (four.replace("0x100000, 0x8000", "0x100000, 0x8000, readonly"), "`vault` is flagged readonly"),
        (format!("{four}otadata, data, ota, , 0x2000\n"), "there are both `otadata` (otadata) and `factory`"),
    ] {
        assert_ne!(changed, four);
        let detail = refused("esp32c3", &changed).await;
        assert!(detail.contains(expected), "{expected}: {detail}");
    }
    let detail = refused("esp32s3", four).await;
    assert!(detail.contains("expected a layout with otadata and without `factory` for esp32s3"), "{detail}");
    let detail = refused("esp32h2", builtin("8mb-rollback")).await;
    assert!(detail.contains("expected a chip that there is an updater for"), "{detail}");
    let mut s3 = product_body("lamp");
    (s3["chip"], s3["layout"]["csv"]) = (json!("esp32s3"), json!(builtin("8mb-rollback")));
    app.post("/products", &s3).await.expect(201);
}

#[tokio::test]
async fn the_classic_layout_keeps_its_first_slot_for_the_updater() {
    let app = TestApp::start().await;
    let mut body = product_body("lamp");
    body["layout"] = json!({ "name": "classic", "csv": "nvs, data, nvs, 0x9000, 0x4000\n\
        otadata, data, ota, 0xd000, 0x2000\nota_0, app, ota_0, 0x10000, 1M\nota_1, app, ota_1, 0x110000, 2M\n\
        vault, data, nvs, , 0x8000\njournal, 0x40, 0, , 0x2000\n" });
    let product = app.post("/products", &body).await.expect(201).json();
    assert_eq!(product["strategy"], "otadata-rollback");
    assert_eq!(product["slots"], json!([{ "label": "ota_1", "size_bytes": 2_097_152 }]));
}

#[tokio::test]
async fn devices_are_listed_in_pages() {
    let app = TestApp::start().await;
    app.create_product("lamp").await;
    app.create_product("fan").await;
    for id in ["c", "a", "b"] {
        app.create_device(id, "lamp").await;
    }
    app.create_device("d", "fan").await;
    let first = app.get("/devices?product=lamp&limit=2").await;
    let ids = |page: &serde_json::Value| -> Vec<_> {
        page["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|device| device["id"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!((ids(&first), first["next_cursor"].as_str()), (vec!["a".into(), "b".into()], Some("b")));
    let second = app.get("/devices?product=lamp&limit=2&cursor=b").await;
    assert_eq!((ids(&second), second["next_cursor"].as_str()), (vec!["c".to_owned()], None));
    assert_eq!(ids(&app.get("/devices").await).len(), 4);
    assert_eq!(first["items"][0]["state"], "new");
    for query in ["limit=0", "limit=1001", "limit=x"] {
        app.admin(Method::GET, &format!("/devices?{query}"), "").await.expect(400);
    }

    app.post("/devices", &json!({ "id": "a", "product": "lamp" })).await.expect(409);
    for id in [":x", "x/y", ".", "..", "-rf", ""] {
        app.post("/devices", &json!({ "id": id, "product": "lamp" })).await.expect(400);
    }
    app.post("/devices", &json!({ "id": "bulk", "product": "lamp" })).await.expect(422);
    app.post("/devices", &json!({ "id": "x", "product": "nothing" })).await.expect(404);
    let made = app.post("/devices", &json!({ "product": "lamp" })).await.expect(201).json();
    let id = made["id"].as_str().unwrap();
    assert!(id.starts_with("lamp-") && id.len() == "lamp-".len() + 10, "{id}");
    app.admin(Method::POST, "/devices/nobody/revoke", "").await.expect(404);
    app.admin(Method::POST, "/devices/nobody/enrollment-token", "").await.expect(404);
    app.admin(Method::GET, "/devices/nobody/events", "").await.expect(404);
    app.admin(Method::POST, "/devices/a/revoke", "").await.expect(200);
}

/// No entry twice, and none left out.
#[tokio::test]
async fn every_list_goes_on_where_its_page_ended() {
    let app = TestApp::start().await;
    let (_, _) = app.enrolled().await;
    app.create_product("fan").await;
    app.create_device("lamp-2", "lamp").await;
    app.post("/tokens", &json!({ "name": "x", "role": "viewer" })).await.expect(201);
    app.release(1, "1.0.0").await;
    app.release(2, "1.1.0").await;
    for list in [
        "/products",
        "/devices",
        "/devices/lamp-1/events",
        "/products/lamp/releases",
        "/rollouts",
        "/tokens",
        "/audit?kind=product",
    ] {
        let whole = app.get(list).await;
        // What else is in an entry may change from one page to the next.
        let key = |entry: &Value| ["id", "name", "sequence"].map(|name| entry[name].clone());
        let whole: Vec<_> = whole["items"].as_array().unwrap().iter().map(key).collect();
        assert_eq!(whole.len(), 2, "{list}");
        let and = if list.contains('?') { '&' } else { '?' };
        let (mut found, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = app.get(&format!("{list}{and}limit=1{cursor}")).await;
            let items = page["items"].as_array().unwrap();
            assert!(items.len() == 1 && found.len() < 2, "{list}: {page}");
            found.extend(items.iter().map(key));
            let Some(next) = page["next_cursor"].as_str() else { break };
            cursor = format!("&cursor={next}");
        }
        assert_eq!(found, whole, "{list}");
    }
}

#[tokio::test]
async fn a_nul_character_is_no_failure_of_the_server() {
    let app = TestApp::start().await;
    app.create_product("lamp").await;
    for path in [
        "/products/%00",
        "/products?cursor=%00",
        "/products/lamp/releases?cursor=%00",
        "/devices/a%00b",
        "/devices/a%00b/events",
        "/devices?product=%00",
        "/devices?q=%00",
        "/devices?tag=%00",
        "/audit?actor=%00",
        "/fleet/summary?product=%00",
    ] {
        let answer = app.admin(Method::GET, path, "").await;
        assert!(answer.status.as_u16() < 500, "{path}: {} {}", answer.status, answer.text());
    }
    app.enroll_as("a\0b", "token", "csr").await.expect(401);
}

/// With a misspelt filter a list would be of everything.
#[tokio::test]
async fn a_parameter_that_a_query_does_not_have_is_refused() {
    let app = TestApp::start().await;
    app.create_product("lamp").await;
    for path in [
        "/devices?suspened=true",
        "/events/export?untill=2020-01-01T00:00:00Z",
        "/audit?sinze=x&limit=5",
        "/audit/export?sinze=x",
        "/artifacts?page=2",
        "/products?name=lamp",
        "/products/lamp?limit=5",
        "/webhooks?limit=5",
        "/fleet/summary?prodct=lamp",
    ] {
        let problem = app.admin(Method::GET, path, "").await.expect(400).json();
        let detail = problem["detail"].as_str().unwrap();
        let name = path.split(['?', '=']).nth(1).unwrap();
        assert!(detail.starts_with("expected ") && detail.contains(&format!("found {name:?}")), "{detail}");
    }
    app.admin(Method::GET, "/audit?kind=product&limit=5&order=ascending", "").await.expect(200);
    app.admin(Method::GET, "/devices?product=lamp&limit=5&total=true", "").await.expect(200);
}
