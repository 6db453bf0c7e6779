//! What may be published. Each refusal has its own type and a sentence that names both sides.

use hyper::Method;
use manifest::{Digest, Manifest, PublisherSigningKey, Sequence, Signed};
use serde_json::{Value, json};

use crate::app::{ESP32C3, TestApp, describe, image, image_of, publisher, sign};

async fn refused(app: &TestApp, manifest: &[u8], status: u16, kind: &str) -> String {
    let answer = app.publish("lamp", manifest).await;
    assert_eq!(answer.header("content-type"), "application/problem+json");
    let problem = answer.expect(status).json();
    assert_eq!(problem["type"], format!("urn:pitstop:problem:{kind}"), "{problem}");
    assert_eq!(problem["status"], status);
    problem["detail"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_release_is_published_and_shown() {
    let app = TestApp::start().await;
    app.create_product("lamp").await;
    let image = image("1.0.0");
    app.upload(&image).await.expect(201);
    let manifest = sign(&describe(&image, 7, "1.0.0"));
    let release = app.publish("lamp", &manifest).await.expect(201).json();
    assert_eq!((release["sequence"].as_u64(), release["version"].as_str()), (Some(7), Some("1.0.0")));
    assert_eq!(release["digest"], Digest::of(&image).to_string());
    assert_eq!(release["size_bytes"], image.len());
    assert_eq!(release["app"]["project_name"], "lamp-app");
    assert_eq!(app.get("/products/lamp/releases/7").await, release);
    let raw = app.admin(Method::GET, "/products/lamp/releases/7/manifest", "").await.expect(200);
    assert_eq!(raw.body, manifest);
    app.release(8, "1.1.0").await;
    let list = app.get("/products/lamp/releases?limit=1").await;
    assert_eq!((list["items"][0]["sequence"].as_u64(), list["next_cursor"].as_str()), (Some(8), Some("8")));
    let list = app.get("/products/lamp/releases?limit=1&cursor=8").await;
    assert_eq!((list["items"][0]["sequence"].as_u64(), &list["next_cursor"]), (Some(7), &Value::Null));
    app.admin(Method::GET, "/products/lamp/releases/9", "").await.expect(404);
}

#[tokio::test]
async fn strangers_and_changed_bytes_are_refused() {
    let app = TestApp::start().await;
    app.create_product("lamp").await;
    let image = image("1.0.0");
    app.upload(&image).await.expect(201);
    let manifest = describe(&image, 1, "1.0.0");

    let stranger = PublisherSigningKey::new(p256::SecretKey::from_slice(&[9; 32]).unwrap());
    let by_stranger = Signed::sign(&manifest, &stranger).unwrap();
    let detail = refused(&app, by_stranger.as_bytes(), 422, "manifest-signature").await;
    assert!(detail.contains("product lamp (alice)"), "{detail}");

    let good = sign(&manifest);
    let mut changed = good.clone();
    let middle = changed.len() / 2;
    changed[middle] ^= 1;
    refused(&app, &changed, 422, "manifest-signature").await;
    refused(&app, &good[..good.len() - 1], 422, "manifest-malformed").await;
    refused(&app, b"", 422, "manifest-malformed").await;
    let answer = app.post("/products/lamp/releases", &json!({ "manifest": "@" })).await.expect(422).json();
    assert_eq!(answer["type"], "urn:pitstop:problem:manifest-malformed");
    app.publish("lamp", &good).await.expect(201);
}

#[tokio::test]
async fn another_product_or_chip_is_refused() {
    let app = TestApp::start().await;
    app.create_product("lamp").await;
    let image = image("1.0.0");
    app.upload(&image).await.expect(201);
    let of =
        |product, chip_id| sign(&Manifest::describe(&image, Sequence(1), product, chip_id, "1").unwrap());
    let detail = refused(&app, &of("fan", ESP32C3), 422, "product-mismatch").await;
    assert_eq!(detail, "expected a manifest for product lamp, found one for fan");
    let detail = refused(&app, &of("lamp", 9), 422, "chip-mismatch").await;
    assert_eq!(detail, "expected a manifest for chip esp32c3, found one for esp32s3");

    // The manifest says esp32c3, the image says something else.
    let mut other_chip = image.clone();
    other_chip[12] = 9;
    let end = other_chip.len() - 32;
    let hash = Digest::of(&other_chip[..end]);
    other_chip[end..].copy_from_slice(&hash.0);
    app.upload(&other_chip).await.expect(201);
    let detail = refused(&app, &sign(&describe(&other_chip, 1, "1")), 422, "image-chip-mismatch").await;
    assert_eq!(detail, "expected an image for chip esp32c3, found one for esp32s3");
}

#[tokio::test]
async fn artifacts_must_be_there_and_be_images() {
    let app = TestApp::start().await;
    app.create_product("lamp").await;
    let image = image("1.0.0");
    let detail = refused(&app, &sign(&describe(&image, 1, "1")), 422, "artifact-missing").await;
    assert!(detail.contains("upload it first"), "{detail}");

    let text = b"not an image".to_vec();
    app.upload(&text).await.expect(201);
    refused(&app, &sign(&describe(&text, 1, "1")), 422, "image-invalid").await;
    let mut damaged = image.clone();
    damaged[1000] ^= 1;
    app.upload(&damaged).await.expect(201);
    refused(&app, &sign(&describe(&damaged, 1, "1")), 422, "image-invalid").await;
    let mut longer = image.clone();
    longer.extend_from_slice(b"tail");
    app.upload(&longer).await.expect(201);
    let detail = refused(&app, &sign(&describe(&longer, 1, "1")), 422, "image-invalid").await;
    assert!(detail.contains("found 4 bytes more"), "{detail}");
}

#[tokio::test]
async fn an_image_larger_than_a_slot_is_refused_with_both_sizes() {
    let app = TestApp::start().await;
    app.create_product("lamp").await;
    let large = image_of("1.0.0", 3_100_000);
    app.upload(&large).await.expect(201);
    let detail = refused(&app, &sign(&describe(&large, 1, "1")), 422, "image-too-large").await;
    let expected = format!("expected at most 3080192 bytes (slot ota_0), found {}", large.len());
    assert!(detail.starts_with(&expected), "{detail}");

    let small = image("1.0.0");
    app.upload(&small).await.expect(201);
    let mut manifest = describe(&small, 1, "1");
    manifest.min_slot_bytes = 3_080_193;
    refused(&app, &sign(&manifest), 422, "min-slot-too-large").await;
}

#[tokio::test]
async fn manifest_and_artifact_must_agree() {
    let app = TestApp::start().await;
    app.create_product("lamp").await;
    let image = image("1.0.0");
    app.upload(&image).await.expect(201);
    let mut chunk = describe(&image, 1, "1");
    chunk.artifact.chunks[2] = Digest([0; 32]);
    let detail = refused(&app, &sign(&chunk), 422, "artifact-mismatch").await;
    assert!(detail.contains("chunk 2"), "{detail}");
    let mut size = describe(&image, 1, "1");
    size.artifact.size_bytes -= 1;
    let detail = refused(&app, &sign(&size), 422, "artifact-mismatch").await;
    assert!(detail.contains(&image.len().to_string()), "{detail}");
}

#[tokio::test]
async fn sequence_numbers_only_rise() {
    let app = TestApp::start().await;
    app.create_product("lamp").await;
    app.release(5, "1.0.0").await;
    let image = image("2");
    app.upload(&image).await.expect(201);
    for found in [5, 4, u64::MAX] {
        let detail = refused(&app, &sign(&describe(&image, found, "2")), 409, "sequence-not-newer").await;
        assert!(detail.contains(&found.to_string()), "{detail}");
    }
    app.publish("lamp", &sign(&describe(&image, 6, "2"))).await.expect(201);
}

#[tokio::test]
async fn keys_can_be_added_later() {
    let app = TestApp::start().await;
    let mut body = crate::app::product_body("lamp");
    body["publisher_keys"] = json!([]);
    app.post("/products", &body).await.expect(201);
    let image = image("1.0.0");
    app.upload(&image).await.expect(201);
    let manifest = sign(&describe(&image, 1, "1"));
    refused(&app, &manifest, 422, "no-publisher-key").await;
    let key = json!({ "name": "alice", "key": hex::encode(publisher().publisher_key().to_sec1()) });
    app.post("/products/lamp/publisher-keys", &key).await.expect(201);
    app.post("/products/lamp/publisher-keys", &key).await.expect(409);
    app.post("/products/lamp/publisher-keys", &json!({ "name": "x", "key": "00" })).await.expect(422);
    app.publish("lamp", &manifest).await.expect(201);
}
