//! Another flash layout for a product.

use flashfmt::layout::BUILTIN;
use hyper::Method;
use serde_json::{Value, json};

use crate::app::{TestApp, describe, image, image_of, sign};

fn builtin(name: &str) -> Value {
    let (name, csv) = BUILTIN.into_iter().find(|(found, _)| *found == name).unwrap();
    json!({ "name": name, "csv": csv })
}

impl TestApp {
    async fn patch_product(&self, body: &Value) -> crate::client::Answer {
        self.admin(Method::PATCH, "/products/lamp", body.to_string()).await
    }
}

#[tokio::test]
async fn a_product_without_devices_gets_another_layout() {
    let app = TestApp::start().await;
    app.create_product("lamp").await;
    let before = app.get("/products/lamp").await;
    assert_eq!(before["layout"]["name"], "4mb");
    let shown = app.patch_product(&json!({ "layout": builtin("8mb") })).await.expect(200).json();
    assert_eq!(shown["layout"], builtin("8mb"));
    assert_ne!(shown["slots"], before["slots"]);
    assert_eq!(shown, app.get("/products/lamp").await);
    let line = &app.get("/audit?kind=product&limit=1").await["items"][0];
    assert_eq!(line["action"], "product.change");
    assert_eq!(line["before"], json!({ "layout": builtin("4mb") }));
    assert_eq!(line["after"], json!({ "layout": builtin("8mb") }));

    for (layout, told) in [
        (json!({ "name": "", "csv": "x" }), 400),
        (json!({ "name": "none", "csv": "nothing" }), 422),
        (json!({ "name": "bare", "csv": "factory,app,factory,0x10000,1M" }), 422),
    ] {
        app.patch_product(&json!({ "layout": layout, "quarantine_after": 9 })).await.expect(told);
    }
    assert_eq!(app.get("/products/lamp").await, shown, "all or nothing");

    app.create_device("lamp-1", "lamp").await;
    let refused = app
        .patch_product(&json!({ "layout": builtin("4mb"), "quarantine_after": 9 }))
        .await
        .expect(409)
        .json();
    assert_eq!(refused["type"], "urn:pitstop:problem:product-has-devices");
    let detail = refused["detail"].as_str().unwrap();
    assert!(detail.contains("found lamp with 1 device:"), "{detail}");
    assert_eq!(app.get("/products/lamp").await, shown);
    let same = json!({ "layout": builtin("8mb"), "quarantine_after": 9 });
    let changed = app.patch_product(&same).await.expect(200).json();
    assert_eq!(changed["quarantine_after"], 9, "the same layout is no change of it");
}

#[tokio::test]
async fn releases_that_would_not_fit_another_layout_are_named() {
    let app = TestApp::start().await;
    app.create_product("lamp").await;
    app.patch_product(&json!({ "layout": builtin("16mb") })).await.expect(200);
    let (small, large) = (image("1.0.0"), image_of("2.0.0", 4 * 1024 * 1024));
    for (image, sequence, version) in [(&small, 1, "1.0.0"), (&large, 2, "2.0.0")] {
        app.upload(image).await.expect(201);
        app.publish("lamp", &sign(&describe(image, sequence, version))).await.expect(201);
    }
    let refused = app.patch_product(&json!({ "layout": builtin("4mb") })).await.expect(409).json();
    assert_eq!(refused["type"], "urn:pitstop:problem:releases-do-not-fit");
    let detail = refused["detail"].as_str().unwrap();
    assert!(detail.contains("2.0.0 (number 2, ") && !detail.contains("1.0.0"), "{detail}");
    for path in ["/rollouts/ro-lamp-2/abort", "/products/lamp/releases/2/archive"] {
        app.admin(Method::POST, path, "").await.expect(200);
    }
    app.patch_product(&json!({ "layout": builtin("4mb") })).await.expect(200);

    // What was put away comes back only where it fits.
    let unarchive = "/products/lamp/releases/2/unarchive";
    let refused = app.admin(Method::POST, unarchive, "").await.expect(409).json();
    assert_eq!(refused["type"], "urn:pitstop:problem:releases-do-not-fit");
    let detail = refused["detail"].as_str().unwrap();
    assert!(detail.contains("found 2 for ") && detail.contains("publish the application again"), "{detail}");

    // An image was never looked at for another way of the hand-over.
    let refused = app.patch_product(&json!({ "layout": builtin("8mb-rollback") })).await.expect(409).json();
    let detail = refused["detail"].as_str().unwrap();
    assert!(detail.contains("1.0.0 (number 1, ") && detail.contains("otadata-rollback"), "{detail}");
    for path in ["/rollouts/ro-lamp-1/abort", "/products/lamp/releases/1/archive"] {
        app.admin(Method::POST, path, "").await.expect(200);
    }
    app.patch_product(&json!({ "layout": builtin("8mb-rollback") })).await.expect(200);
    let unarchive = "/products/lamp/releases/1/unarchive";
    let refused = app.admin(Method::POST, unarchive, "").await.expect(409).json();
    assert!(refused["detail"].as_str().unwrap().contains("by chain-load"), "{refused}");
    app.patch_product(&json!({ "layout": builtin("16mb") })).await.expect(200);
    for release in [1, 2] {
        let unarchive = format!("/products/lamp/releases/{release}/unarchive");
        app.admin(Method::POST, &unarchive, "").await.expect(200);
    }
}
