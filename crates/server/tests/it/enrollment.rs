//! EST: who gets a certificate, and for what.

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hyper::Method;
use rcgen::{CertificateParams, DnType, KeyPair, PKCS_ECDSA_P384_SHA384};
use serde_json::{Value, json};
use server::Clock;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::app::{TestApp, check_in, csr, new_key};
use crate::client::{Connection, request};

const ENROLL: &str = "/.well-known/est/simpleenroll";
const REENROLL: &str = "/.well-known/est/simplereenroll";

#[tokio::test]
async fn the_server_says_who_a_device_is_not_the_csr() {
    let app = TestApp::start().await;
    app.create_product("lamp").await;
    let device = app.create_device("lamp-1", "lamp").await;
    let mut params = CertificateParams::new(vec!["evil.example".to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, "lamp-2");
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let csr = params.serialize_request(&device.key).unwrap().der().to_vec();
    let answer = app.enroll(&device, &csr).await.expect(200);
    assert_eq!(answer.header("content-type"), "application/pkcs7-mime; smime-type=certs-only");
    let der = answer.certificate();

    let (_, certificate) = X509Certificate::from_der(&der).unwrap();
    assert_eq!(certificate.subject().to_string(), "OU=lamp, CN=lamp-1");
    assert!(!certificate.is_ca());
    assert!(certificate.subject_alternative_name().unwrap().is_none());
    let usage = certificate.extended_key_usage().unwrap().unwrap().value;
    assert!(usage.client_auth && !usage.server_auth && !usage.any);
    assert_eq!(certificate.public_key().subject_public_key.data.as_ref(), device.key.public_key_raw());
    assert_eq!(certificate.raw_serial().len(), 16);
    let days = (certificate.validity().not_after.timestamp() - certificate.validity().not_before.timestamp())
        / 86_400;
    assert_eq!(days, 366, "365 days and one before");

    let shown = app.get("/devices/lamp-1").await;
    assert_eq!(shown["state"], "enrolled");
    assert_eq!(shown["certificate"]["serial"], hex::encode(certificate.raw_serial()));
}

#[tokio::test]
async fn cacerts_and_csrattrs_need_no_identity() {
    let app = TestApp::start().await;
    let mut connection = app.connect(None).await;
    let answer = connection.get("/.well-known/est/cacerts", &[]).await.expect(200);
    // RFC 7030 section 4.1.3; a certificate is told with its type (section 4.2.3).
    assert_eq!(answer.header("content-type"), "application/pkcs7-mime");
    assert_eq!(answer.certificate().as_ref(), app.server.ca_certificate_der());
    connection.get("/.well-known/est/csrattrs", &[]).await.expect(204);
}

#[tokio::test]
async fn bodies_come_with_and_without_line_breaks() {
    let app = TestApp::start().await;
    app.create_product("lamp").await;
    let device = app.create_device("lamp-1", "lamp").await;
    let plain = BASE64_STANDARD.encode(csr(&device.key));
    for separator in ["", "\n", "\r\n"] {
        let lines: Vec<_> =
            plain.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
        let body = lines.join(separator) + separator;
        app.enroll_as(&device.id, &device.token, body).await.expect(200);
    }
}

#[tokio::test]
async fn a_lost_answer_can_be_asked_for_again_until_the_first_check_in() {
    let app = TestApp::start().await;
    app.create_product("lamp").await;
    let device = app.create_device("lamp-1", "lamp").await;
    app.enroll(&device, &csr(&device.key)).await.expect(200);

    let stranger = app.enroll(&device, &csr(&new_key())).await.expect(401);
    assert!(stranger.text().contains("already used"), "{}", stranger.text());
    assert!(stranger.header("www-authenticate").starts_with("Basic realm="));

    let der = app.enroll(&device, &csr(&device.key)).await.expect(200).certificate();
    let identity = device.identity(der);
    app.connect(Some(&identity)).await.check_in(&check_in(None)).await.expect(200);

    let late = app.enroll(&device, &csr(&device.key)).await.expect(401);
    assert!(late.text().contains("already used"), "{}", late.text());

    let events = app.get("/devices/lamp-1/events").await;
    let kinds: Vec<_> =
        events["items"].as_array().unwrap().iter().map(|event| event["kind"].clone()).collect();
    assert_eq!(kinds, ["check-in", "enrolled-again", "enrollment-refused", "enrolled", "created"]);
}

/// Somebody with a device's token cannot fill the database with certificates before the first check-in.
#[tokio::test]
async fn an_enrollment_that_is_asked_for_again_gets_the_same_certificate_for_a_day() {
    let clock = Clock::default();
    let app = TestApp::start_with(|config| config.clock = clock.clone()).await;
    app.create_product("lamp").await;
    let device = app.create_device("lamp-1", "lamp").await;
    let first = app.enroll(&device, &csr(&device.key)).await.expect(200).certificate();
    for _ in 0..20 {
        let again = app.enroll(&device, &csr(&device.key)).await.expect(200).certificate();
        assert_eq!(again, first);
    }
    let mut database = app.dir.connect().await;
    let certificates: i64 = sqlx::query_scalar("SELECT CAST(COUNT(*) AS BIGINT) FROM certificates")
        .fetch_one(&mut database)
        .await
        .unwrap();
    assert_eq!(certificates, 1);
    // Next day it is another one, with a life of its own.
    clock.advance_ms(24 * 3_600_000 + 1);
    let next = app.enroll(&device, &csr(&device.key)).await.expect(200).certificate();
    assert_ne!(next, first);
    app.connect(Some(&device.identity(first))).await.check_in(&check_in(None)).await.expect(403);
    app.connect(Some(&device.identity(next))).await.check_in(&check_in(None)).await.expect(200);
}

#[tokio::test]
async fn a_short_certificate_is_not_given_again_when_most_of_it_is_over() {
    let clock = Clock::default();
    let change = |config: &mut server::Config| {
        config.clock = clock.clone();
        config.device_certificate_days = 1;
    };
    let app = TestApp::start_with(change).await;
    app.create_product("lamp").await;
    let device = app.create_device("lamp-1", "lamp").await;
    let first = app.enroll(&device, &csr(&device.key)).await.expect(200).certificate();
    clock.advance_ms(11 * 3_600_000);
    assert_eq!(app.enroll(&device, &csr(&device.key)).await.expect(200).certificate(), first);
    clock.advance_ms(2 * 3_600_000);
    assert_ne!(app.enroll(&device, &csr(&device.key)).await.expect(200).certificate(), first);
}

#[tokio::test]
async fn of_two_keys_at_once_one_wins() {
    let app = TestApp::start().await;
    app.create_product("lamp").await;
    let device = app.create_device("lamp-1", "lamp").await;
    let csrs: Vec<_> = (0..8).map(|_| csr(&new_key())).collect();
    let mut statuses = Vec::new();
    let answers = csrs.iter().map(|csr| app.enroll(&device, csr));
    for answer in futures_join(answers).await {
        statuses.push(answer.status.as_u16());
    }
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 401, 401, 401, 401, 401, 401, 401]);
}

