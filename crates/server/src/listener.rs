//! The accept loop of both listeners, with and without TLS.
//!
//! Each connection is a task of its own from the TCP accept on, so that a slow handshake holds up nobody.

use std::convert::Infallible;
use std::io;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use hyper::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::metrics::gauge::Gauge;
use rustls::HandshakeKind;
use rustls::pki_types::CertificateDer;
use rustls::server::Acceptor;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tokio_io_timeout::TimeoutStream;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;
use tracing::debug;

use crate::config::Limits;
use crate::deadline::Watched;
use crate::gate::{Admission, Denial, Gate};
use crate::metrics::Metrics;
use crate::tls::ServerConfigs;

/// The longest request head, in bytes; hyper refuses longer ones with 431.
const MAX_HEAD_BYTES: usize = 16 * 1024;

/// What a connection encrypts ahead: a chunk of 64 KiB with its head, in records of any size. With rustls's own 64 KiB the
/// last few bytes of each chunk would go in a packet of their own.
const SEND_BUFFER_BYTES: usize = 80 * 1024;

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
    pub(crate) tcp: TcpListener,
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
    pub(crate) async fn serve(self, stop: CancellationToken) {
        let tasks = TaskTracker::new();
        let mut next_forget = Instant::now() + FORGET_PERIOD;
        while stop.run_until_cancelled(self.gate.ready()).await.is_some() {
            let Some(accepted) = stop.run_until_cancelled(self.tcp.accept()).await else { break };
            let (tcp, address) = match accepted {
                Ok((tcp, address)) => (tcp, address.ip()),
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
            let (place, denial) = match self.gate.admit(address) {
                Admission::Serve(place) => (place, None),
                Admission::Tell(place, denial) => (place, Some(denial)),
                Admission::Close => continue,
            };
            let connection = Connection {
                address,
                denial,
                tls: self.tls.as_ref().map(|tls| tls.borrow().clone()),
                router: self.router.clone(),
                limits: self.limits,
                gate: self.gate.clone(),
                deny: self.deny,
            };
            let (metrics, stop) = (self.metrics.clone(), stop.clone());
            let open = OpenConnection::count(&self.metrics, self.name);
            tasks.spawn(async move {
                connection.serve(tcp, &metrics, stop).await;
                drop((place, open));
            });
        }
        // Who comes now is refused, instead of waiting in the backlog for nobody.
        drop(self.tcp);
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

/// One connection, from the accept on.
struct Connection {
    address: IpAddr,
    /// Why nothing is served on it.
    denial: Option<Denial>,
    tls: Option<Arc<ServerConfigs>>,
    router: Router,
    limits: Limits,
    gate: Arc<Gate>,
    deny: fn(Denial) -> Response,
}

impl Connection {
    async fn serve(mut self, tcp: TcpStream, metrics: &Metrics, stop: CancellationToken) {
        // A decision is one small write, and a device waits for it.
        let _ = tcp.set_nodelay(true);
        let Some(tls) = self.tls.take() else {
            return self.serve_http(tcp, PeerCertificate(None), stop).await;
        };
        let handshake = timeout(self.limits.handshake_timeout, handshake(tcp, &tls));
        let stream = match stop.run_until_cancelled(handshake).await {
            Some(Ok(Ok(stream))) => stream,
            Some(Ok(Err(error))) => {
                metrics.tls_handshakes.add("failed");
                return debug!("TLS handshake failed: {error}");
            }
            Some(Err(_)) => {
                metrics.tls_handshakes.add("timed-out");
                return debug!("TLS handshake took too long");
            }
            None => return,
        };
        let session = stream.get_ref().1;
        let is_resumed = session.handshake_kind() == Some(HandshakeKind::Resumed);
        metrics.tls_handshakes.add(if is_resumed { "resumed" } else { "full" });
        let certificate = session.peer_certificates().and_then(|chain| chain.first()).cloned();
        let peer = PeerCertificate(certificate.map(CertificateDer::into_owned));
        self.serve_http(stream, peer, stop).await;
    }

    async fn serve_http<S>(self, stream: S, peer: PeerCertificate, stop: CancellationToken)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let limits = self.limits;
        let mut stream = TimeoutStream::new(stream);
        stream.set_write_timeout(Some(limits.write_timeout));
        let service = service_fn(|request| self.answer(request, &peer));
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(limits.header_timeout)
            .max_buf_size(MAX_HEAD_BYTES)
            .serve_connection(TokioIo::new(Box::pin(stream)), service);
        let mut connection = pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => Some(ended),
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

    /// Answers one request. One that is not let in is the last on its connection.
    async fn answer(
        &self,
        request: Request<Incoming>,
        peer: &PeerCertificate,
    ) -> Result<Response, Infallible> {
        let passed = match self.denial {
            Some(denial) => Err(denial),
            None => self.gate.pass(self.address, peer.0.as_ref()),
        };
        let _in_flight = match passed {
            Ok(permit) => permit,
            Err(denial) => {
                let mut response = (self.deny)(denial);
                response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
                return Ok(response);
            }
        };
        let (head, body) = request.into_parts();
        let (body, turns) = Watched::new(body);
        let mut request = Request::from_parts(head, Body::new(body));
        request.extensions_mut().insert(peer.clone());
        let uri = request.uri().clone();
        let answer = self.router.clone().oneshot(request);
        let mut response = match turns.in_time(self.limits.answer_timeout, answer).await {
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
        Ok(response)
    }
}
