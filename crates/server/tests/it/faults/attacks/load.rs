//! The attacks, bounded by what they are and by the time they have.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hyper::Method;
use rustls::ClientConfig;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use wire::Message as _;

use super::{ATTACKERS, Target, add, at_once};
use crate::app::{check_in, csr, new_key};
use crate::client::{Connection, Identity, client_config, request};

/// How often somebody asks for something who holds a connection.
const HOLD: Duration = Duration::from_secs(20);

/// Who was closed comes back after this.
const COME_BACK: Duration = Duration::from_secs(5);

/// Connections that are held come one after the other within this, and so again: 819 a second of 4,096. What a server does about
/// more handshakes than it can compute is another question than what it does about connections that rest.
const RAMP: Duration = COME_BACK;

/// All logins have come after this.
const BURST: Duration = Duration::from_secs(1);

/// A connection that is counted as kept.
struct Kept<'a>(&'a AtomicU64);

impl<'a> Kept<'a> {
    fn new(kept: &'a AtomicU64) -> Self {
        add(kept);
        Self(kept)
    }
}

impl Drop for Kept<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A connection of one of the attackers.
async fn connect(from: Ipv4Addr, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((from, 0).into())?;
    socket.connect(to).await
}

async fn handshake(
    from: Ipv4Addr,
    to: SocketAddr,
    config: &Arc<ClientConfig>,
) -> io::Result<TlsStream<TcpStream>> {
    let name = "localhost".try_into().unwrap();
    TlsConnector::from(config.clone()).connect(name, connect(from, to).await?).await
}

fn attacker(number: usize) -> Ipv4Addr {
    ATTACKERS[number % ATTACKERS.len()]
}

/// Runs so many of them until it is over.
async fn each<F>(count: usize, target: &Target, attack: impl Fn(usize, Target) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let mut attacks = JoinSet::new();
    for number in 0..count {
        let one = attack(number, target.clone());
        let stop = target.stop.clone();
        attacks.spawn(async move {
            // In the middle of whatever it does.
            stop.run_until_cancelled(one).await;
        });
    }
    attacks.join_all().await;
}

/// Somebody who has a device's key, and a token with the key that has redeemed it.
pub(super) struct Greedy {
    pub(super) identity: Identity,
    /// User and password of an enrollment.
    pub(super) credentials: String,
    pub(super) csr: Vec<u8>,
}

/// News with long texts, renewals and enrollments, each as fast as they are answered.
pub(super) async fn news_renewals_enrollments(target: Target, greedy: Greedy) {
    let Greedy { identity, credentials, csr: own } = greedy;
    let news = each(4, &target, |_, target| {
        let identity = identity.clone();
        async move {
            with_connections(&target, Some(&identity), || {
                let mut said = check_in(None);
                said.updater_version = format!("{:064}", rand::random::<u64>());
                let headers = [("content-type", wire::MEDIA_TYPE)];
                request(Method::POST, wire::CHECK_IN_PATH, &headers, said.to_cbor())
            })
            .await;
        }
    });
    let body = BASE64_STANDARD.encode(csr(&new_key()));
    let renewals = with_connections(&target, Some(&identity), || {
        let headers = [("content-type", "application/pkcs10")];
        request(Method::POST, "/.well-known/est/simplereenroll", &headers, body.clone())
    });
    let basic = format!("Basic {}", BASE64_STANDARD.encode(credentials));
    let own = BASE64_STANDARD.encode(own);
    let enrollments = with_connections(&target, None, || {
        let headers = [("authorization", basic.as_str()), ("content-type", "application/pkcs10")];
        request(Method::POST, "/.well-known/est/simpleenroll", &headers, own.clone())
    });
    tokio::join!(news, renewals, enrollments);
}

/// Sends one request after the other, on a new connection when the server has closed the one before.
async fn with_connections(
    target: &Target,
    identity: Option<&Identity>,
    mut next: impl FnMut() -> hyper::Request<http_body_util::Full<hyper::body::Bytes>>,
) {
    while target.goes_on() {
        let Ok(mut connection) = target.remote.device(identity).await else {
            target.pause(Duration::from_millis(20)).await;
            continue;
        };
        while target.goes_on() {
            add(&target.counts.attempts);
            match connection.send(next()).await {
                Ok(answer) => {
                    target.counts.answer(answer.status.as_u16());
                    if answer.status == 429 {
                        target.pause(Duration::from_millis(20)).await;
                    }
                    if answer.header("connection") == "close" {
                        break;
                    }
                }
                Err(_) => {
                    add(&target.counts.closed);
                    break;
                }
            }
        }
    }
}

/// So many connections without a certificate, each with a request every 20 s; who is closed comes back.
pub(super) async fn hold_connections(target: Target, count: usize) {
    let config = client_config(target.remote.ca(), None);
    let request = b"GET /.well-known/est/cacerts HTTP/1.1\r\nhost: localhost\r\n\r\n";
    each(count, &target, |number, target| {
        let config = config.clone();
        async move {
            tokio::time::sleep(RAMP.mul_f64(number as f64 / count as f64)).await;
            loop {
                add(&target.counts.attempts);
                let counts = &target.counts;
                if let Ok(mut stream) =
                    handshake(attacker(number), target.remote.device_addr(), &config).await
                {
                    let _kept = Kept::new(&counts.kept);
                    let mut buffer = [0; 4096];
                    let mut awaits = stream.write_all(request).await.is_ok();
                    loop {
                        match timeout(HOLD, stream.read(&mut buffer)).await {
                            Ok(Ok(0) | Err(_)) => break,
                            // The first bytes of an answer have its status.
                            Ok(Ok(_)) if awaits => {
                                awaits = false;
                                counts.answer(status(&buffer));
                            }
                            Ok(Ok(_)) => {}
                            Err(_) => awaits = stream.write_all(request).await.is_ok(),
                        }
                    }
                }
                add(&counts.closed);
                tokio::time::sleep(COME_BACK).await;
            }
        }
    })
    .await;
}

