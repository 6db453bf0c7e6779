//! Devices of a product that asks for new keys: what they are told, and which certificates are good meanwhile.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hyper::Method;
use rcgen::KeyPair;
use serde_json::json;

use crate::app::{TestApp, check_in, csr, new_key, product_body};
use crate::client::{Connection, Identity};

const REENROLL: &str = "/.well-known/est/simplereenroll";

async fn renew(connection: &mut Connection, key: &KeyPair) -> Identity {
    let body = BASE64_STANDARD.encode(csr(key));
    let certificate = connection.post(REENROLL, "application/pkcs10", body).await.expect(200).certificate();
    Identity { certificate, key_der: key.serialize_der() }
}

#[tokio::test]
async fn devices_are_told_of_new_keys_while_their_product_asks_for_them() {
    let app = TestApp::start().await;
    let (_, identity) = app.enrolled().await;
    let mut connection = app.connect(Some(&identity)).await;
    let before = connection.check_in(&check_in(None)).await.expect(200);
    assert_eq!(before.decision().rotate_key, None);
    assert_eq!(app.get("/products/lamp").await["rotate_keys"], false);
    for (rotate_keys, hint, more_bytes) in [(true, Some(true), 2), (false, None, 0)] {
        let body = json!({ "rotate_keys": rotate_keys });
        let product = app.admin(Method::PATCH, "/products/lamp", body.to_string()).await.expect(200).json();
        assert_eq!(product["rotate_keys"], rotate_keys);
        let line = app.get("/audit?limit=1&product=lamp").await["items"][0].clone();
        assert_eq!((&line["before"], &line["after"]), (&json!({ "rotate_keys": !rotate_keys }), &body));
        let answer = connection.check_in(&check_in(None)).await.expect(200);
        assert_eq!(answer.decision().rotate_key, hint);
        assert_eq!(answer.body.len(), before.body.len() + more_bytes);
        assert_eq!(answer.decision().renew, None, "nobody is to renew for it");
    }
    let mut body = product_body("spot");
    body["rotate_keys"] = true.into();
    assert_eq!(app.post("/products", &body).await.expect(201).json()["rotate_keys"], true);
    assert_eq!(app.get("/products/spot").await["rotate_keys"], true);
}

/// The answer with the first new key is lost, and the server is stopped before the device comes with the second.
#[tokio::test]
async fn the_old_certificate_is_good_until_one_for_a_new_key_was_seen() {
    let mut app = TestApp::start().await;
    let (_, old) = app.enrolled().await;
    let (lost_key, next_key) = (new_key(), new_key());
    let mut connection = app.connect(Some(&old)).await;
    let lost = renew(&mut connection, &lost_key).await;
    app = app.restart().await;
    let mut connection = app.connect(Some(&old)).await;
    connection.check_in(&check_in(None)).await.expect(200);
    let next = renew(&mut connection, &next_key).await;
    app = app.restart().await;
    let mut connection = app.connect(Some(&old)).await;
    connection.check_in(&check_in(None)).await.expect(200);

    app.connect(Some(&next)).await.check_in(&check_in(None)).await.expect(200);
    for refused in [&old, &lost] {
        let answer = app.connect(Some(refused)).await.check_in(&check_in(None)).await.expect(403);
        assert!(answer.text().contains("replaced"), "{}", answer.text());
        let body = BASE64_STANDARD.encode(csr(&next_key));
        let mut connection = app.connect(Some(refused)).await;
        connection.post(REENROLL, "application/pkcs10", body).await.expect(403);
    }
    connection.check_in(&check_in(None)).await.expect(403);
    app.connect(Some(&next)).await.check_in(&check_in(None)).await.expect(200);
}
