//! Check-in, enrolment and artifact throughput. `cargo bench -p server`.
//!
//! Requests go through the device listener's routes within the process; only the artifact is also fetched over
//! real TLS, where records of 2 KiB cost the most.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

use std::hint::black_box;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use flashfmt::app_desc::AppDescriptor;
use flashfmt::image::compose;
use http_body_util::{BodyExt as _, Full};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use manifest::{Digest, Manifest, PublisherSigningKey, Sequence, Signed};
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::pki_types::CertificateDer;
use serde_json::{Value, json};
use server::{Config, PeerCertificate, RunningServer};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio_rustls::TlsConnector;
use tower::ServiceExt as _;
use wire::Message as _;

/// Everything that the benchmarks need.
struct Bench {
    server: RunningServer,
    router: Router,
    enroll: Enroll,
    key: KeyPair,
    certificate: CertificateDer<'static>,
    image: Vec<u8>,
    digest: Digest,
    _dir: tempfile::TempDir,
}

struct Enroll {
    basic: String,
    csr: String,
}

async fn admin(server: &RunningServer, method: &str, path: &str, body: Vec<u8>) -> Value {
    let tcp = TcpStream::connect(server.admin_addr()).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(tcp)).await.unwrap();
    tokio::spawn(connection);
    let request = Request::builder()
        .method(method)
        .uri(format!("/api/v1{path}"))
        .header("authorization", format!("Bearer {}", server.first_admin_token().unwrap()))
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(body)))
        .unwrap();
    let response = sender.send_request(request).await.unwrap();
    assert!(response.status().is_success(), "{path}: {}", response.status());
    serde_json::from_slice(&response.into_body().collect().await.unwrap().to_bytes()).unwrap()
}

async fn set_up() -> Bench {
    let dir = tempfile::tempdir().unwrap();
    let mut config = Config::new(dir.path());
    config.device_addr.set_port(0);
    config.admin_addr.set_port(0);
    let server = server::start(config).await.unwrap();
    let publisher = PublisherSigningKey::new(p256::SecretKey::from_slice(&[7; 32]).unwrap());
    let (layout, csv) = flashfmt::layout::BUILTIN[0];
    let product = json!({
        "name": "lamp", "chip": "esp32c3", "min_run_s": 0, "layout": { "name": layout, "csv": csv },
        "publisher_keys": [{ "name": "bench", "key": hex::encode(publisher.publisher_key().to_sec1()) }],
    });
    admin(&server, "POST", "/products", product.to_string().into_bytes()).await;
    let mut enrolls = Vec::new();
    for id in ["lamp-1", "lamp-2"] {
        let body = json!({ "id": id, "product": "lamp" }).to_string();
        let device = admin(&server, "POST", "/devices", body.into_bytes()).await;
        let token = device["enrollment_token"].as_str().unwrap();
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let csr = CertificateParams::default().serialize_request(&key).unwrap();
        let basic = format!("Basic {}", BASE64_STANDARD.encode(format!("{id}:{token}")));
        enrolls.push((Enroll { basic, csr: BASE64_STANDARD.encode(csr.der()) }, key));
    }
    let code: Vec<u8> = (0..1_500_000_usize).map(|index| (index / 7) as u8).collect();
    let image = compose::esp32c3(&AppDescriptor::new("lamp", "1.0.0"), b"data", &code, &[1; 64]).unwrap();
    admin(&server, "PUT", &format!("/artifacts/{}", Digest::of(&image)), image.clone()).await;
    let manifest = Manifest::describe(&image, Sequence(1), "lamp", 5, "1.0.0").unwrap();
    let signed = Signed::sign(&manifest, &publisher).unwrap();
    let release = json!({ "manifest": BASE64_STANDARD.encode(signed.as_bytes()) }).to_string();
    admin(&server, "POST", "/products/lamp/releases", release.into_bytes()).await;

    let router = server.device_router();
    let (first, key) = enrolls.remove(0);
    let (enroll, _) = enrolls.remove(0);
    let answer = call(&router, enroll_request(&first), StatusCode::OK).await;
    let certificate = certificate(&BASE64_STANDARD.decode(answer).unwrap());
    let digest = Digest::of(&image);
    Bench { server, router, enroll, key, certificate, image, digest, _dir: dir }
}

fn certificate(pkcs7: &[u8]) -> CertificateDer<'static> {
    use der::{Decode as _, Encode as _};

    let message = cms::content_info::ContentInfo::from_der(pkcs7).unwrap();
    let signed: cms::signed_data::SignedData = message.content.decode_as().unwrap();
    let certificates = signed.certificates.unwrap().0;
    let cms::cert::CertificateChoices::Certificate(certificate) = certificates.get(0).unwrap() else {
        panic!("no certificate")
    };
    certificate.to_der().unwrap().into()
}

