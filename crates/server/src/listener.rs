//! The accept loop of both listeners, with and without TLS.
//!
//! Each connection is a task of its own from the TCP accept on, so that a slow handshake holds up nobody. What a request
//! has to be before a route sees it is checked here, for both: its rate, its `Host`, the time of its body.

use std::convert::Infallible;
use std::io;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderValue, Method, StatusCode, Version, header};
use axum::response::Response;
use http_body_util::BodyExt as _;
use hyper::Request;
use hyper::body::{Body as _, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::metrics::gauge::Gauge;
use rustls::HandshakeKind;
use rustls::pki_types::CertificateDer;
use rustls::server::Acceptor;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tokio_io_timeout::TimeoutStream;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;
use tracing::debug;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::arrivals::{Arrivals, Misfits};
use crate::config::Limits;
use crate::deadline::{Answering, Late, TimeFor, Watched, in_time};
use crate::gate::{Admission, Denial, Gate, InFlight, Place};
use crate::guests::{Turn, Turns};
use crate::lingering::{Lingering, Unread};
use crate::metrics::Metrics;
use crate::tls::ServerConfigs;

/// The longest request head, in bytes; hyper refuses longer ones with 431.
const MAX_HEAD_BYTES: usize = 16 * 1024;

/// What a connection encrypts ahead: a chunk of 64 KiB with its head, in records of any size. With rustls's own 64 KiB the
/// last few bytes of each chunk would go in a packet of their own.
const SEND_BUFFER_BYTES: usize = 80 * 1024;

/// A body that is no longer is read before the request counts as one in flight: who is slow takes nobody's turn.
const MAX_READ_AHEAD_BYTES: u64 = 64 * 1024;

/// Answers on a connection without a certificate, the last of which closes it: enrollment asks for `cacerts` first.
const ANONYMOUS_ANSWERS: usize = 1;
const ANONYMOUS_EST_ANSWERS: usize = 2;

/// Where EST is (RFC 7030 section 3.2.2).
const EST_PATH: &str = "/.well-known/est/";

/// Pause after an accept failed, for want of file descriptors most likely.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Clients that have not come for a while are forgotten so often.
const FORGET_PERIOD: Duration = Duration::from_secs(60);

/// The client certificate of a connection, in the extensions of each of its requests.
///
/// The TLS handshake is the only source of it: a header cannot make one. `None` when the client showed none.
#[derive(Clone, Debug)]
pub struct PeerCertificate(pub Option<CertificateDer<'static>>);

/// A listening socket and what it serves.
pub(crate) struct Listener {
    /// Its name in logs and metrics.
    pub(crate) name: &'static str,
    pub(crate) arrivals: Arrivals,
    pub(crate) misfits: Arc<Misfits>,
    /// What TLS is set up with, for connections from now on; `None` for HTTP.
    pub(crate) tls: Option<watch::Receiver<Arc<ServerConfigs>>>,
    pub(crate) router: Router,
    pub(crate) limits: Limits,
    pub(crate) gate: Arc<Gate>,
    /// The answer to who is not let in.
    pub(crate) deny: fn(Denial) -> Response,
    pub(crate) metrics: Arc<Metrics>,
}

impl Listener {
    /// Serves until told to stop, then lets open requests end.
    pub(crate) async fn serve(mut self, stop: CancellationToken) {
        let tasks = TaskTracker::new();
        let mut next_forget = Instant::now() + FORGET_PERIOD;
        while stop.run_until_cancelled(self.gate.ready()).await.is_some() {
            let Some(accepted) = stop.run_until_cancelled(self.arrivals.next()).await else { break };
            let (tcp, address) = match accepted {
                Ok(arrival) => arrival,
                Err(error) => {
                    tracing::warn!("could not accept a connection: {error}");
                    sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            if Instant::now() >= next_forget {
                self.gate.forget();
                next_forget = Instant::now() + FORGET_PERIOD;
            }
            let (place, denial) = match self.gate.admit(address).await {
                Admission::Serve(place) => (place, None),
                Admission::Tell(place, denial) => (place, Some(denial)),
                Admission::Close => continue,
            };
            let connection = Connection {
                address,
                place,
                denial,
                anonymous: None,
                tls: self.tls.as_ref().map(|tls| tls.borrow().clone()),
                router: self.router.clone(),
                limits: self.limits,
                gate: self.gate.clone(),
                deny: self.deny,
                misfits: self.misfits.clone(),
            };
            let (metrics, stop) = (self.metrics.clone(), stop.clone());
            let open = OpenConnection::count(&self.metrics, self.name);
            tasks.spawn(async move {
                connection.serve(tcp, &metrics, stop).await;
                drop(open);
            });
        }
        // Who comes now is refused, instead of waiting in the backlog for nobody.
        drop(self.arrivals);
        tasks.close();
        tasks.wait().await;
    }
}

/// Counts a connection as open while it lives.
struct OpenConnection(Gauge);

impl OpenConnection {
    fn count(metrics: &Metrics, listener: &'static str) -> Self {
        let gauge = metrics.open_connections.get_or_create_owned(&[("listener", listener.to_owned())]);
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// The TLS handshake: what the client says first decides how large records to it are.
async fn handshake(tcp: TcpStream, tls: &ServerConfigs) -> io::Result<TlsStream<TcpStream>> {
    let start = LazyConfigAcceptor::new(Acceptor::default(), tcp).await?;
    let config = tls.for_client(&start.client_hello());
    let mut stream = start.into_stream(config).await?;
    stream.get_mut().1.set_buffer_limit(Some(SEND_BUFFER_BYTES));
    Ok(stream)
}

/// The device of a certificate: its subject, which has id and product.
fn subject(certificate: &CertificateDer<'_>) -> Vec<u8> {
    match X509Certificate::from_der(certificate) {
        Ok((_, parsed)) => parsed.subject().as_raw().to_vec(),
        Err(_) => certificate.to_vec(),
    }
}

/// One connection, from the accept on.
struct Connection {
    address: IpAddr,
    place: Place,
    /// Why nothing is served on it.
    denial: Option<Denial>,
    /// Answers that were given, where the client could have shown a certificate and did not.
    anonymous: Option<AtomicUsize>,
    tls: Option<Arc<ServerConfigs>>,
    router: Router,
    limits: Limits,
    gate: Arc<Gate>,
    deny: fn(Denial) -> Response,
    misfits: Arc<Misfits>,
}

/// Who is at the other end, as the handshake told.
struct Peer {
    certificate: PeerCertificate,
    /// Whom its requests are counted for.
    device: Option<Vec<u8>>,
    turns: Turns,
    unread: Unread,
}

impl Connection {
    async fn serve(mut self, tcp: TcpStream, metrics: &Metrics, stop: CancellationToken) {
        // A decision is one small write, and a device waits for it.
        let _ = tcp.set_nodelay(true);
        let Some(tls) = self.tls.take() else {
            return self.serve_http(tcp, None, stop).await;
        };
        let (misfits, address) = (self.misfits.clone(), self.address);
        let handshake = timeout(self.limits.handshake_timeout, async {
            misfits.look(&tcp, address).await;
            handshake(tcp, &tls).await
        });
        let out = self.out();
        let handshake = async { out.run_until_cancelled(handshake).await };
        let stream = match stop.run_until_cancelled(handshake).await {
            Some(Some(Ok(Ok(stream)))) => stream,
            Some(Some(Ok(Err(error)))) => {
                metrics.tls_handshakes.add("failed");
                return debug!("TLS handshake failed: {error}");
            }
            Some(Some(Err(_))) => {
                metrics.tls_handshakes.add("timed-out");
                return debug!("TLS handshake took too long");
            }
            Some(None) => {
                metrics.tls_handshakes.add("timed-out");
                return debug!("TLS handshake was given up for others");
            }
            None => return,
        };
        let session = stream.get_ref().1;
        let is_resumed = session.handshake_kind() == Some(HandshakeKind::Resumed);
        metrics.tls_handshakes.add(if is_resumed { "resumed" } else { "full" });
        let certificate = session.peer_certificates().and_then(|chain| chain.first()).cloned();
        let certificate = certificate.map(CertificateDer::into_owned);
        let mut share = None;
        if certificate.is_some() {
            self.place.guest = None;
        } else if let Some(guest) = &self.place.guest {
            self.anonymous = Some(AtomicUsize::new(0));
            guest.turns().set(Turn::Client);
            if self.denial.is_none() {
                match self.gate.admit_anonymous(guest).await {
                    Ok(permit) => share = permit,
                    Err(denial) => self.denial = Some(denial),
                }
            }
        }
        self.serve_http(stream, certificate, stop).await;
        drop(share);
    }

    /// Ends when the connection has to give way; never for one with a certificate.
    fn out(&self) -> CancellationToken {
        self.place.guest.as_ref().map(|guest| guest.out()).unwrap_or_default()
    }

    async fn serve_http<S>(
        self,
        stream: S,
        certificate: Option<CertificateDer<'static>>,
        stop: CancellationToken,
    ) where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let limits = self.limits;
        let unread = Unread::default();
        let mut stream = TimeoutStream::new(Lingering::new(stream, unread.clone()));
        stream.set_write_timeout(Some(limits.write_timeout));
        let turns = self.place.guest.as_ref().map(|guest| guest.turns().clone());
        let peer = Peer {
            device: certificate.as_ref().map(subject),
            certificate: PeerCertificate(certificate),
            turns: turns.unwrap_or_else(|| Turns::new(Turn::Client)),
            unread,
        };
        let service = service_fn(|request| self.answer(request, &peer));
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(limits.header_timeout)
            .max_buf_size(MAX_HEAD_BYTES)
            .serve_connection(TokioIo::new(Box::pin(stream)), service);
        let mut connection = pin!(connection);
        let out = self.out();
        let ended = tokio::select! {
            ended = connection.as_mut() => Some(ended),
            () = out.cancelled() => return debug!("connection was closed for others"),
            () = stop.cancelled() => None,
            () = sleep(limits.connection_lifetime) => None,
        };
        let ended = match ended {
            Some(ended) => ended,
            None => {
                connection.as_mut().graceful_shutdown();
                match timeout(limits.shutdown_grace, connection).await {
                    Ok(ended) => ended,
                    Err(_) => return debug!("connection was closed in the middle of a request"),
                }
            }
        };
        if let Err(error) = ended {
            debug!("connection ended: {error}");
        }
    }

    /// Answers one request, the last one on its connection if it is not let in.
    async fn answer(&self, request: Request<Incoming>, peer: &Peer) -> Result<Response, Infallible> {
        peer.turns.set(Turn::Server);
        let is_last = self.anonymous.as_ref().is_some_and(|answers| {
            let is_est = request.uri().path().starts_with(EST_PATH);
            let most = if is_est { ANONYMOUS_EST_ANSWERS } else { ANONYMOUS_ANSWERS };
            answers.fetch_add(1, Ordering::Relaxed) + 1 >= most
        });
        let mut response = match self.let_in(request, peer).await {
            Ok((request, late, _in_flight)) => self.route(request, &late, peer).await,
            Err(denial) => closing((self.deny)(denial)),
        };
        if is_last {
            response = closing(response);
        }
        Ok(match self.place.guest {
            Some(_) => response.map(|body| Body::new(Answering::new(body, peer.turns.clone()))),
            None => response,
        })
    }

    /// The request as its route gets it, and whether its body is late; or why it does not.
    async fn let_in(
        &self,
        request: Request<Incoming>,
        peer: &Peer,
    ) -> Result<(Request<Body>, Late, InFlight), Denial> {
        peer.unread.set(!request.body().is_end_stream());
        if let Some(denial) = self.denial {
            return Err(denial);
        }
        self.gate.count(self.address, peer.device.as_deref())?;
        if !names_its_host(&request) {
            return Err(Denial::Host);
        }
        let (head, body) = request.into_parts();
        let is_upload = head.method == Method::PUT;
        let time_for = if is_upload { TimeFor::EachPart } else { TimeFor::Whole };
        let is_small = body.size_hint().exact().is_some_and(|bytes| bytes <= MAX_READ_AHEAD_BYTES);
        let limit = self.limits.body_timeout;
        let (body, late, in_flight) = if body.is_end_stream() {
            (Body::empty(), Late::default(), self.gate.pass(false)?)
        } else if is_small && !is_upload {
            let (body, late) =
                Watched::new(body, peer.turns.clone(), peer.unread.clone(), limit, time_for, None);
            let broken = |_| if late.is_late() { Denial::TooSlow } else { Denial::BrokenBody };
            let bytes = body.collect().await.map_err(broken)?.to_bytes();
            peer.turns.set(Turn::Server);
            (Body::from(bytes), late, self.gate.pass(false)?)
        } else {
            let mut in_flight = self.gate.pass(true)?;
            let held = in_flight.awaited.take();
            let (body, late) =
                Watched::new(body, peer.turns.clone(), peer.unread.clone(), limit, time_for, held);
            (Body::new(body), late, in_flight)
        };
        let mut request = Request::from_parts(head, body);
        request.extensions_mut().insert(peer.certificate.clone());
        Ok((request, late, in_flight))
    }

    async fn route(&self, request: Request<Body>, late: &Late, peer: &Peer) -> Response {
        let uri = request.uri().clone();
        let answer = self.router.clone().oneshot(request);
        let mut response = match in_time(&peer.turns, self.limits.answer_timeout, answer).await {
            // Whatever the route made of it.
            Some(Ok(_)) if late.is_late() => closing((self.deny)(Denial::TooSlow)),
            Some(Ok(response)) => response,
            Some(Err(never)) => match never {},
            None => {
                let limit_s = self.limits.answer_timeout.as_secs();
                tracing::error!(
                    path = uri.path(),
                    "no answer within {limit_s} s; see that the database and the artifact store answer"
                );
                (self.deny)(self.gate.busy())
            }
        };
        if response.status() == StatusCode::SERVICE_UNAVAILABLE {
            let retry_after_s = self.gate.retry_after_s(Duration::ZERO);
            response.headers_mut().entry(header::RETRY_AFTER).or_insert(retry_after_s.into());
        }
        response
    }
}

/// An answer that is the last one on its connection.
fn closing(mut response: Response) -> Response {
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

/// Whether a request says once which host it means; one of HTTP/1.0 need not (RFC 9112 section 3.2).
fn names_its_host<B>(request: &Request<B>) -> bool {
    let count = request.headers().get_all(header::HOST).iter().count();
    count == 1 || (count == 0 && request.version() != Version::HTTP_11)
}
