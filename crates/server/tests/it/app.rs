//! One server in a temporary directory, and what tests do with it.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use cms::cert::CertificateChoices;
use cms::content_info::ContentInfo;
use cms::signed_data::SignedData;
use der::{Decode as _, Encode as _};
use flashfmt::app_desc::AppDescriptor;
use flashfmt::image::compose;
use hyper::Method;
use hyper::body::Bytes;
use manifest::{Digest, Manifest, PublisherSigningKey, Sequence, Signed};
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::pki_types::CertificateDer;
use serde_json::{Value, json};
use server::{Config, RunningServer};
use wire::{CheckIn, Decision, HandOverStrategy, Message as _, Outcome, Report, ResetCause, Running, Slot};

use crate::client::{Answer, Connection, Identity, request};
use crate::place::Place;

pub(crate) const ESP32C3: u16 = 5;

pub(crate) struct TestApp {
    pub(crate) server: RunningServer,
    pub(crate) token: String,
    pub(crate) dir: Place,
}

/// A device of product `lamp` and its key.
pub(crate) struct TestDevice {
    pub(crate) id: String,
    pub(crate) token: String,
    pub(crate) key: KeyPair,
}

impl TestApp {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub(crate) async fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        Self::start_at(Place::new().await, change).await
    }

    pub(crate) async fn start_at(dir: Place, change: impl FnOnce(&mut Config)) -> Self {
        let server = start_in(&dir, change).await;
        let token = server.first_admin_token().unwrap().to_owned();
        Self { server, token, dir }
    }

    /// A second instance with the same database.
    pub(crate) async fn beside(&self) -> Self {
        let dir = self.dir.beside();
        let server = start_in(&dir, |_| {}).await;
        Self { server, token: self.token.clone(), dir }
    }

    /// Stops the server and starts it again on the same data.
    pub(crate) async fn restart(self) -> Self {
        self.restart_with(|_| {}).await
    }

    pub(crate) async fn restart_with(self, change: impl FnOnce(&mut Config)) -> Self {
        let Self { server, token, dir } = self;
        server.shutdown().await;
        let server = start_in(&dir, change).await;
        Self { server, token, dir }
    }

    pub(crate) async fn admin(&self, method: Method, path: &str, body: impl Into<Bytes>) -> Answer {
        self.with_token(&self.token, method, path, body).await
    }

    pub(crate) async fn with_token(
        &self,
        token: &str,
        method: Method,
        path: &str,
        body: impl Into<Bytes>,
    ) -> Answer {
        let bearer = format!("Bearer {token}");
        let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
        let mut connection = Connection::plain(self.server.admin_addr()).await.unwrap();
        connection.send(request(method, &format!("/api/v1{path}"), &headers, body)).await.unwrap()
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        self.admin(Method::GET, path, "").await.expect(200).json()
    }

    /// Posts with `If-Match`.
    pub(crate) async fn change(&self, path: &str, if_match: &str) -> Answer {
        let bearer = format!("Bearer {}", self.token);
        let headers = [("authorization", bearer.as_str()), ("if-match", if_match)];
        let mut connection = Connection::plain(self.server.admin_addr()).await.unwrap();
        connection.send(request(Method::POST, &format!("/api/v1{path}"), &headers, "")).await.unwrap()
    }

    /// Asks until the answer is as expected, and returns it.
    #[track_caller]
    pub(crate) fn until(&self, path: &str, expected: impl Fn(&Value) -> bool) -> impl Future<Output = Value> {
        let caller = std::panic::Location::caller();
        async move {
            let ends = Instant::now() + Duration::from_secs(20);
            loop {
                let found = self.get(path).await;
                if expected(&found) {
                    return found;
                }
                assert!(Instant::now() < ends, "{caller}: it stays {found:#}");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.admin(Method::POST, path, body.to_string()).await
    }

    pub(crate) async fn create_product(&self, name: &str) {
        self.post("/products", &product_body(name)).await.expect(201);
    }

    pub(crate) async fn create_device(&self, id: &str, product: &str) -> TestDevice {
        let answer = self.post("/devices", &json!({ "id": id, "product": product })).await.expect(201).json();
        TestDevice {
            id: id.to_owned(),
            token: answer["enrollment_token"].as_str().unwrap().to_owned(),
            key: new_key(),
        }
    }

    /// Product `lamp` and a device of it with a certificate.
    pub(crate) async fn enrolled(&self) -> (TestDevice, Identity) {
        self.create_product("lamp").await;
        let device = self.create_device("lamp-1", "lamp").await;
        let certificate = self.enroll(&device, &csr(&device.key)).await.expect(200).certificate();
        let identity = device.identity(certificate);
        (device, identity)
    }

    pub(crate) async fn enroll(&self, device: &TestDevice, csr: &[u8]) -> Answer {
        self.enroll_as(&device.id, &device.token, BASE64_STANDARD.encode(csr)).await
    }

    pub(crate) async fn enroll_as(&self, id: &str, token: &str, body: impl Into<Bytes>) -> Answer {
        let basic = format!("Basic {}", BASE64_STANDARD.encode(format!("{id}:{token}")));
        let headers = [("authorization", basic.as_str()), ("content-type", "application/pkcs10")];
        let request = request(Method::POST, "/.well-known/est/simpleenroll", &headers, body);
        self.connect(None).await.send(request).await.unwrap()
    }

    pub(crate) async fn connect(&self, identity: Option<&Identity>) -> Connection {
        Connection::tls(self.device_addr(), self.server.ca_certificate_der(), identity).await.unwrap()
    }

    pub(crate) fn device_addr(&self) -> SocketAddr {
        self.server.device_addr()
    }

    pub(crate) async fn upload(&self, image: &[u8]) -> Answer {
        self.admin(Method::PUT, &format!("/artifacts/{}", Digest::of(image)), image.to_vec()).await
    }

    pub(crate) async fn publish(&self, product: &str, manifest: &[u8]) -> Answer {
        let body = json!({ "manifest": BASE64_STANDARD.encode(manifest), "notes": "a test" });
        self.post(&format!("/products/{product}/releases"), &body).await
    }

    /// Uploads an image and publishes it as a release of `lamp`.
    pub(crate) async fn release(&self, sequence: u64, version: &str) -> Vec<u8> {
        let image = image(version);
        self.upload(&image).await;
        self.publish("lamp", &sign(&describe(&image, sequence, version))).await.expect(201);
        image
    }
}

pub(crate) async fn start_in(dir: &Place, change: impl FnOnce(&mut Config)) -> RunningServer {
    let mut config = dir.config();
    change(&mut config);
    server::start(config).await.unwrap()
}

impl TestDevice {
    pub(crate) fn identity(&self, certificate: CertificateDer<'static>) -> Identity {
        Identity { certificate, key_der: self.key.serialize_der() }
    }
}

impl Answer {
    /// The one certificate of a certs-only answer.
    pub(crate) fn certificate(&self) -> CertificateDer<'static> {
        let mut certificates = self.certificates();
        assert_eq!(certificates.len(), 1);
        certificates.remove(0)
    }

    /// The certificates of a certs-only answer.
    pub(crate) fn certificates(&self) -> Vec<CertificateDer<'static>> {
        let media_type = self.header("content-type").split(';').next();
        assert_eq!(media_type, Some("application/pkcs7-mime"));
        assert_eq!(self.header("content-transfer-encoding"), "base64");
        let der = BASE64_STANDARD.decode(&self.body).unwrap();
        let message = ContentInfo::from_der(&der).unwrap();
        let signed: SignedData = message.content.decode_as().unwrap();
        assert!(signed.signer_infos.0.is_empty());
        let certificates = signed.certificates.unwrap().0;
        let der = |choice: &CertificateChoices| match choice {
            CertificateChoices::Certificate(certificate) => certificate.to_der().unwrap().into(),
            CertificateChoices::Other(_) => panic!("no certificate"),
        };
        certificates.iter().map(der).collect()
    }

    pub(crate) fn decision(&self) -> Decision {
        Decision::from_cbor(&self.body).unwrap()
    }
}

