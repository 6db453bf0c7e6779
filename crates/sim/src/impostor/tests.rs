use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::*;
use crate::pki::{ServerLeaf, TestCa, Validity};

type Client = TlsStream<TcpStream>;

async fn connect(server: SocketAddr, ca: &TestCa, device: Option<&Identity>) -> io::Result<Client> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(ca.certificate_der())).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots);
    let config = match device {
        None => config.with_no_client_auth(),
        Some(device) => {
            let chain = CertificateDer::from_pem_slice(device.chain_pem.as_bytes()).unwrap();
            let key = PrivateKeyDer::from_pem_slice(device.key_pem.as_bytes()).unwrap();
            config.with_client_auth_cert(vec![chain], key).unwrap()
        }
    };
    let stream = TcpStream::connect(server).await?;
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

/// Sends one request and reads up to `limit_bytes` of what comes back, for at most 300 ms.
async fn ask(client: &mut Client, request: &str, limit_bytes: usize) -> (String, Result<(), io::ErrorKind>) {
    client.write_all(request.as_bytes()).await.unwrap();
    let mut got = Vec::new();
    let read = async {
        while got.len() < limit_bytes {
            if client.read_buf(&mut got).await? == 0 {
                break;
            }
        }
        Ok::<_, io::Error>(())
    };
    let outcome = match timeout(Duration::from_millis(300), read).await {
        Ok(outcome) => outcome.map_err(|error| error.kind()),
        Err(_) => Err(io::ErrorKind::TimedOut),
    };
    got.truncate(limit_bytes);
    (String::from_utf8_lossy(&got).into_owned(), outcome)
}

const GET: &str = "GET /v1/artifacts/ab HTTP/1.1\r\nHost: localhost\r\n\r\n";
const GET_RANGE: &str = "GET /v1/artifacts/ab HTTP/1.1\r\nHost: localhost\r\nRange: bytes=4-\r\n\r\n";
const BODY: &[u8] = b"0123456789";

/// What one rule answers to one request on a connection of its own.
async fn answered(reply: Reply, request: &str) -> (String, Result<(), io::ErrorKind>) {
    let ca = TestCa::new("CA").unwrap();
    let identity = ca.server(&ServerLeaf::good()).unwrap();
    let impostor = Impostor::start(&identity, vec![Rule::new("GET", "/v1/artifacts/", reply)]).await.unwrap();
    let mut client = connect(impostor.address(), &ca, None).await.unwrap();
    ask(&mut client, request, 1000).await
}

/// The head of an artifact's answer.
fn head(status: u16, rest: &str) -> String {
    format!(
        "HTTP/1.1 {status} Scripted\r\nContent-Type: application/octet-stream\r\nAccept-Ranges: bytes\r\n{rest}\r\n"
    )
}

#[tokio::test]
async fn the_script_is_followed_and_requests_are_recorded() {
    let ca = TestCa::new("CA").unwrap();
    let device = ca.device("device-1", Validity::GOOD).unwrap();
    let rules = vec![
        Rule::new("POST", "/v1/check-in", Reply::status(503)).times(1),
        Rule::new("POST", "/v1/check-in", Reply::ok("application/cbor", b"ok")),
    ];
    let impostor = Impostor::start(&ca.server(&ServerLeaf::good()).unwrap(), rules).await.unwrap();
    let mut client = connect(impostor.address(), &ca, Some(&device)).await.unwrap();
    let post = "POST /v1/check-in HTTP/1.1\r\nContent-Length: 3\r\nX-Test: 1\r\n\r\nabc";
    // Two in one go: both are read.
    let both = ask(&mut client, &format!("{post}{post}"), 1000).await.0;
    let expected = "HTTP/1.1 503 Scripted\r\nContent-Length: 0\r\n\r\n\
                    HTTP/1.1 200 Scripted\r\nContent-Type: application/cbor\r\nContent-Length: 2\r\n\r\nok";
    assert_eq!(both, expected);
    assert!(ask(&mut client, GET, 1000).await.0.starts_with("HTTP/1.1 404 "));
    let requests = impostor.requests();
    assert_eq!(requests.len(), 3);
    assert_eq!((requests[0].method.as_str(), requests[0].path.as_str()), ("POST", "/v1/check-in"));
    assert_eq!((requests[1].body.as_slice(), requests[1].header("x-test")), (&b"abc"[..], Some("1")));
    assert_eq!(requests[2].client_certificate.as_ref(), Some(&device.certificate_der));
    assert_eq!(impostor.connections(), 1);
}

#[tokio::test]
async fn ranges_right_and_wrong() {
    let artifact = |range| Reply::new(Content::Artifact { bytes: BODY.to_vec(), range });
    let range_head =
        |named: &str| head(206, &format!("Content-Range: bytes {named}/10\r\nContent-Length: 6\r\n"));
    for (range, expected) in [
        (RangeAnswer::Right, range_head("4-9") + "456789"),
        (RangeAnswer::WrongContentRange, range_head("0-5") + "456789"),
        (RangeAnswer::WrongBytes, range_head("4-9") + "012345"),
        (RangeAnswer::Ignored, head(200, "Content-Length: 10\r\n") + "0123456789"),
    ] {
        assert_eq!(answered(artifact(range), GET_RANGE).await.0, expected);
    }
    let middle = head(206, "Content-Range: bytes 2-4/10\r\nContent-Length: 3\r\n") + "234";
    assert_eq!(answered(artifact(RangeAnswer::Right), &GET_RANGE.replace("4-", "2-4")).await.0, middle);
    let whole = head(200, "Content-Length: 10\r\n") + "0123456789";
    assert_eq!(answered(artifact(RangeAnswer::Right), GET).await.0, whole);
    let beyond = GET_RANGE.replace("4-", "10-12");
    let refused = head(416, "Content-Range: bytes */10\r\nContent-Length: 0\r\n");
    assert_eq!(answered(artifact(RangeAnswer::Right), &beyond).await.0, refused);
}

