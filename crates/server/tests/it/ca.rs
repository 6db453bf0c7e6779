//! One CA takes the other's place, and what is revoked is told.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rustls::pki_types::CertificateDer;
use serde_json::{Value, json};
use server::Clock;
use wire::CheckIn;
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::revocation_list::CertificateRevocationList;

use crate::app::{TestApp, check_in, csr};
use crate::client::{Answer, Connection, Identity, request};

const CACERTS: &str = "/.well-known/est/cacerts";
const REENROLL: &str = "/.well-known/est/simplereenroll";

async fn connect(app: &TestApp, anchor: &CertificateDer<'_>, identity: Option<&Identity>) -> Connection {
    Connection::tls(app.device_addr(), anchor, identity).await.unwrap()
}

async fn is_refused(app: &TestApp, anchor: &CertificateDer<'_>, identity: Option<&Identity>) -> bool {
    match Connection::tls(app.device_addr(), anchor, identity).await {
        Err(_) => true,
        // With TLS 1.3 the client is through before the server has judged it.
        Ok(mut connection) => connection.send(request(hyper::Method::GET, CACERTS, &[], "")).await.is_err(),
    }
}

fn says(anchors: &[&CertificateDer<'_>]) -> CheckIn {
    let digest = wire::anchors_digest(anchors.iter().map(|anchor| anchor.as_ref()));
    CheckIn { anchors: Some(digest), ..check_in(None) }
}

async fn step(app: &TestApp, step: &str) -> Answer {
    app.post(&format!("/ca/rollover/{step}"), &json!({})).await
}

#[tokio::test]
async fn one_ca_takes_the_place_of_the_other_and_leaves_nobody_behind() {
    let app = TestApp::start().await;
    let (device, old_identity) = app.enrolled().await;
    let old = CertificateDer::from(app.server.ca_certificate_der().to_vec());
    let decision = connect(&app, &old, Some(&old_identity)).await.check_in(&says(&[&old])).await.decision();
    assert_eq!((decision.anchors, decision.renew), (None, None), "nothing is announced without a rollover");
    for too_early in ["switch", "finish"] {
        let problem = step(&app, too_early).await.expect(409).json();
        assert_eq!(problem["type"], "urn:pitstop:problem:rollover-phase");
    }

    // Begin: two anchors, and certificates of the new CA.
    let ca = step(&app, "begin").await.expect(200).json();
    assert_eq!((&ca["phase"], ca["anchors"].as_array().unwrap().len()), (&json!("begun"), 2));
    step(&app, "begin").await.expect(409);
    let anchors = connect(&app, &old, None).await.get(CACERTS, &[]).await.expect(200).certificates();
    let [new] = anchors.iter().filter(|anchor| **anchor != old).collect::<Vec<_>>()[..] else {
        panic!("{} anchors", anchors.len())
    };
    let decision = connect(&app, &old, Some(&old_identity)).await.check_in(&says(&[&old])).await.decision();
    assert_eq!((decision.anchors, decision.renew), (says(&[&old, new]).anchors, Some(true)));
    let problem = step(&app, "switch").await.expect(409).json();
    assert_eq!(problem["type"], "urn:pitstop:problem:devices-behind");
    assert!(problem["detail"].as_str().unwrap().contains("(lamp-1)"), "{problem}");

    let mut connection = connect(&app, &old, Some(&old_identity)).await;
    connection.check_in(&says(&[&old, new])).await.expect(200);
    let ca = step(&app, "switch").await.expect(200).json();
    assert_eq!(
        ca["behind"],
        json!({
            "without_new_anchor": 0, "with_old_certificate": 1, "examples": [], "suspended": 0, "suspended_examples": [],
            "ended": 0, "ended_examples": [],
        })
    );

    // Switched: the server is of the new CA, clients of both are let in.
    assert!(is_refused(&app, &old, Some(&old_identity)).await);
    let mut connection = connect(&app, new, Some(&old_identity)).await;
    let problem = step(&app, "finish").await.expect(409).json();
    assert!(
        problem["detail"].as_str().unwrap().starts_with("1 device with a certificate of the old CA would")
    );
    let body = BASE64_STANDARD.encode(csr(&device.key));
    let certificate = connection.post(REENROLL, "application/pkcs10", body).await.expect(200).certificate();
    let (_, new_ca) = X509Certificate::from_der(new).unwrap();
    let (_, leaf) = X509Certificate::from_der(&certificate).unwrap();
    leaf.verify_signature(Some(new_ca.public_key())).unwrap();
    step(&app, "finish").await.expect(409);
    let new_identity = device.identity(certificate.clone());
    let mut connection = connect(&app, new, Some(&new_identity)).await;
    let decision = connection.check_in(&says(&[&old, new])).await.expect(200).decision();
    assert_eq!(decision.renew, None);

    // Finished: the old CA is nobody's.
    let ca = step(&app, "finish").await.expect(200).json();
    assert_eq!((&ca["phase"], &ca["behind"]), (&json!("steady"), &Value::Null));
    assert!(is_refused(&app, new, Some(&old_identity)).await);
    let app = app.restart().await;
    let mut connection = connect(&app, new, Some(&new_identity)).await;
    let decision = connection.check_in(&says(&[&old, new])).await.expect(200).decision();
    assert_eq!(decision.anchors, says(&[new]).anchors, "the device is told to drop the old one");
    let anchors = connection.get(CACERTS, &[]).await.certificates();
    assert_eq!(anchors, std::slice::from_ref(new));

    let lines = app.get("/audit?kind=ca").await;
    let actions: Vec<_> =
        lines["items"].as_array().unwrap().iter().map(|line| line["action"].as_str().unwrap()).collect();
    for action in ["ca.rollover-begin", "ca.rollover-switch", "ca.rollover-finish"] {
        assert_eq!(actions.iter().filter(|found| **found == action).count(), 1, "{actions:?}");
    }
    // And again.
    step(&app, "begin").await.expect(200);
}

/// A device whose vault was made before has the old anchor alone, whenever it is first switched on.
#[tokio::test]
async fn a_device_that_has_yet_to_enroll_holds_up_a_rollover_unless_it_is_forced() {
    let app = TestApp::start().await;
    app.create_product("lamp").await;
    app.create_device("lamp-1", "lamp").await;
    step(&app, "begin").await.expect(200);
    app.create_device("lamp-2", "lamp").await;
    let problem = step(&app, "switch").await.expect(409).json();
    let detail = problem["detail"].as_str().unwrap();
    assert!(
        detail.starts_with("1 device that did not tell to trust the new CA") && detail.contains("(lamp-1)"),
        "{detail}"
    );
    app.post("/ca/rollover/switch", &json!({ "force": true })).await.expect(200);
    app.post("/ca/rollover/finish", &json!({ "force": true })).await.expect(200);
}

/// Nobody knows whether it comes back: it holds up nothing, and is named.
#[tokio::test]
async fn a_suspended_device_is_named_and_not_waited_for() {
    let app = TestApp::start().await;
    let (_, identity) = app.enrolled().await;
    app.connect(Some(&identity)).await.check_in(&check_in(None)).await.expect(200);
    app.post("/devices/lamp-1/suspend", &json!({})).await.expect(200);
    step(&app, "begin").await.expect(200);
    for next in ["switch", "finish"] {
        let ca = app.get("/ca").await;
        assert_eq!((&ca["behind"]["without_new_anchor"], &ca["next"]), (&json!(0), &json!(next)), "{ca:#}");
        let suspended = (&ca["behind"]["suspended"], &ca["behind"]["suspended_examples"]);
        assert_eq!(suspended, (&json!(1), &json!(["lamp-1"])));
        step(&app, next).await.expect(200);
    }
    // One that is revoked for good needs nothing any more.
    app.post("/devices/lamp-1/revoke", &json!({})).await.expect(200);
    let ca = step(&app, "begin").await.expect(200).json();
    assert_eq!(ca["behind"]["suspended"], 0);
}

/// Nor does anybody know whether this one comes back. Until the old CA is gone it may: with a certificate that it trusts.
#[tokio::test]
async fn a_device_whose_certificate_has_ended_is_named_and_not_waited_for() {
    let clock = Clock::default();
    let app = TestApp::start_with(|config| {
        config.clock = clock.clone();
        config.renew_ended_days = Some(500);
    })
    .await;
    let (device, identity) = app.enrolled().await;
    let old = CertificateDer::from(app.server.ca_certificate_der().to_vec());
    app.connect(Some(&identity)).await.check_in(&says(&[&old])).await.expect(200);
    step(&app, "begin").await.expect(200);
    let behind = async || {
        let behind = app.get("/ca").await["behind"].clone();
        (behind["without_new_anchor"].clone(), behind["ended"].clone(), behind["ended_examples"].clone())
    };
    assert_eq!(behind().await, (json!(1), json!(0), json!([])));
    clock.advance_ms(366 * 24 * 3_600_000);
    assert_eq!(behind().await, (json!(0), json!(1), json!(["lamp-1"])));
    assert_eq!(app.get("/ca").await["next"], "switch");

    // It knows the old CA alone, and would refuse a certificate of the new one.
    let mut connection = connect(&app, &old, Some(&identity)).await;
    let body = BASE64_STANDARD.encode(csr(&device.key));
    let renewed = connection.post(REENROLL, "application/pkcs10", body).await.expect(200).certificate();
    let (_, ca) = X509Certificate::from_der(&old).unwrap();
    let (_, leaf) = X509Certificate::from_der(&renewed).unwrap();
    leaf.verify_signature(Some(ca.public_key())).unwrap();
    let renewed = device.identity(renewed);
    let decision = connect(&app, &old, Some(&renewed)).await.check_in(&says(&[&old])).await.decision();
    assert_eq!(decision.renew, Some(true), "from here on as any other");
    assert_eq!(behind().await, (json!(1), json!(0), json!([])));
    // Past the time in which it may renew itself nobody has to think of it.
    clock.advance_ms((365 + 501) * 24 * 3_600_000);
    assert_eq!(behind().await, (json!(0), json!(0), json!([])));
}

#[tokio::test]
async fn revoked_devices_are_in_the_list_on_both_listeners() {
    let clock = Clock::default();
    let app = TestApp::start_with(|config| config.clock = clock.clone()).await;
    let (_, identity) = app.enrolled().await;
    let serials = |der: &[u8]| {
        let (_, list) = CertificateRevocationList::from_der(der).unwrap();
        let (_, ca) = X509Certificate::from_der(app.server.ca_certificate_der()).unwrap();
        list.verify_signature(ca.public_key()).unwrap();
        assert!(list.next_update().unwrap() > list.last_update());
        list.iter_revoked_certificates().map(|revoked| revoked.raw_serial().to_vec()).collect::<Vec<_>>()
    };
    let path = "/.well-known/pitstop/crl.der";
    let answer = app.connect(None).await.get(path, &[]).await.expect(200);
    assert_eq!(answer.header("content-type"), "application/pkix-crl");
    assert!(serials(&answer.body).is_empty());

    app.post("/devices/lamp-1/suspend", &json!({ "reason": "lost" })).await.expect(200);
    let (_, leaf) = X509Certificate::from_der(&identity.certificate).unwrap();
    let reasons = |der: &[u8]| {
        let (_, list) = CertificateRevocationList::from_der(der).unwrap();
        list.iter_revoked_certificates()
            .map(|revoked| revoked.reason_code().map(|(_, code)| code.0))
            .collect()
    };
    let list_with = async |expected: &[Option<u8>]| {
        let listed = async {
            loop {
                let answer = app.connect(None).await.get(path, &[]).await.expect(200);
                let found: Vec<_> = reasons(&answer.body);
                if found == expected {
                    break answer.body;
                }
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(5), listed).await.expect("within a second")
    };
    // RFC 5280 section 5.3.1: certificateHold; a list without the certificate when it is resumed.
    let body = list_with(&[Some(6)]).await;
    assert_eq!(serials(&body), [leaf.raw_serial()]);
    app.post("/devices/lamp-1/resume", &json!({})).await.expect(200);
    list_with(&[]).await;
    app.post("/devices/lamp-1/revoke", &json!({ "reason": "stolen" })).await.expect(200);
    let body = list_with(&[None]).await;
    assert_eq!(serials(&body), [leaf.raw_serial()]);
    let mut admin = Connection::plain(app.server.admin_addr()).await.unwrap();
    assert_eq!(admin.get(path, &[]).await.expect(200).body, body);

    // What has ended is no good without a list, which else would only grow.
    clock.advance_ms(366 * 24 * 3_600_000);
    let ends = std::time::Instant::now() + std::time::Duration::from_secs(5);
    while !serials(&admin.get(path, &[]).await.expect(200).body).is_empty() {
        assert!(std::time::Instant::now() < ends, "it stays in the list");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}
