//! Slow and silent clients are cut off, and hold up nobody.

use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use proxy_protocol_rs::HeaderBuilder;
use rustls::HandshakeKind;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tower::ServiceExt as _;

use crate::app::{TestApp, check_in, csr, describe, image_of, new_key, sign};
use crate::client::{Answer, Connection, Identity, client_config, tls_stream, tls_stream_with};

const CACERTS: &str = "/.well-known/est/cacerts";

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

/// Writes what is to be written byte by byte, each well within the limit, until the server has had enough.
async fn trickle(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), bytes: &[u8]) -> (Duration, Vec<u8>) {
    let started = Instant::now();
    let mut answer = Vec::new();
    for byte in bytes.iter().cycle() {
        let mut buffer = [0; 1024];
        match timeout(SHORT / 10, stream.read(&mut buffer)).await {
            Err(_) => {}
            Ok(Ok(0) | Err(_)) => break,
            Ok(Ok(read)) => answer.extend_from_slice(&buffer[..read]),
        }
        // Once the server closes, writing fails; what it said before is read above.
        let _ = stream.write_all(&[*byte]).await;
        let _ = stream.flush().await;
        assert!(started.elapsed() < Duration::from_secs(10), "the server is too patient");
    }
    (started.elapsed(), answer)
}

#[tokio::test]
async fn a_trickled_handshake_is_cut_off() {
    let app = impatient().await;
    let mut tcp = TcpStream::connect(app.device_addr()).await.unwrap();
    // A handshake record of 16,000 bytes, of which more and more comes.
    let (elapsed, answer) = trickle(&mut tcp, &[22, 3, 1, 62, 128, 1, 0, 62, 124, 3, 3]).await;
    assert!(elapsed >= SHORT, "{elapsed:?}");
    assert!(answer.is_empty(), "{answer:?}");
}