/// `HTTP/1.1 200`: 200.
fn status(answer: &[u8]) -> u16 {
    std::str::from_utf8(answer.get(9..12).unwrap_or_default())
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(0)
}

/// So many logins whose bodies never come.
pub(super) async fn logins_without_a_body(target: Target, count: usize) {
    let head = b"POST /login HTTP/1.1\r\nhost: localhost\r\n\
                 content-type: application/x-www-form-urlencoded\r\ncontent-length: 1000\r\n\r\n";
    each(count, &target, |number, target| async move {
        tokio::time::sleep(BURST.mul_f64(number as f64 / count as f64)).await;
        loop {
            add(&target.counts.attempts);
            let counts = &target.counts;
            if let Ok(mut tcp) = connect(attacker(number), target.remote.admin_addr()).await {
                let _kept = Kept::new(&counts.kept);
                let _ = tcp.write_all(head).await;
                let mut buffer = [0; 1024];
                if let Ok(1..) = tcp.read(&mut buffer).await {
                    counts.answer(status(&buffer));
                    while let Ok(1..) = tcp.read(&mut buffer).await {}
                }
            }
            add(&counts.closed);
            tokio::time::sleep(COME_BACK).await;
        }
    })
    .await;
}

/// `Finished` in place of a hello, of which rustls would warn; 8 at a time, as fast as they are closed.
pub(super) async fn broken_handshakes(target: Target) {
    each(at_once(8), &target, |number, target| async move {
        while target.goes_on() {
            // No port is free for a moment.
            let Ok(mut tcp) = connect(attacker(number), target.remote.device_addr()).await else {
                target.pause(Duration::from_millis(1)).await;
                continue;
            };
            add(&target.counts.attempts);
            let _ = tcp.write_all(&[0x16, 3, 1, 0, 4, 0x14, 0, 0, 0]).await;
            while let Ok(1..) = tcp.read(&mut [0; 64]).await {}
            add(&target.counts.closed);
        }
    })
    .await;
}

/// One address takes as many connections as it may have, and goes on with handshakes, 8 at a time.
pub(super) async fn handshakes_past(target: Target, most: usize) {
    let config = client_config(target.remote.ca(), None);
    let hold = each(most, &target, |_, target| {
        let config = config.clone();
        async move {
            loop {
                add(&target.counts.attempts);
                let stream = handshake(ATTACKERS[0], target.remote.device_addr(), &config).await;
                if let Ok(mut stream) = stream {
                    let _kept = Kept::new(&target.counts.kept);
                    let _ = stream.read(&mut [0; 64]).await;
                }
                add(&target.counts.closed);
                target.pause(COME_BACK).await;
            }
        }
    });
    let more = each(at_once(8), &target, |_, target| {
        let config = config.clone();
        async move {
            while target.goes_on() {
                add(&target.counts.attempts);
                match handshake(ATTACKERS[0], target.remote.device_addr(), &config).await {
                    // A place was free; it is given back.
                    Ok(_) => add(&target.counts.answered),
                    Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => {
                        target.pause(Duration::from_millis(1)).await;
                    }
                    Err(_) => add(&target.counts.closed),
                }
            }
        }
    });
    tokio::join!(hold, more);
}

/// Wrong tokens of the API, of the login and of enrollments, as fast as they are answered.
pub(super) async fn guesses(target: Target) {
    let api = each(at_once(64), &target, |_, target| async move {
        guess(&target, || {
            let bearer = format!("Bearer {:032x}", rand::random::<u128>());
            request(Method::GET, "/api/v1/whoami", &[("authorization", &bearer)], "")
        })
        .await;
    });
    let login = each(at_once(64), &target, |_, target| async move {
        guess(&target, || {
            // As the page itself would: others are refused for less.
            let headers =
                [("content-type", "application/x-www-form-urlencoded"), ("sec-fetch-site", "same-origin")];
            let form = format!("token={:032x}&next=", rand::random::<u128>());
            request(Method::POST, "/login", &headers, form)
        })
        .await;
    });
    let own = BASE64_STANDARD.encode(csr(&new_key()));
    let enrollments = each(at_once(4), &target, |_, target| {
        let own = own.clone();
        async move {
            with_connections(&target, None, || {
                let wrong = format!("fleet-1:{:032x}", rand::random::<u128>());
                let basic = format!("Basic {}", BASE64_STANDARD.encode(wrong));
                let headers = [("authorization", basic.as_str()), ("content-type", "application/pkcs10")];
                request(Method::POST, "/.well-known/est/simpleenroll", &headers, own.clone())
            })
            .await;
        }
    });
    tokio::join!(api, login, enrollments);
}

/// Guesses on the admin listener.
async fn guess(
    target: &Target,
    mut next: impl FnMut() -> hyper::Request<http_body_util::Full<hyper::body::Bytes>>,
) {
    while target.goes_on() {
        let Ok(mut connection) = Connection::plain(target.remote.admin_addr()).await else {
            target.pause(Duration::from_millis(1)).await;
            continue;
        };
        while target.goes_on() {
            add(&target.counts.attempts);
            match connection.send(next()).await {
                Ok(answer) => target.counts.answer(answer.status.as_u16()),
                Err(_) => {
                    add(&target.counts.closed);
                    break;
                }
            }
        }
    }
}