/// Polls all at once.
async fn futures_join<F: Future>(futures: impl Iterator<Item = F>) -> Vec<F::Output> {
    use std::task::Poll;

    let mut waiting: Vec<_> = futures.map(|future| (Box::pin(future), None)).collect();
    std::future::poll_fn(|context| {
        for (future, output) in &mut waiting {
            if output.is_none()
                && let Poll::Ready(value) = future.as_mut().poll(context)
            {
                *output = Some(value);
            }
        }
        if waiting.iter().all(|(_, output)| output.is_some()) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    waiting.into_iter().filter_map(|(_, output)| output).collect()
}

#[tokio::test]
async fn wrong_credentials_look_all_the_same() {
    let app = TestApp::start().await;
    app.create_product("lamp").await;
    let device = app.create_device("lamp-1", "lamp").await;
    let body = BASE64_STANDARD.encode(csr(&device.key));
    let wrong_token = app.enroll_as("lamp-1", "wrong", body.clone()).await.expect(401);
    let unknown = app.enroll_as("lamp-9", &device.token, body.clone()).await.expect(401);
    assert_eq!(wrong_token.text(), unknown.text());
    let headers = [("content-type", "application/pkcs10")];
    let none = app.connect(None).await.send(request(Method::POST, ENROLL, &headers, body)).await.unwrap();
    let none = none.expect(401);
    assert!(none.header("www-authenticate").starts_with("Basic realm="));
    app.enroll(&device, &csr(&device.key)).await.expect(200);
}

/// Trying tokens out takes its time, whoever else guesses; more than so many at once are not even looked at for long.
#[tokio::test]
async fn guesses_take_their_time_on_both_listeners() {
    let app = TestApp::start().await;
    app.create_product("lamp").await;
    app.create_device("lamp-1", "lamp").await;
    // Nor does the time tell which devices there are.
    for id in ["lamp-1", "lamp-9"] {
        let started = Instant::now();
        app.enroll_as(id, "wrong", "").await.expect(401);
        assert!(started.elapsed() >= Duration::from_millis(300), "{id}: {:?}", started.elapsed());
    }
    let started = Instant::now();
    let guess = async || {
        let mut connection = Connection::plain(app.server.admin_addr()).await.unwrap();
        connection.get("/api/v1/whoami", &[("authorization", "Bearer wrong")]).await
    };
    guess().await.expect(401);
    assert!(started.elapsed() >= Duration::from_millis(300), "{:?}", started.elapsed());

    let answers = futures_join((0..100).map(|_| guess())).await;
    let refused: Vec<_> = answers.iter().filter(|answer| answer.status == 429).collect();
    assert!((1..=36).contains(&refused.len()), "{}", refused.len());
    assert!(refused.iter().all(|answer| !answer.header("retry-after").is_empty()));
    assert!(answers.iter().all(|answer| matches!(answer.status.as_u16(), 401 | 429)));
    app.get("/whoami").await;
    let mut connection = Connection::plain(app.server.admin_addr()).await.unwrap();
    let metrics = connection.get("/metrics", &[]).await.expect(200);
    for line in [
        "pitstop_wrong_credentials_total{listener=\"device\"} 2",
        "pitstop_wrong_credentials_total{listener=\"admin\"} 101",
    ] {
        assert!(metrics.text().lines().any(|found| found == line), "{line} in {}", metrics.text());
    }
}

#[tokio::test]
async fn bad_requests_leave_the_token_unused() {
    let app = TestApp::start().await;
    app.create_product("lamp").await;
    let device = app.create_device("lamp-1", "lamp").await;
    let mut forged = csr(&device.key);
    let last = forged.len() - 1;
    forged[last] ^= 1;
    let answer = app.enroll(&device, &forged).await.expect(400);
    assert!(answer.text().contains("not signed by its own key"), "{}", answer.text());
    let p384 = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap();
    let answer = app.enroll(&device, &csr(&p384)).await.expect(400);
    assert!(answer.text().contains("P-256"), "{}", answer.text());
    app.enroll_as(&device.id, &device.token, "@@@").await.expect(400);
    app.enroll_as(&device.id, &device.token, "A".repeat(9000)).await.expect(413);
    let basic = format!("Basic {}", BASE64_STANDARD.encode(format!("{}:{}", device.id, device.token)));
    let headers = [("authorization", basic.as_str()), ("content-type", "application/json")];
    let wrong_type = request(Method::POST, ENROLL, &headers, BASE64_STANDARD.encode(csr(&device.key)));
    app.connect(None).await.send(wrong_type).await.unwrap().expect(415);
    app.enroll(&device, &csr(&device.key)).await.expect(200);
}

#[tokio::test]
async fn renewal_keeps_the_old_certificate_until_the_new_one_is_used() {
    let app = TestApp::start().await;
    let (device, old) = app.enrolled().await;
    let mut connection = app.connect(Some(&old)).await;
    connection.check_in(&check_in(None)).await.expect(200);
    let new_key = new_key();
    let forged = {
        let mut forged = csr(&new_key);
        let last = forged.len() - 1;
        forged[last] ^= 1;
        forged
    };
    connection.post(REENROLL, "application/pkcs10", BASE64_STANDARD.encode(forged)).await.expect(400);
    // The first answer is lost: the device asks again with the old certificate.
    for _ in 0..2 {
        connection
            .post(REENROLL, "application/pkcs10", BASE64_STANDARD.encode(csr(&new_key)))
            .await
            .expect(200);
    }
    let body = BASE64_STANDARD.encode(csr(&new_key));
    let der = connection.post(REENROLL, "application/pkcs10", body).await.expect(200).certificate();
    let (_, certificate) = X509Certificate::from_der(&der).unwrap();
    assert_eq!(certificate.subject().to_string(), "OU=lamp, CN=lamp-1");
    connection.check_in(&check_in(None)).await.expect(200);

    let new = crate::client::Identity { certificate: der.clone(), key_der: new_key.serialize_der() };
    app.connect(Some(&new)).await.check_in(&check_in(None)).await.expect(200);
    let refused = connection.check_in(&check_in(None)).await.expect(403);
    assert!(refused.text().contains("replaced"), "{}", refused.text());
    let mut nobody = app.connect(None).await;
    nobody.post(REENROLL, "application/pkcs10", BASE64_STANDARD.encode(csr(&device.key))).await.expect(401);
}

/// Somebody with a device's key cannot fill the database with certificates, nor spoil the one that the device has.
#[tokio::test]
async fn a_device_renews_so_often_in_a_day_and_keeps_what_it_has() {
    let clock = Clock::default();
    let app = TestApp::start_with(|config| config.clock = clock.clone()).await;
    let (device, identity) = app.enrolled().await;
    let mut connection = app.connect(Some(&identity)).await;
    let body = || BASE64_STANDARD.encode(csr(&device.key));
    clock.advance_ms(1000);
    for _ in 0..8 {
        connection.post(REENROLL, "application/pkcs10", body()).await.expect(200);
    }
    let answer = connection.post(REENROLL, "application/pkcs10", body()).await.expect(429);
    assert_eq!(answer.header("retry-after"), "3600");
    assert!(answer.text().starts_with("too many renewals within 24 h"), "{}", answer.text());
    let mut connection = app.connect(Some(&identity)).await;
    connection.check_in(&check_in(None)).await.expect(200);
    clock.advance_ms(24 * 3_600_000);
    connection.post(REENROLL, "application/pkcs10", body()).await.expect(200);
}

#[tokio::test]
async fn a_new_token_voids_the_old_one_and_its_certificate() {
    let app = TestApp::start().await;
    let (mut device, old) = app.enrolled().await;
    let first_token = device.token.clone();
    let answer = app.post("/devices/lamp-1/enrollment-token", &json!({})).await.expect(201).json();
    device.token = answer["enrollment_token"].as_str().unwrap().to_owned();
    // The device that is still out there checks in, which must not use up the new token.
    app.connect(Some(&old)).await.check_in(&check_in(None)).await.expect(200);
    app.enroll_as("lamp-1", &first_token, BASE64_STANDARD.encode(csr(&device.key))).await.expect(401);
    device.key = new_key();
    let der = app.enroll(&device, &csr(&device.key)).await.expect(200).certificate();
    app.connect(Some(&old)).await.check_in(&check_in(None)).await.expect(403);
    app.connect(Some(&device.identity(der))).await.check_in(&check_in(None)).await.expect(200);
}

/// A device that renewed before it lost its flash shows its new certificate once the operator has made a new token.
#[tokio::test]
async fn a_renewed_certificate_uses_up_no_new_token() {
    let app = TestApp::start().await;
    let (mut device, old) = app.enrolled().await;
    let mut connection = app.connect(Some(&old)).await;
    connection.check_in(&check_in(None)).await.expect(200);
    let body = BASE64_STANDARD.encode(csr(&device.key));
    let renewed = connection.post(REENROLL, "application/pkcs10", body).await.expect(200).certificate();
    let answer = app.post("/devices/lamp-1/enrollment-token", &json!({})).await.expect(201).json();
    device.token = answer["enrollment_token"].as_str().unwrap().to_owned();
    app.connect(Some(&device.identity(renewed))).await.check_in(&check_in(None)).await.expect(200);
    device.key = new_key();
    app.enroll(&device, &csr(&device.key)).await.expect(200);
}

#[tokio::test]
async fn a_revoked_device_gets_no_certificate() {
    let app = TestApp::start().await;
    let (device, identity) = app.enrolled().await;
    app.post("/devices/lamp-1/revoke", &json!({ "reason": "stolen" })).await.expect(200);
    let answer = app.enroll(&device, &csr(&device.key)).await.expect(403);
    assert_eq!(answer.text(), "this device is revoked or suspended\n", "the reason is the operator's");
    let mut connection = app.connect(Some(&identity)).await;
    let body = BASE64_STANDARD.encode(csr(&device.key));
    connection.post(REENROLL, "application/pkcs10", body).await.expect(403);
    let answer = app.post("/devices/lamp-1/enrollment-token", &json!({})).await.expect(409).json();
    assert_eq!(answer["type"], "urn:pitstop:problem:device-revoked");
}

/// RFC 7030 section 4.2.3: 202 and when to ask again, for the one key that asked first.
#[tokio::test]
async fn an_enrollment_waits_for_approval_where_the_product_asks_for_it() {
    let app = TestApp::start().await;
    app.create_product("lamp").await;
    app.admin(Method::PATCH, "/products/lamp", json!({ "enrollment_approval": true }).to_string())
        .await
        .expect(200);
    let device = app.create_device("lamp-1", "lamp").await;
    for _ in 0..2 {
        let answer = app.enroll(&device, &csr(&device.key)).await.expect(202);
        let retry_after_s: u64 = answer.header("retry-after").parse().unwrap();
        assert!((60..=120).contains(&retry_after_s), "{retry_after_s}");
    }
    let events = app.get("/devices/lamp-1/events").await;
    let kinds: Vec<_> =
        events["items"].as_array().unwrap().iter().map(|event| event["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds.iter().filter(|kind| **kind == "enrollment-pending").count(), 1, "{kinds:?}");
    app.create_device("lamp-2", "lamp").await;
    let waiting = async || {
        let page = app.get("/devices?waiting=true&total=true").await;
        (page["items"][0]["id"].clone(), page["total"]["count"].clone())
    };
    assert_eq!(waiting().await, (json!("lamp-1"), json!(1)), "lamp-2 did not ask yet");
    assert!(app.get("/devices/lamp-1").await["waiting_since"].is_string());
    // What is approved is the key that asked: another one with the same token is turned away, before and after.
    app.enroll(&device, &csr(&new_key())).await.expect(401);
    app.post("/devices/lamp-1/approve", &json!({})).await.expect(200);
    assert_eq!(waiting().await, (Value::Null, json!(0)));
    assert_eq!(app.get("/devices/lamp-1").await["waiting_since"], Value::Null);
    app.enroll(&device, &csr(&new_key())).await.expect(401);

    let certificate = app.enroll(&device, &csr(&device.key)).await.expect(200).certificate();
    let identity = device.identity(certificate);
    // The answer may be lost as with any enrollment.
    let again = app.enroll(&device, &csr(&device.key)).await.expect(200).certificate();
    assert_eq!(again, identity.certificate);
    app.connect(Some(&identity)).await.check_in(&check_in(None)).await.expect(200);
    // A renewal is no enrollment.
    app.enroll(&device, &csr(&device.key)).await.expect(401);
}