async fn call(router: &Router, request: Request<Body>, expected: StatusCode) -> Bytes {
    let response = router.clone().oneshot(request).await.unwrap();
    assert_eq!(response.status(), expected);
    response.into_body().collect().await.unwrap().to_bytes()
}

fn enroll_request(enroll: &Enroll) -> Request<Body> {
    Request::post("/.well-known/est/simpleenroll")
        .header("authorization", &enroll.basic)
        .header("content-type", "application/pkcs10")
        .body(Body::from(enroll.csr.clone()))
        .unwrap()
}

fn device_request(bench: &Bench, mut request: Request<Body>) -> Request<Body> {
    request.extensions_mut().insert(PeerCertificate(Some(bench.certificate.clone())));
    request
}

fn check_in(bench: &Bench, is_current: bool) -> Request<Body> {
    let digest = if is_current { bench.digest } else { Digest([0; 32]) };
    let check_in = wire::CheckIn {
        protocol: wire::PROTOCOL_VERSION,
        running: Some(wire::Running {
            digest: digest.0.into(),
            sequence: Some(u64::from(is_current)),
            version: Some("1.0.0".to_owned()),
        }),
        slots: vec![wire::Slot { label: "ota_0".to_owned(), size_bytes: 0x2f_0000, bootable: true }],
        chip_id: 5,
        updater_version: "0.1.0".to_owned(),
        reset_cause: wire::ResetCause::PowerOn,
        starts: 1,
        last_outcome: None,
        free_heap_bytes: Some(100_000),
        strategy: wire::HandOverStrategy::ChainLoad,
        critical_errors: 0,
        last_critical: None,
        anchors: None,
        publishers: None,
    };
    let request = Request::post(wire::CHECK_IN_PATH)
        .header("content-type", wire::MEDIA_TYPE)
        .body(Body::from(check_in.to_cbor()))
        .unwrap();
    device_request(bench, request)
}

/// Fetches the artifact over one TLS connection of its own.
async fn download(bench: &Bench) -> usize {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(bench.server.ca_certificate_der().to_vec().into()).unwrap();
    let key = bench.key.serialize_der().try_into().unwrap();
    let config =
        rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_client_auth_cert(vec![bench.certificate.clone()], key)
            .unwrap();
    let tcp = TcpStream::connect(bench.server.device_addr()).await.unwrap();
    // As a device does: its request follows its certificate at once, and must not wait for an acknowledgement.
    tcp.set_nodelay(true).unwrap();
    let name = "localhost".try_into().unwrap();
    let tls = TlsConnector::from(Arc::new(config)).connect(name, tcp).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(tls)).await.unwrap();
    tokio::spawn(connection);
    let path = format!("{}{}", wire::ARTIFACTS_PATH, bench.digest);
    let request = Request::get(path).header("host", "localhost").body(Full::new(Bytes::new())).unwrap();
    let response = sender.send_request(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    response.into_body().collect().await.unwrap().to_bytes().len()
}

fn benches(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let bench = runtime.block_on(set_up());
    criterion.bench_function("check-in, nothing new", |bencher| {
        bencher.to_async(&runtime).iter(|| call(&bench.router, check_in(&bench, true), StatusCode::OK));
    });
    criterion.bench_function("check-in, offered a release", |bencher| {
        bencher.to_async(&runtime).iter(|| call(&bench.router, check_in(&bench, false), StatusCode::OK));
    });
    criterion.bench_function("enrolment, CSR to certificate", |bencher| {
        // The same key may redeem its token again until its first check-in: each is a whole enrolment.
        bencher
            .to_async(&runtime)
            .iter(|| call(&bench.router, enroll_request(&bench.enroll), StatusCode::OK));
    });
    let path = format!("{}{}", wire::ARTIFACTS_PATH, bench.digest);
    let mut group = criterion.benchmark_group("artifact");
    group.throughput(Throughput::Bytes(bench.image.len() as u64));
    group.sample_size(20);
    group.bench_function("from disk", |bencher| {
        bencher.to_async(&runtime).iter(|| {
            let request = device_request(&bench, Request::get(&path).body(Body::empty()).unwrap());
            call(&bench.router, request, StatusCode::OK)
        });
    });
    group.bench_function("one TLS connection", |bencher| {
        bencher.to_async(&runtime).iter(async || black_box(download(&bench).await));
    });
    group.finish();
    runtime.block_on(bench.server.shutdown());
}

criterion_group!(server_benches, benches);
criterion_main!(server_benches);