impl Connection {
    pub(crate) async fn check_in(&mut self, check_in: &CheckIn) -> Answer {
        self.post(wire::CHECK_IN_PATH, wire::MEDIA_TYPE, check_in.to_cbor()).await
    }

    pub(crate) async fn report(&mut self, sequence: u64, reason: wire::Reason) -> Answer {
        let report = Report {
            protocol: wire::PROTOCOL_VERSION,
            outcome: Outcome { sequence: Some(sequence), reason: reason.code() },
            running_digest: Some([7; 32].into()),
            downloaded_bytes: Some(1000),
            erased_bytes: Some(4096),
        };
        self.post(wire::REPORTS_PATH, wire::MEDIA_TYPE, report.to_cbor()).await
    }
}

pub(crate) fn new_key() -> KeyPair {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap()
}

pub(crate) fn csr(key: &KeyPair) -> Vec<u8> {
    CertificateParams::default().serialize_request(key).unwrap().der().to_vec()
}

pub(crate) fn publisher() -> PublisherSigningKey {
    PublisherSigningKey::new(p256::SecretKey::from_slice(&[7; 32]).unwrap())
}

pub(crate) fn product_body(name: &str) -> Value {
    let (layout, csv) = flashfmt::layout::BUILTIN[0];
    json!({
        "name": name,
        "chip": "esp32c3",
        // Devices of tests run for milliseconds.
        "min_run_s": 0,
        "layout": { "name": layout, "csv": csv },
        "publisher_keys": [{ "name": "alice", "key": hex::encode(publisher().publisher_key().to_sec1()) }],
    })
}

/// An image for the ESP32-C3 of a bit more than three chunks.
pub(crate) fn image(version: &str) -> Vec<u8> {
    image_of(version, 200_000)
}

pub(crate) fn image_of(version: &str, code_bytes: usize) -> Vec<u8> {
    let code: Vec<u8> = (0..code_bytes).map(|index| (index / 7) as u8).collect();
    compose::esp32c3(&AppDescriptor::new("lamp-app", version), b"data", &code, &[1; 64]).unwrap()
}

pub(crate) fn describe(image: &[u8], sequence: u64, version: &str) -> Manifest {
    Manifest::describe(image, Sequence(sequence), "lamp", ESP32C3, version).unwrap()
}

pub(crate) fn sign(manifest: &Manifest) -> Vec<u8> {
    Signed::sign(manifest, &publisher()).unwrap().as_bytes().to_vec()
}

/// What a device says that runs `image` of release `sequence`.
pub(crate) fn check_in(running: Option<(&[u8], u64)>) -> CheckIn {
    CheckIn {
        protocol: wire::PROTOCOL_VERSION,
        running: running.map(|(image, sequence)| Running {
            digest: Digest::of(image).0.into(),
            sequence: Some(sequence),
            version: Some("1.0.0".to_owned()),
        }),
        slots: vec![Slot { label: "ota_0".to_owned(), size_bytes: 0x2f_0000, bootable: running.is_some() }],
        chip_id: ESP32C3,
        updater_version: "0.1.0".to_owned(),
        reset_cause: ResetCause::PowerOn,
        starts: 1,
        last_outcome: None,
        free_heap_bytes: Some(100_000),
        strategy: HandOverStrategy::ChainLoad,
        critical_errors: 0,
        last_critical: None,
        anchors: None,
        publishers: None,
    }
}