#[tokio::test]
async fn lengths_that_lie() {
    let reply = |length| Reply::artifact(BODY).length(length);
    let body = "0123456789";
    for (length, expected) in [
        (Length::TooLarge { by_bytes: 5 }, head(200, "Content-Length: 15\r\n") + body),
        (Length::TooSmall { by_bytes: 5 }, head(200, "Content-Length: 5\r\n") + body),
        (Length::Absent, head(200, "") + body),
    ] {
        assert_eq!(answered(reply(length), GET).await, (expected, Ok(())));
    }
    let (chunked, outcome) = answered(reply(Length::Chunked), GET).await;
    assert_eq!(chunked, head(200, "Transfer-Encoding: chunked\r\n") + "a\r\n0123456789\r\n0\r\n\r\n");
    assert_eq!(outcome, Err(io::ErrorKind::TimedOut), "the connection stays open");
}

#[tokio::test]
async fn bodies_that_arrive_badly() {
    let reply = |delivery| Reply::artifact(BODY).delivery(delivery);
    let whole_head = head(200, "Content-Length: 10\r\n");
    for (delivery, body, outcome) in [
        (Delivery::CorruptByte { offset: 3 }, "0122456789", Err(io::ErrorKind::TimedOut)),
        (Delivery::CloseAfter { bytes: 3, close_notify: true }, "012", Ok(())),
        (Delivery::CloseAfter { bytes: 3, close_notify: false }, "012", Err(io::ErrorKind::UnexpectedEof)),
        (Delivery::StallAfter { bytes: 3 }, "012", Err(io::ErrorKind::TimedOut)),
        (Delivery::Trickle { per_byte_ms: 5 }, "0123456789", Err(io::ErrorKind::TimedOut)),
    ] {
        assert_eq!(
            answered(reply(delivery), GET).await,
            (whole_head.clone() + body, outcome),
            "{delivery:?}"
        );
    }
    let silent = answered(reply(Delivery::StallAfter { bytes: 0 }), GET).await;
    assert_eq!(silent, (String::new(), Err(io::ErrorKind::TimedOut)));
    let slow = answered(reply(Delivery::Trickle { per_byte_ms: 100 }), GET).await.0;
    assert!(slow.len() < whole_head.len() + 5, "{slow}");
}

#[tokio::test]
async fn endless_garbage_redirect_and_close() {
    let (endless, outcome) = answered(Reply::new(Content::Endless), GET).await;
    assert!(endless.starts_with("HTTP/1.1 200 Scripted\r\nContent-Length: 18446744073709551615\r\n\r\n\0\0"));
    assert_eq!((endless.len(), outcome), (1000, Ok(())));
    let garbage = answered(Reply::new(Content::Garbage(b"SSH-2.0\r\n".to_vec())), GET).await;
    assert_eq!(garbage, ("SSH-2.0\r\n".to_owned(), Ok(())));
    assert_eq!(answered(Reply::new(Content::Close), GET).await, (String::new(), Ok(())));
    let redirect = answered(Reply::redirect("https://other.invalid/"), GET).await.0;
    assert!(redirect.starts_with("HTTP/1.1 302 Scripted\r\nLocation: https://other.invalid/\r\n"));
}

/// Each wrong certificate is refused by a client with webpki's rules, each for its own reason; the right one is not.
#[tokio::test]
async fn wrong_certificates_are_wrong_in_the_way_they_say() {
    let ca = TestCa::new("CA").unwrap();
    let other = TestCa::new("CA").unwrap();
    let device = ca.device("device-1", Validity::GOOD).unwrap();
    let usurped = TestCa::usurped(&device).unwrap();
    for (identity, reason) in [
        (ca.server(&ServerLeaf::good()), None),
        (ca.server(&ServerLeaf::wrong_name()), Some("not valid for name")),
        (ca.server(&ServerLeaf::expired()), Some("expired")),
        (ca.server(&ServerLeaf::not_yet_valid()), Some("not valid yet")),
        (ca.server(&ServerLeaf::client_only()), Some("extended key usage")),
        (Ok(device.clone()), Some("extended key usage")),
        (other.server(&ServerLeaf::good()), Some("BadSignature")),
        (usurped.server(&ServerLeaf::good()), Some("EndEntityUsedAsCa")),
    ] {
        let impostor = Impostor::start(&identity.unwrap(), Vec::new()).await.unwrap();
        let outcome = connect(impostor.address(), &ca, None).await;
        match (outcome, reason) {
            (Ok(_), None) => {}
            (Err(error), Some(reason)) => {
                let text = error.to_string();
                assert!(text.contains(reason), "{reason}: {text}");
                // The impostor hears of it.
                for _ in 0..100 {
                    if !impostor.refused_handshakes().is_empty() {
                        break;
                    }
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                assert_eq!(impostor.refused_handshakes().len(), 1, "{text}");
            }
            (outcome, reason) => panic!("expected {reason:?}, found {:?}", outcome.map(drop)),
        }
    }
}

#[tokio::test]
async fn a_key_of_another_certificate_is_refused() {
    let ca = TestCa::new("CA").unwrap();
    let mut identity = ca.server(&ServerLeaf::good()).unwrap();
    identity.key_pem = ca.server(&ServerLeaf::good()).unwrap().key_pem;
    assert!(matches!(Impostor::start(&identity, Vec::new()).await, Err(ImpostorError::Tls(_))));
    identity.key_pem = "no key".to_owned();
    assert!(matches!(Impostor::start(&identity, Vec::new()).await, Err(ImpostorError::Pem(_))));
}
