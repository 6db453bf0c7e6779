//! What operators take away: devices, products, tokens, artifacts; and releases that are put away.

use hyper::Method;
use manifest::{Digest, Sequence};
use rustls::pki_types::CertificateDer;
use serde_json::{Value, json};
use server::Clock;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::app::{TestApp, check_in, csr, describe, image, sign};
use crate::client::{Answer, Connection, request};

impl TestApp {
    async fn delete(&self, path: &str) -> Answer {
        self.admin(Method::DELETE, path, "").await
    }

    async fn refused(&self, method: Method, path: &str, status: u16, kind: &str) -> String {
        let problem = self.admin(method, path, "").await.expect(status).json();
        assert_eq!(problem["type"], format!("urn:pitstop:problem:{kind}"), "{problem}");
        problem["detail"].as_str().unwrap().to_owned()
    }

    async fn actions(&self, query: &str) -> Vec<String> {
        let lines = self.get(&format!("/audit?{query}")).await;
        lines["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|line| line["action"].as_str().unwrap().to_owned())
            .collect()
    }
}

async fn with_clock() -> (TestApp, Clock) {
    let clock = Clock::default();
    let app = TestApp::start_with(|config| config.clock = clock.clone()).await;
    (app, clock)
}

fn serial(certificate: &CertificateDer<'_>) -> String {
    let (_, certificate) = X509Certificate::from_der(certificate).unwrap();
    hex::encode(certificate.raw_serial())
}

async fn revoked_serials(app: &TestApp) -> Vec<String> {
    let mut connection = Connection::plain(app.server.admin_addr()).await.unwrap();
    let list = connection.get("/.well-known/pitstop/crl.der", &[]).await.expect(200).body;
    let (_, list) = x509_parser::revocation_list::CertificateRevocationList::from_der(&list).unwrap();
    list.iter_revoked_certificates().map(|revoked| hex::encode(revoked.raw_serial())).collect()
}

#[tokio::test]
async fn a_device_is_deleted_once_it_is_revoked_and_its_certificate_stays_refused() {
    let (app, clock) = with_clock().await;
    let (_, identity) = app.enrolled().await;
    app.connect(Some(&identity)).await.check_in(&check_in(None)).await.expect(200);
    let detail = app.refused(Method::DELETE, "/devices/lamp-1", 409, "device-enrolled").await;
    assert!(detail.contains("revoke it first"), "{detail}");
    app.admin(Method::POST, "/devices/lamp-1/revoke", "").await.expect(200);
    let bearer = format!("Bearer {}", app.token);
    let headers = [("authorization", bearer.as_str()), ("if-match", "\"r1\"")];
    let mut connection = Connection::plain(app.server.admin_addr()).await.unwrap();
    let stale = request(Method::DELETE, "/api/v1/devices/lamp-1", &headers, "");
    connection.send(stale).await.unwrap().expect(412);

    let deleted = app.delete("/devices/lamp-1").await.expect(200).json();
    assert_eq!((&deleted["id"], &deleted["state"]), (&json!("lamp-1"), &json!("revoked")));
    app.delete("/devices/lamp-1").await.expect(404);
    app.connect(Some(&identity)).await.check_in(&check_in(None)).await.expect(403);
    assert_eq!(revoked_serials(&app).await, [serial(&identity.certificate)]);
    assert_eq!(app.actions("subject=lamp-1").await, ["device.delete", "device.revoke", "device.create"]);

    // The id is free, and what the old device has is not the new one's, even where the new one looks older.
    clock.jump_ms(-600_000);
    let device = app.create_device("lamp-1", "lamp").await;
    app.connect(Some(&identity)).await.check_in(&check_in(None)).await.expect(403);
    assert_eq!(app.get("/devices/lamp-1").await["state"], "new");
    assert_eq!(app.get("/devices/lamp-1/events").await["items"].as_array().unwrap().len(), 1);
    let certificate = app.enroll(&device, &csr(&device.key)).await.expect(200).certificate();
    let renewed = device.identity(certificate);
    app.connect(Some(&renewed)).await.check_in(&check_in(None)).await.expect(200);
    app.connect(Some(&identity)).await.check_in(&check_in(None)).await.expect(403);
    // One that was never enrolled goes at once.
    app.create_device("lamp-2", "lamp").await;
    app.delete("/devices/lamp-2").await.expect(200);
}

/// A release of `lamp` whose rollout is completed, and a device that would be offered it.
async fn rolled_out(app: &TestApp, sequence: u64, version: &str) -> Vec<u8> {
    let image = app.release(sequence, version).await;
    let device = app.create_device(&format!("first-{sequence}"), "lamp").await;
    let certificate = app.enroll(&device, &csr(&device.key)).await.expect(200).certificate();
    let mut connection = app.connect(Some(&device.identity(certificate))).await;
    connection.check_in(&check_in(None)).await.expect(200);
    for starts in 2..4 {
        let mut seen = check_in(Some((&image, sequence)));
        seen.starts = starts;
        connection.check_in(&seen).await.expect(200);
    }
    app.until(&format!("/rollouts/ro-lamp-{sequence}"), |rollout| rollout["state"] == "completed").await;
    image
}

#[tokio::test]
async fn an_archived_release_is_offered_to_nobody_until_it_is_taken_out() {
    let app = TestApp::start().await;
    let (_, identity) = app.enrolled().await;
    let image = app.release(1, "2.0.0").await;
    let archive = "/products/lamp/releases/1/archive";
    let detail = app.refused(Method::POST, archive, 409, "rollout-unfinished").await;
    assert!(detail.contains("ro-lamp-1") && detail.contains("abort it first"), "{detail}");
    let mut connection = app.connect(Some(&identity)).await;
    connection.check_in(&check_in(None)).await.expect(200);
    for starts in 2..4 {
        let mut seen = check_in(Some((&image, 1)));
        seen.starts = starts;
        connection.check_in(&seen).await.expect(200);
    }
    app.until("/rollouts/ro-lamp-1", |rollout| rollout["state"] == "completed").await;
    let device = app.create_device("lamp-2", "lamp").await;
    let certificate = app.enroll(&device, &csr(&device.key)).await.expect(200).certificate();
    let mut connection = app.connect(Some(&device.identity(certificate))).await;
    assert!(connection.check_in(&check_in(None)).await.expect(200).decision().manifest.is_some());

    app.change(archive, "\"r99\"").await.expect(412);
    assert_eq!(app.get("/products/lamp/releases/1").await["pinned"], Value::Null);
    app.create_device("lamp-3", "lamp").await;
    app.admin(Method::PATCH, "/devices/lamp-3", json!({ "pinned_sequence": 1 }).to_string())
        .await
        .expect(200);
    let archived = app.admin(Method::POST, archive, "").await.expect(200).json();
    assert_eq!(archived["pinned"], json!(["lamp-3"]));
    assert!(archived["archived_at"].is_string(), "{archived}");
    assert_eq!(app.admin(Method::POST, archive, "").await.expect(200).json(), archived);
    assert!(connection.check_in(&check_in(None)).await.expect(200).decision().manifest.is_none());
    let rollout =
        app.post("/rollouts", &json!({ "product": "lamp", "sequence": 1 })).await.expect(409).json();
    assert_eq!(rollout["type"], "urn:pitstop:problem:release-archived");
    let pin = json!({ "pinned_sequence": 1 }).to_string();
    let refused = app.admin(Method::PATCH, "/devices/lamp-2", pin).await.expect(422).json();
    assert!(refused["detail"].as_str().unwrap().contains("archived"), "{refused}");

    let taken_out =
        app.admin(Method::POST, "/products/lamp/releases/1/unarchive", "").await.expect(200).json();
    assert_eq!(taken_out["archived_at"], Value::Null);
    assert!(connection.check_in(&check_in(None)).await.expect(200).decision().manifest.is_some());
    assert_eq!(
        app.actions("kind=release").await,
        ["release.unarchive", "release.archive", "release.publish"]
    );
}

#[tokio::test]
async fn what_newer_releases_need_is_not_archived_before_them() {
    let app = TestApp::start().await;
    app.create_product("lamp").await;
    rolled_out(&app, 1, "9.0.0").await;
    let image = image("2.0.0");
    app.upload(&image).await.expect(201);
    let mut manifest = describe(&image, 2, "2.0.0");
    manifest.revert_to = Some(vec![Sequence(1)]);
    let published = app.publish("lamp", &sign(&manifest)).await.expect(201).json();
    let is_lower = |published: &Value| published["warnings"].to_string().contains("9.0.0");
    assert!(is_lower(&published), "{published}");
    let archive = async |sequence: i64| {
        app.admin(Method::POST, &format!("/products/lamp/releases/{sequence}/archive"), "").await
    };
    let problem = archive(1).await.expect(409).json();
    assert_eq!(problem["type"], "urn:pitstop:problem:release-needed");
    assert!(problem["detail"].as_str().unwrap().contains("release 2"), "{problem}");
    app.admin(Method::POST, "/rollouts/ro-lamp-2/abort", "").await.expect(200);
    archive(2).await.expect(200);
    archive(1).await.expect(200);
    let problem = app.admin(Method::POST, "/products/lamp/releases/2/unarchive", "").await.expect(409).json();
    assert_eq!(problem["type"], "urn:pitstop:problem:release-archived");
    assert!(problem["detail"].as_str().unwrap().contains("release 1"), "{problem}");

    // No channel's newest, and nothing that a new release may name.
    let image = crate::app::image("3.0.0");
    app.upload(&image).await.expect(201);
    let manifest =
        base64::Engine::encode(&base64::prelude::BASE64_STANDARD, sign(&describe(&image, 3, "3.0.0")));
    let body = json!({ "manifest": manifest, "requires": 1 });
    let problem = app.post("/products/lamp/releases", &body).await.expect(409).json();
    assert_eq!(problem["type"], "urn:pitstop:problem:release-archived");
    let published =
        app.post("/products/lamp/releases", &json!({ "manifest": manifest })).await.expect(201).json();
    assert!(!is_lower(&published), "{published}");
}

const DAY_MS: i64 = 24 * 3_600_000;

#[tokio::test]
async fn an_artifact_that_no_release_has_is_deleted_a_day_after_its_upload() {
    let (app, clock) = with_clock().await;
    app.create_product("lamp").await;
    let used = app.release(1, "1.0.0").await;
    let path = format!("/artifacts/{}?product=lamp", Digest::of(b"spare"));
    let spare = format!("/artifacts/{}", Digest::of(b"spare"));
    app.admin(Method::PUT, &path, "spare").await.expect(201);
    let unused = app.get("/artifacts?unused=true").await["items"].clone();
    assert_eq!(
        (unused.as_array().unwrap().len(), &unused[0]["size_bytes"], &unused[0]["product"]),
        (1, &json!(5), &json!("lamp"))
    );
    assert_eq!(app.get("/artifacts").await["items"].as_array().unwrap().len(), 2);
    app.refused(Method::DELETE, &spare, 409, "artifact-young").await;
    clock.advance_ms(DAY_MS + 1);
    let used_path = format!("/artifacts/{}", Digest::of(&used));
    let detail = app.refused(Method::DELETE, &used_path, 409, "artifact-used").await;
    assert!(detail.contains("release 1 of product lamp"), "{detail}");
    // Whoever uploads it again has a day to publish it.
    app.admin(Method::PUT, &path, "spare").await.expect(200);
    app.refused(Method::DELETE, &spare, 409, "artifact-young").await;
    clock.advance_ms(DAY_MS + 1);
    app.delete(&spare).await.expect(200);
    app.delete(&spare).await.expect(404);
    assert_eq!(app.dir.stored_artifacts().await, [(Digest::of(&used).to_string(), Digest::of(&used))]);
    assert_eq!(app.actions("kind=artifact&limit=1").await, ["artifact.delete"]);
    let quota = app.get("/products/lamp").await["artifact_bytes"].clone();
    assert_eq!(quota, used.len());
}

#[tokio::test]
async fn a_deletion_that_was_broken_off_lets_nobody_take_the_artifact_and_is_begun_again() {
    let (app, clock) = with_clock().await;
    app.create_product("lamp").await;
    let image = image("1.0.0");
    let path = format!("/artifacts/{}", Digest::of(&image));
    app.upload(&image).await.expect(201);
    let mut database = app.dir.connect().await;
    let now_ms = i64::try_from(std::time::UNIX_EPOCH.elapsed().unwrap().as_millis()).unwrap();
    sqlx::query("UPDATE artifacts SET deleting_at_ms = $1")
        .bind(now_ms)
        .execute(&mut database)
        .await
        .unwrap();
    drop(database);
    let problem = app.upload(&image).await.expect(503).json();
    assert_eq!(problem["type"], "urn:pitstop:problem:artifact-deleting");
    let problem = app.publish("lamp", &sign(&describe(&image, 1, "1.0.0"))).await.expect(422).json();
    assert_eq!(problem["type"], "urn:pitstop:problem:artifact-missing");
    app.refused(Method::DELETE, &path, 503, "artifact-deleting").await;
    clock.advance_ms(11 * 60_000);
    app.delete(&path).await.expect(200);
    app.upload(&image).await.expect(201);
    app.publish("lamp", &sign(&describe(&image, 1, "1.0.0"))).await.expect(201);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_beside_a_deletion_is_there_when_it_is_said_to_be() {
    let (app, clock) = with_clock().await;
    app.create_product("lamp").await;
    let mut both = [0, 0];
    for round in 0..40 {
        let content = format!("artifact {round}");
        let path = format!("/artifacts/{}", Digest::of(content.as_bytes()));
        app.admin(Method::PUT, &path, content.clone()).await.expect(201);
        clock.advance_ms(DAY_MS + 1);
        let (upload, deletion) = tokio::join!(
            app.admin(Method::PUT, &path, content.clone()),
            app.admin(Method::DELETE, &path, "")
        );
        let (uploaded, deleted) = (upload.status.is_success(), deletion.status.is_success());
        both = [both[0] + i32::from(uploaded), both[1] + i32::from(deleted)];
        assert!(uploaded || deleted, "{upload:?} {deletion:?}");
        let is_stored =
            app.dir.stored_artifacts().await.iter().any(|(name, _)| path.ends_with(name.as_str()));
        let is_noted =
            app.get("/artifacts?limit=1000").await.to_string().contains(path.rsplit('/').next().unwrap());
        assert!(
            !uploaded || (is_stored && is_noted),
            "{round}: {is_stored} {is_noted} {upload:?} {deletion:?}"
        );
    }
    println!("{} uploads, {} deletions", both[0], both[1]);
}

#[tokio::test]
async fn a_product_without_devices_and_releases_goes_with_all_that_is_its() {
    let (app, _) = with_clock().await;
    let (_, identity) = app.enrolled().await;
    // The server knows the product at a generation that a new one has not.
    for count in 1..5 {
        let body = json!({ "quarantine_after": count }).to_string();
        app.admin(Method::PATCH, "/products/lamp", body).await.expect(200);
    }
    app.connect(Some(&identity)).await.check_in(&check_in(None)).await.expect(200);
    let body = json!({ "name": "ci", "role": "viewer", "product": "lamp" });
    let token = app.post("/tokens", &body).await.expect(201).json()["token"].as_str().unwrap().to_owned();
    app.with_token(&token, Method::POST, "/sessions", "").await.expect(201);
    app.post("/webhooks", &json!({ "url": "http://127.0.0.1:9/", "product": "lamp" })).await.expect(201);
    app.admin(Method::PUT, &format!("/artifacts/{}?product=lamp", Digest::of(b"x")), "x").await.expect(201);
    let detail = app.refused(Method::DELETE, "/products/lamp", 409, "product-in-use").await;
    assert!(detail.contains("1 device and 0 releases"), "{detail}");
    app.admin(Method::POST, "/devices/lamp-1/revoke", "").await.expect(200);
    app.delete("/devices/lamp-1").await.expect(200);
    app.delete("/products/lamp").await.expect(200);
    app.delete("/products/lamp").await.expect(404);
    app.with_token(&token, Method::GET, "/whoami", "").await.expect(401);
    assert_eq!(app.get("/webhooks").await["items"], json!([]));
    assert_eq!(app.get("/artifacts").await["items"][0]["product"], Value::Null);
    let line = &app.get("/audit?kind=product&limit=1").await["items"][0];
    assert_eq!(
        (&line["action"], line["before"]["tokens"].as_array().unwrap().len()),
        (&json!("product.delete"), 1)
    );

    app.create_product("lamp").await;
    let device = app.create_device("lamp-2", "lamp").await;
    let certificate = app.enroll(&device, &csr(&device.key)).await.expect(200).certificate();
    app.release(1, "1.0.0").await;
    let mut connection = app.connect(Some(&device.identity(certificate))).await;
    assert!(connection.check_in(&check_in(None)).await.expect(200).decision().manifest.is_some());
    let detail = app.refused(Method::DELETE, "/products/lamp", 409, "product-in-use").await;
    assert!(detail.contains("1 device and 1 release"), "{detail}");
}

#[tokio::test]
async fn a_token_is_deleted_once_it_is_good_no_longer() {
    let (app, clock) = with_clock().await;
    let make = async |body: Value| {
        app.post("/tokens", &body).await.expect(201).json()["id"].as_str().unwrap().to_owned()
    };
    let revoked = make(json!({ "name": "ann", "role": "viewer" })).await;
    let soon = time::OffsetDateTime::now_utc() + time::Duration::hours(1);
    let soon = soon.format(&time::format_description::well_known::Rfc3339).unwrap();
    let expired = make(json!({ "name": "ben", "role": "viewer", "expires_at": soon })).await;
    for id in [&revoked, &expired] {
        let detail = app.refused(Method::DELETE, &format!("/tokens/{id}"), 409, "token-good").await;
        assert!(detail.contains("revoke it first"), "{detail}");
    }
    app.admin(Method::POST, &format!("/tokens/{revoked}/revoke"), "").await.expect(200);
    clock.advance_ms(2 * 3_600_000);
    for id in [&revoked, &expired] {
        app.delete(&format!("/tokens/{id}")).await.expect(200);
        app.delete(&format!("/tokens/{id}")).await.expect(404);
    }
    assert_eq!(app.get("/tokens").await["items"].as_array().unwrap().len(), 1);
    assert_eq!(
        app.actions(&format!("subject={revoked}")).await,
        ["token.delete", "token.revoke", "token.create"]
    );
}
