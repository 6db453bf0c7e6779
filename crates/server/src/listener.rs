//! The accept loop of both listeners, with and without TLS.
//!
//! Each connection is a task of its own from the TCP accept on, so that a slow handshake holds up nobody.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::metrics::gauge::Gauge;
use rustls::HandshakeKind;
use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;
use tracing::debug;

use crate::config::Limits;
use crate::metrics::Metrics;

/// The longest request head, in bytes; hyper refuses longer ones with 431.
const MAX_HEAD_BYTES: usize = 16 * 1024;

/// Pause after an accept failed, for want of file descriptors most likely.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

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
    pub(crate) tls: Option<TlsAcceptor>,
    pub(crate) router: Router,
    pub(crate) limits: Limits,
    pub(crate) metrics: Arc<Metrics>,
}

impl Listener {
    /// Serves until told to stop, then lets open requests end.
    pub(crate) async fn serve(self, stop: CancellationToken) {
        let tasks = TaskTracker::new();
        let permits = Arc::new(Semaphore::new(self.limits.max_connections));
        while let Some(Ok(permit)) = stop.run_until_cancelled(permits.clone().acquire_owned()).await {
            let Some(accepted) = stop.run_until_cancelled(self.tcp.accept()).await else { break };
            let tcp = match accepted {
                Ok((tcp, _)) => tcp,
                Err(error) => {
                    tracing::warn!("could not accept a connection: {error}");
                    sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let (tls, router, limits, stop) =
                (self.tls.clone(), self.router.clone(), self.limits, stop.clone());
            let (metrics, open) = (self.metrics.clone(), OpenConnection::count(&self.metrics, self.name));
            tasks.spawn(async move {
                serve_connection(tcp, tls, router, limits, &metrics, stop).await;
                drop((permit, open));
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

async fn serve_connection(
    tcp: TcpStream,
    tls: Option<TlsAcceptor>,
    router: Router,
    limits: Limits,
    metrics: &Metrics,
    stop: CancellationToken,
) {
    // A decision is one small write, and a device waits for it.
    let _ = tcp.set_nodelay(true);
    let Some(tls) = tls else {
        return serve_http(tcp, PeerCertificate(None), router, limits, stop).await;
    };
    let handshake = timeout(limits.handshake_timeout, tls.accept(tcp));
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
    serve_http(stream, peer, router, limits, stop).await;
}

async fn serve_http<S>(
    stream: S,
    peer: PeerCertificate,
    router: Router,
    limits: Limits,
    stop: CancellationToken,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request: Request<Incoming>| {
        let router = router.clone();
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(peer.clone());
        async move { Ok::<_, Infallible>(router.oneshot(request).await.unwrap_or_else(|never| match never {})) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .max_buf_size(MAX_HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service);
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
