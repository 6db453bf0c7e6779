//! The handshake: which versions, which certificates, which records.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, Issuer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::CertificateDer;

use crate::app::{TestApp, check_in, new_key};
use crate::client::{Connection, Identity, client_config, request, tls_stream};
use crate::place::Place;

/// A certificate for `lamp-1` by a CA that has our CA's name and another key.
fn by_another_ca(ca_der: &[u8]) -> Identity {
    let key = new_key();
    let issuer = Issuer::from_ca_cert_der(&CertificateDer::from(ca_der), new_key()).unwrap();
    let mut leaf = CertificateParams::default();
    leaf.distinguished_name.push(rcgen::DnType::CommonName, "lamp-1");
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let certificate = leaf.signed_by(&key, &issuer).unwrap();
    Identity { certificate: certificate.der().clone(), key_der: key.serialize_der() }
}

#[tokio::test]
async fn a_client_certificate_of_another_ca_is_refused_in_the_handshake() {
    let app = TestApp::start().await;
    app.enrolled().await;
    let identity = by_another_ca(app.server.ca_certificate_der());
    // In TLS 1.3 the client learns of it with its first read.
    let request = request(hyper::Method::GET, "/.well-known/est/cacerts", &[], "");
    let answer = async {
        let ca = app.server.ca_certificate_der();
        Connection::tls(app.device_addr(), ca, Some(&identity)).await?.send(request).await
    };
    assert!(answer.await.is_err());
}

#[tokio::test]
async fn a_certificate_that_the_database_does_not_know_is_refused() {
    let app = TestApp::start().await;
    let (_, identity) = app.enrolled().await;
    // A database that was lost, with the CA still there.
    let TestApp { server, mut dir, .. } = app;
    server.shutdown().await;
    dir.lose_database().await;
    let server = crate::app::start_in(&dir, |_| {}).await;
    let token = server.first_admin_token().unwrap().to_owned();
    let app = TestApp { server, token, dir };
    let answer = app.connect(Some(&identity)).await.check_in(&check_in(None)).await.expect(403);
    assert!(answer.text().contains("enroll again"), "{}", answer.text());
}

/// Whoever comes with one again and again takes no turn among those that write.
#[tokio::test]
async fn a_certificate_that_the_database_does_not_know_writes_nothing() {
    let app = TestApp::start_at(Place::embedded(), |_| {}).await;
    let (device, identity) = app.enrolled().await;
    let mut database = app.dir.connect().await;
    for statement in ["UPDATE devices SET revoked_at_ms = 1", "DELETE FROM certificates", "BEGIN IMMEDIATE"] {
        sqlx::query(statement).execute(&mut database).await.unwrap();
    }
    let started = Instant::now();
    let answer = app.connect(Some(&identity)).await.check_in(&check_in(None)).await.expect(403);
    assert!(answer.text().contains("enroll again"), "{}: {}", device.id, answer.text());
    assert!(started.elapsed() < Duration::from_secs(3), "it waited for a lock: {:?}", started.elapsed());
}

#[tokio::test]
async fn a_device_with_another_ca_refuses_the_server() {
    let (app, other) = (TestApp::start().await, TestApp::start().await);
    let other_ca = other.server.ca_certificate_der();
    let error = tls_stream(app.device_addr(), "localhost", other_ca, None).await.err().unwrap();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error}");
}

#[tokio::test]
async fn the_certificate_is_for_the_names_of_the_server() {
    let app = TestApp::start().await;
    let ca = app.server.ca_certificate_der();
    for name in ["localhost", "127.0.0.1"] {
        tls_stream(app.device_addr(), name, ca, None).await.unwrap();
    }
    assert!(tls_stream(app.device_addr(), "example.com", ca, None).await.is_err());
}

#[tokio::test]
async fn tls_1_2_is_not_spoken() {
    // A hand-made ClientHello that offers TLS 1.2 only: legacy version, random, no session, one suite, no extension.
    let app = TestApp::start().await;
    let mut hello = vec![3, 3];
    hello.extend_from_slice(&[0x42; 32]);
    hello.extend_from_slice(&[0, 0, 2, 0xC0, 0x2B, 1, 0]);
    let mut message = vec![1, 0, 0, hello.len() as u8];
    message.extend_from_slice(&hello);
    let mut record = vec![22, 3, 1, 0, message.len() as u8];
    record.extend_from_slice(&message);
    let mut tcp = TcpStream::connect(app.device_addr()).await.unwrap();
    tcp.write_all(&record).await.unwrap();
    let mut answer = Vec::new();
    tcp.read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer.first(), Some(&21), "an alert: {answer:02x?}");
}

#[tokio::test]
async fn records_are_small_for_who_asks_for_it() {
    let app = TestApp::start().await;
    let (_, identity) = app.enrolled().await;
    let image = app.release(1, "1.0.0").await;
    let path = format!("{}{}", wire::ARTIFACTS_PATH, manifest::Digest::of(&image));
    let head = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    let longest = async |offered: &[&[u8]]| {
        let lengths = Arc::new(std::sync::Mutex::new(Vec::new()));
        let (ours, theirs) = tokio::io::duplex(1 << 20);
        let server = TcpStream::connect(app.device_addr()).await.unwrap();
        tokio::spawn(record_lengths(server, theirs, lengths.clone()));
        let mut config = client_config(app.server.ca_certificate_der(), Some(&identity));
        Arc::make_mut(&mut config).alpn_protocols = offered.iter().map(|name| name.to_vec()).collect();
        let connector = TlsConnector::from(config);
        let mut stream = connector.connect("localhost".try_into().unwrap(), ours).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), offered.first().copied());
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        assert!(answer.ends_with(&image));
        lengths.lock().unwrap().iter().copied().max().unwrap()
    };
    // RFC 8446 section 5.2: content, one byte of type, 16 bytes of tag.
    let small = longest(&[wire::SMALL_RECORDS_ALPN, b"http/1.1"]).await;
    assert!(small > 1024 && small <= wire::SMALL_RECORD_BYTES + 1 + 16, "{small}");
    for offered in [&[&b"http/1.1"[..]][..], &[]] {
        let full = longest(offered).await;
        assert!(full > 4 * small, "{full}");
    }
}

/// Passes bytes on and notes the length of every record from the server.
async fn record_lengths(
    server: TcpStream,
    client: tokio::io::DuplexStream,
    lengths: Arc<std::sync::Mutex<Vec<usize>>>,
) {
    let (mut from_server, mut to_server) = server.into_split();
    let (mut from_client, mut to_client) = tokio::io::split(client);
    tokio::spawn(async move { tokio::io::copy(&mut from_client, &mut to_server).await });
    let mut header = [0; 5];
    while from_server.read_exact(&mut header).await.is_ok() {
        let mut record = vec![0; usize::from(u16::from_be_bytes([header[3], header[4]]))];
        from_server.read_exact(&mut record).await.unwrap();
        lengths.lock().unwrap().push(record.len());
        to_client.write_all(&header).await.unwrap();
        to_client.write_all(&record).await.unwrap();
    }
    let _ = to_client.shutdown().await;
}