#[tokio::test]
async fn a_trickled_head_is_cut_off() {
    let app = impatient().await;
    let ca = app.server.ca_certificate_der();
    let mut stream = tls_stream(app.device_addr(), "localhost", ca, None).await.unwrap();
    stream.write_all(b"GET /.well-known/est/cacerts HTTP/1.1\r\nhost: localhost\r\n").await.unwrap();
    let (elapsed, answer) = trickle(&mut stream, b"x-slow: yes\r\n").await;
    assert!(elapsed >= SHORT, "{elapsed:?}");
    assert!(!answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
}

#[tokio::test]
async fn a_trickled_body_is_refused() {
    let app = impatient().await;
    let (_, identity) = app.enrolled().await;
    let ca = app.server.ca_certificate_der();
    let mut stream = tls_stream(app.device_addr(), "localhost", ca, Some(&identity)).await.unwrap();
    let head = "POST /v1/check-in HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/cbor\r\n\
                content-length: 4000\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let (elapsed, answer) = trickle(&mut stream, b"abc").await;
    assert!(elapsed >= SHORT, "{elapsed:?}");
    assert!(answer.starts_with(b"HTTP/1.1 408"), "{}", String::from_utf8_lossy(&answer));
}

#[tokio::test]
async fn an_answer_that_nobody_takes_is_given_up() {
    let app = TestApp::start_with(|config| config.limits.write_timeout = SHORT).await;
    let (_, identity) = app.enrolled().await;
    let image = image_of("1.0.0", 2_600_000);
    app.upload(&image).await;
    app.publish("lamp", &sign(&describe(&image, 1, "1.0.0"))).await.expect(201);
    // More than the system's buffers take.
    const REQUESTS: usize = 5;
    let ca = app.server.ca_certificate_der();
    let mut stream = tls_stream(app.device_addr(), "localhost", ca, Some(&identity)).await.unwrap();
    let path = format!("{}{}", wire::ARTIFACTS_PATH, manifest::Digest::of(&image));
    let head = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n");
    stream.write_all(head.repeat(REQUESTS).as_bytes()).await.unwrap();
    let closed = async {
        while !open_connections(&app).await.ends_with(" 0") {
            tokio::time::sleep(SHORT / 10).await;
        }
    };
    timeout(Duration::from_secs(20), closed).await.expect("given up");
    let mut answer = Vec::new();
    let _ = timeout(Duration::from_secs(10), stream.read_to_end(&mut answer)).await.expect("closed");
    assert!(answer.starts_with(b"HTTP/1.1 200"));
    assert!(answer.len() < image.len() * REQUESTS, "everything came");
}

/// The line of the metrics.
async fn open_connections(app: &TestApp) -> String {
    let mut connection = Connection::plain(app.server.admin_addr()).await.unwrap();
    let metrics = connection.get("/metrics", &[]).await.expect(200);
    let line = metrics
        .text()
        .lines()
        .find(|line| line.starts_with("pitstop_connections_open{") && line.contains("listener=\"device\""));
    line.unwrap_or_default().to_owned()
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

/// Bounds that count connections from this machine too.
async fn strict(change: impl FnOnce(&mut server::Limits)) -> TestApp {
    TestApp::start_with(|config| {
        config.limits.limit_loopback = true;
        change(&mut config.limits);
    })
    .await
}

fn retry_after_s(answer: &Answer) -> u64 {
    answer.header("retry-after").parse().unwrap()
}

#[tokio::test]
async fn a_client_that_asks_too_often_is_told_when_to_come_back() {
    let app = strict(|limits| (limits.certificate_requests_per_s, limits.certificate_burst) = (1, 3)).await;
    let (mut device, identity) = app.enrolled().await;
    let mut connection = app.connect(Some(&identity)).await;
    for _ in 0..3 {
        connection.check_in(&check_in(None)).await.expect(200);
    }
    let answer = connection.check_in(&check_in(None)).await.expect(429);
    assert!((5..=60).contains(&retry_after_s(&answer)), "{answer:?}");
    assert_eq!(answer.header("connection"), "close");
    assert!(answer.text().starts_with("too many requests of this device; ask again in "));
    // Another connection is no way around it, nor is another certificate, and another device is not to blame.
    app.connect(Some(&identity)).await.check_in(&check_in(None)).await.expect(429);
    let made = app.post("/devices/lamp-1/enrollment-token", &json!({})).await.expect(201).json();
    made["enrollment_token"].as_str().unwrap().clone_into(&mut device.token);
    let certificate = app.enroll(&device, &csr(&device.key)).await.expect(200).certificate();
    assert_ne!(certificate, identity.certificate);
    app.connect(Some(&device.identity(certificate))).await.check_in(&check_in(None)).await.expect(429);
    let other = app.create_device("lamp-2", "lamp").await;
    let certificate = app.enroll(&other, &csr(&other.key)).await.expect(200).certificate();
    let other = other.identity(certificate);
    app.connect(Some(&other)).await.check_in(&check_in(None)).await.expect(200);
}

#[tokio::test]
async fn an_address_that_asks_too_often_is_told_when_to_come_back() {
    // A connection counts as a request.
    let app = strict(|limits| (limits.address_requests_per_s, limits.address_burst) = (1, 6)).await;
    // Two for the enrollment.
    let (_, identity) = app.enrolled().await;
    let mut connection = app.connect(Some(&identity)).await;
    for _ in 0..3 {
        connection.get(CACERTS, &[]).await.expect(200);
    }
    let answer = connection.get(CACERTS, &[]).await.expect(429);
    assert!(answer.text().starts_with("too many requests from this address"), "{answer:?}");
    assert!(retry_after_s(&answer) >= 5);
    assert_is_closed_before_tls(&app).await;
    // The operator is not kept out.
    app.create_product("fan").await;
}

#[tokio::test]
async fn an_address_has_its_share_of_connections() {
    let app = strict(|limits| limits.max_connections_per_address = 2).await;
    let _silent = TcpStream::connect(app.device_addr()).await.unwrap();
    let mut served = app.connect(None).await;
    served.get(CACERTS, &[]).await.expect(200);
    assert_is_closed_before_tls(&app).await;
    served.get(CACERTS, &[]).await.expect(200);
}

/// A handshake would cost the server more than the client.
async fn assert_is_closed_before_tls(app: &TestApp) {
    let mut tcp = TcpStream::connect(app.device_addr()).await.unwrap();
    let closed = timeout(Duration::from_secs(5), tcp.read(&mut [0; 16])).await.expect("closed at once");
    assert!(matches!(closed, Ok(0) | Err(_)), "{closed:?}");
}

#[tokio::test]
async fn a_full_house_says_so_and_serves_whom_it_has() {
    let app = strict(|limits| {
        limits.max_connections = 1;
        limits.max_refused_connections = 1;
    })
    .await;
    let (_, identity) = app.enrolled().await;
    let mut served = connect_when_free(&app, &identity).await;
    for _ in 0..3 {
        let answer = app.connect(None).await.get(CACERTS, &[]).await.expect(503);
        assert!((5..=60).contains(&retry_after_s(&answer)), "{answer:?}");
    }
    served.get(CACERTS, &[]).await.expect(200);
    drop(served);
    // The place is free as soon as the server has seen that the client is gone.
    let free = async {
        loop {
            let answer = app.connect(None).await.get(CACERTS, &[]).await;
            if answer.status == 200 {
                break;
            }
        }
    };
    timeout(Duration::from_secs(5), free).await.unwrap();
}

/// A connection that is served, once whoever had the place is gone.
async fn connect_when_free(app: &TestApp, identity: &Identity) -> Connection {
    let free = async {
        loop {
            let mut connection = app.connect(Some(identity)).await;
            if connection.get(CACERTS, &[]).await.status == 200 {
                return connection;
            }
        }
    };
    timeout(Duration::from_secs(5), free).await.unwrap()
}

/// The attack: everybody may connect without a certificate, ask for something, and stay.
#[tokio::test]
async fn connections_without_a_certificate_give_way_to_devices() {
    let app = TestApp::start_with(|config| {
        config.limits.max_connections = 32;
        config.limits.max_refused_connections = 8;
    })
    .await;
    let (_, identity) = app.enrolled().await;
    let mut kept = Vec::new();
    for _ in 0..100 {
        let mut connection = app.connect(None).await;
        // Whoever comes first is turned out for whoever comes later.
        connection.get(CACERTS, &[]).await.expect(200);
        kept.push(connection);
    }
    let started = Instant::now();
    let mut device = app.connect(Some(&identity)).await;
    device.check_in(&check_in(None)).await.expect(200);
    assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
    // And more who do not even begin a handshake: past three seconds they are no better.
    let mut silent = Vec::new();
    for _ in 0..60 {
        silent.push(TcpStream::connect(app.device_addr()).await.unwrap());
    }
    device.check_in(&check_in(None)).await.expect(200);
    tokio::time::sleep(Duration::from_millis(3100)).await;
    let started = Instant::now();
    let mut another = app.connect(Some(&identity)).await;
    another.check_in(&check_in(None)).await.expect(200);
    assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
    device.check_in(&check_in(None)).await.expect(200);
}

#[tokio::test]
async fn a_connection_without_a_certificate_ends_with_its_answer() {
    let app = TestApp::start().await;
    for (path, status, answers) in
        [(CACERTS, 200, 2), ("/.well-known/pitstop/crl.der", 200, 1), ("/x", 404, 1)]
    {
        let mut connection = app.connect(None).await;
        for number in 1..=answers {
            let answer = connection.get(path, &[]).await.expect(status);
            assert_eq!(answer.header("connection") == "close", number == answers, "{path} {number}");
        }
    }
    let (_, identity) = app.enrolled().await;
    let answer = app.connect(Some(&identity)).await.get("/x", &[]).await.expect(404);
    assert_eq!(answer.header("connection"), "", "who shows a certificate stays");
}

/// Nobody shows a certificate there: whoever rests longest makes room.
#[tokio::test]
async fn tools_that_rest_give_way_to_others() {
    let app = TestApp::start_with(|config| config.limits.max_connections = 4).await;
    let mut resting = Vec::new();
    for _ in 0..10 {
        let mut connection = Connection::plain(app.server.admin_addr()).await.unwrap();
        connection.get("/healthz", &[]).await.expect(200);
        resting.push(connection);
    }
    let mut last = resting.pop().unwrap();
    last.get("/healthz", &[]).await.expect(200);
}

/// Requests whose bodies never come hold up nobody, be they small or uploads.
#[tokio::test]
async fn bodies_that_do_not_come_hold_up_nobody() {
    let app = TestApp::start_with(|config| config.limits.max_requests_in_flight = 8).await;
    let mut waiting = Vec::new();
    let upload = format!("PUT /api/v1/artifacts/{}", "0".repeat(64));
    for request in ["POST /login", upload.as_str()] {
        for _ in 0..40 {
            let head = format!(
                "{request} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {}\r\ncontent-length: 1000\r\n\r\n",
                app.token
            );
            let mut tcp = TcpStream::connect(app.server.admin_addr()).await.unwrap();
            tcp.write_all(head.as_bytes()).await.unwrap();
            waiting.push(tcp);
        }
    }
    // Half of the requests in flight may await their bodies: of the uploads all but four are told that there are too many.
    // Which ones is the system's choice.
    let mut told: FuturesUnordered<_> = waiting[40..]
        .iter_mut()
        .map(async |tcp| {
            let mut told = [0; 12];
            tcp.read_exact(&mut told).await.unwrap();
            told
        })
        .collect();
    for _ in 0..36 {
        assert_eq!(told.next().await.as_ref(), Some(b"HTTP/1.1 503"));
    }
    drop(told);
    let started = Instant::now();
    let mut connection = Connection::plain(app.server.admin_addr()).await.unwrap();
    connection.get("/healthz", &[]).await.expect(200);
    app.get("/info").await;
    assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
}

/// On the admin listener too, whatever reads the body: the dashboard, the API, an upload by its parts.
#[tokio::test]
async fn a_late_body_is_told_so_and_the_connection_ends() {
    let app = impatient().await;
    let upload = format!("PUT /api/v1/artifacts/{}", "0".repeat(64));
    for (request, length_bytes) in [("POST /login", 100), ("POST /api/v1/products", 100_000), (&*upload, 100)]
    {
        let head = format!(
            "{request} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\n\
             content-length: {length_bytes}\r\n\r\n{{",
            app.token
        );
        let mut tcp = TcpStream::connect(app.server.admin_addr()).await.unwrap();
        tcp.write_all(head.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let _ = timeout(Duration::from_secs(5), tcp.read_to_end(&mut answer)).await.expect("closed");
        let answer = String::from_utf8_lossy(&answer);
        assert!(
            answer.starts_with("HTTP/1.1 408") && answer.contains("connection: close"),
            "{request}: {answer}"
        );
    }
    // An upload whose parts come in time may take longer as a whole.
    let image = image_of("1.0.0", 40_000);
    let digest = manifest::Digest::of(&image);
    let head = format!(
        "PUT /api/v1/artifacts/{digest} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {}\r\n\
         content-length: {}\r\nconnection: close\r\n\r\n",
        app.token,
        image.len()
    );
    let mut tcp = TcpStream::connect(app.server.admin_addr()).await.unwrap();
    tcp.write_all(head.as_bytes()).await.unwrap();
    for part in image.chunks(image.len() / 8 + 1) {
        tokio::time::sleep(SHORT / 4).await;
        tcp.write_all(part).await.unwrap();
    }
    let mut answer = Vec::new();
    tcp.read_to_end(&mut answer).await.unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 201"), "{}", String::from_utf8_lossy(&answer));
}

/// RFC 9112 section 3.2.
/// Sends all of it before it reads a byte, as simple clients do.
async fn sent_to_the_end(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), head: &str) -> String {
    stream.write_all(head.as_bytes()).await.unwrap();
    for _ in 0..64 {
        stream.write_all(&[0; 64 * 1024]).await.unwrap_or_else(|error| panic!("{head}: {error}"));
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let mut answer = [0; 12];
    timeout(Duration::from_secs(10), stream.read_exact(&mut answer)).await.unwrap().unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn who_sends_a_body_that_nobody_wants_reads_why() {
    let app = TestApp::start().await;
    let path = format!("/api/v1/artifacts/{}", manifest::Digest::of(b"another"));
    let bearer = format!("authorization: Bearer {}\r\n", app.token);
    for (expected, target, token, bytes) in [
        ("413", &*path, &*bearer, server::MAX_ARTIFACT_BYTES + 1),
        ("401", &path, "", 4 * 1024 * 1024),
        ("400", "/api/v1/artifacts/nonsense", &bearer, 4 * 1024 * 1024),
        ("422", &path, &bearer, 4 * 1024 * 1024),
        ("403", "/nowhere", "", 4 * 1024 * 1024),
    ] {
        let head = format!("PUT {target} HTTP/1.1\r\nhost: a\r\n{token}content-length: {bytes}\r\n\r\n");
        let mut tcp = TcpStream::connect(app.server.admin_addr()).await.unwrap();
        assert_eq!(sent_to_the_end(&mut tcp, &head).await, format!("HTTP/1.1 {expected}"), "{target}");
    }
    // Refused before a route sees it.
    let head = "PUT / HTTP/1.1\r\ncontent-length: 4194304\r\n\r\n";
    let mut tcp = TcpStream::connect(app.server.admin_addr()).await.unwrap();
    assert_eq!(sent_to_the_end(&mut tcp, head).await, "HTTP/1.1 400");
    let (_, identity) = app.enrolled().await;
    let mut tls =
        tls_stream(app.device_addr(), "localhost", app.server.ca_certificate_der(), Some(&identity))
            .await
            .unwrap();
    assert_eq!(sent_to_the_end(&mut tls, head).await, "HTTP/1.1 400");
}

#[tokio::test]
async fn who_goes_on_sending_after_the_answer_is_left_in_the_end() {
    let app = TestApp::start().await;
    let mut tcp = TcpStream::connect(app.server.admin_addr()).await.unwrap();
    tcp.write_all(b"PUT / HTTP/1.1\r\ncontent-length: 419430400\r\n\r\n").await.unwrap();
    let started = Instant::now();
    while tcp.write_all(&[0; 1024]).await.is_ok() {
        assert!(started.elapsed() < Duration::from_secs(15), "the server is too patient");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_request_names_its_host_once() {
    let app = TestApp::start().await;
    let cases = [
        ("HTTP/1.1\r\n", false),
        ("HTTP/1.1\r\nhost: localhost\r\nhost: localhost\r\n", false),
        ("HTTP/1.0\r\nhost: a\r\nhost: b\r\n", false),
        ("HTTP/1.1\r\nhost: localhost\r\n", true),
        ("HTTP/1.0\r\n", true),
    ];
    for (rest, is_good) in cases {
        let expected = if is_good { 200 } else { 400 };
        let mut tcp = TcpStream::connect(app.server.admin_addr()).await.unwrap();
        assert_eq!(
            status(&mut tcp, &format!("GET /healthz {rest}connection: close\r\n\r\n")).await,
            expected
        );
        let ca = app.server.ca_certificate_der();
        let mut tls = tls_stream(app.device_addr(), "localhost", ca, None).await.unwrap();
        assert_eq!(
            status(&mut tls, &format!("GET {CACERTS} {rest}connection: close\r\n\r\n")).await,
            expected
        );
    }
}

async fn status(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), request: &str) -> u16 {
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let _ = timeout(Duration::from_secs(5), stream.read_to_end(&mut answer)).await.expect("closed");
    String::from_utf8_lossy(&answer)[9..12].parse().unwrap()
}

#[tokio::test]
async fn a_request_past_the_certificate_s_end_is_refused_on_an_open_connection_too() {
    let app = TestApp::start().await;
    let mut params = rcgen::CertificateParams::default();
    (params.not_before, params.not_after) =
        (rcgen::date_time_ymd(2020, 1, 1), rcgen::date_time_ymd(2021, 1, 1));
    let ended = params.self_signed(&new_key()).unwrap().der().clone();
    let mut request = axum::http::Request::get("/v1/artifacts/x").body(axum::body::Body::empty()).unwrap();
    request.extensions_mut().insert(server::PeerCertificate(Some(ended)));
    let answer = app.server.device_router().oneshot(request).await.unwrap();
    assert_eq!(answer.status(), 403);
    let text = axum::body::to_bytes(answer.into_body(), 1000).await.unwrap();
    assert!(text.starts_with(b"the device's certificate has ended"), "{text:?}");
}

/// Off by default; when on, a resumed session is judged at every request as any other.
#[tokio::test]
async fn tickets_resume_sessions_and_revocation_holds_all_the_same() {
    for tickets in [false, true] {
        let app = TestApp::start_with(|config| config.tls_tickets = tickets).await;
        let (device, identity) = app.enrolled().await;
        let config = client_config(app.server.ca_certificate_der(), Some(&identity));
        let mut kinds = Vec::new();
        for _ in 0..2 {
            let mut stream = tls_stream_with(app.device_addr(), config.clone()).await.unwrap();
            kinds.push(stream.get_ref().1.handshake_kind().unwrap());
            assert!(status_of_an_artifact(&mut stream).await.starts_with("HTTP/1.1 404"));
        }
        let second = if tickets { HandshakeKind::Resumed } else { HandshakeKind::Full };
        assert_eq!(kinds, [HandshakeKind::Full, second]);
        app.post(&format!("/devices/{}/revoke", device.id), &json!({ "reason": "stolen" })).await.expect(200);
        let mut stream = tls_stream_with(app.device_addr(), config.clone()).await.unwrap();
        assert_eq!(stream.get_ref().1.handshake_kind(), Some(second));
        assert!(status_of_an_artifact(&mut stream).await.starts_with("HTTP/1.1 403"));
    }
}

/// The head of the answer to a request for an artifact that is not there.
async fn status_of_an_artifact(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> String {
    let path = format!("{}{}", wire::ARTIFACTS_PATH, "0".repeat(64));
    let head = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8(answer).unwrap()
}

/// A connection by a balancer, which says that it is of this address.
async fn by_balancer(
    app: &TestApp,
    client: &str,
    identity: Option<&Identity>,
) -> std::io::Result<Connection> {
    let mut tcp = TcpStream::connect(app.device_addr()).await?;
    let header = HeaderBuilder::v2_proxy(client.parse().unwrap(), app.device_addr()).build();
    tcp.write_all(&header).await?;
    Connection::tls_over(tcp, app.server.ca_certificate_der(), identity).await
}

#[tokio::test]
async fn behind_a_balancer_each_device_is_limited_by_its_own_address() {
    let address = |last: u8| format!("192.0.2.{last}:4000");
    let app = TestApp::start_with(|config| {
        config.proxies = vec!["127.0.0.1/32".parse().unwrap()];
        (config.limits.address_requests_per_s, config.limits.address_burst) = (1, 4);
    })
    .await;
    let answers = async |address: &str| {
        let mut answers = Vec::new();
        for _ in 0..4 {
            let Ok(mut connection) = by_balancer(&app, address, None).await else {
                answers.push(0);
                continue;
            };
            answers.push(connection.get(CACERTS, &[]).await.status.as_u16());
        }
        answers
    };
    let busy = answers(&address(7)).await;
    assert!(busy[0] == 200 && busy[3] == 0, "closed before TLS, past its rate: {busy:?}");
    assert_eq!(
        answers(&address(8)).await[..1],
        [200],
        "another device behind the same balancer is not to blame"
    );
    // Nobody speaks to the device listener without the balancer's header from there.
    assert!(Connection::tls(app.device_addr(), app.server.ca_certificate_der(), None).await.is_err());
}
