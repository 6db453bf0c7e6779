//! Slow and silent clients are cut off, and hold up nobody.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::app::{TestApp, check_in};
use crate::client::tls_stream;

const SHORT: Duration = Duration::from_millis(300);

async fn impatient() -> TestApp {
    TestApp::start_with(|config| {
        config.limits.handshake_timeout = SHORT;
        config.limits.header_timeout = SHORT;
        config.limits.body_timeout = SHORT;
        config.limits.shutdown_grace = SHORT;
    })
    .await
}

#[tokio::test]
async fn a_silent_client_is_cut_off_in_the_handshake_and_holds_up_nobody() {
    let app = impatient().await;
    let (_, identity) = app.enrolled().await;
    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.push(TcpStream::connect(app.device_addr()).await.unwrap());
    }
    let started = Instant::now();
    app.connect(Some(&identity)).await.check_in(&check_in(None)).await.expect(200);
    assert!(started.elapsed() < Duration::from_secs(5));
    for mut tcp in silent {
        let closed = timeout(Duration::from_secs(5), tcp.read(&mut [0; 16])).await.unwrap();
        assert!(matches!(closed, Ok(0) | Err(_)));
    }
}

#[tokio::test]
async fn a_slow_head_ends_the_connection() {
    let app = impatient().await;
    let ca = app.server.ca_certificate_der();
    let mut stream = tls_stream(app.device_addr(), "localhost", ca, None).await.unwrap();
    stream.write_all(b"GET /.well-known/est/cacerts HTTP/1.1\r\nhost: loc").await.unwrap();
    let mut answer = Vec::new();
    let _ = timeout(Duration::from_secs(5), stream.read_to_end(&mut answer)).await.expect("closed");
    assert!(!answer.starts_with(b"HTTP/1.1 200"));
}

#[tokio::test]
async fn a_slow_body_is_refused() {
    let app = impatient().await;
    let (_, identity) = app.enrolled().await;
    let ca = app.server.ca_certificate_der();
    let mut stream = tls_stream(app.device_addr(), "localhost", ca, Some(&identity)).await.unwrap();
    let head = "POST /v1/check-in HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/cbor\r\n\
                content-length: 100\r\n\r\nabc";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let _ = timeout(Duration::from_secs(5), stream.read_to_end(&mut answer)).await.expect("closed");
    assert!(answer.starts_with(b"HTTP/1.1 408"), "{}", String::from_utf8_lossy(&answer));
}

#[tokio::test]
async fn an_endless_head_is_refused() {
    let app = TestApp::start().await;
    let ca = app.server.ca_certificate_der();
    let mut stream = tls_stream(app.device_addr(), "localhost", ca, None).await.unwrap();
    let head = format!("GET / HTTP/1.1\r\nhost: localhost\r\nx: {}", "a".repeat(32 * 1024));
    let _ = stream.write_all(head.as_bytes()).await;
    let mut answer = Vec::new();
    let _ = timeout(Duration::from_secs(5), stream.read_to_end(&mut answer)).await.expect("closed");
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 431"), "{}", String::from_utf8_lossy(&answer));
}

#[tokio::test]
async fn a_shutdown_does_not_wait_for_idle_connections() {
    let app = TestApp::start().await;
    let (_, identity) = app.enrolled().await;
    let mut connection = app.connect(Some(&identity)).await;
    connection.check_in(&check_in(None)).await.expect(200);
    timeout(Duration::from_secs(5), app.server.shutdown()).await.unwrap();
}
