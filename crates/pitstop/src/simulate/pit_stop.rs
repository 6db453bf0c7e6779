//! One pit stop of a light device: one TCP connection, one TLS handshake, real HTTP.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{CONTENT_RANGE, CONTENT_TYPE, HOST, RANGE, RETRY_AFTER};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use manifest::{CHUNK_BYTES, Digest, PublisherKeys, Signed};
use rustls::HandshakeKind;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use wire::{Decision, Message as _};

use super::device::{LightDevice, Model};
use super::habits::{Fate, Habits};

/// The longest wait for one step: longer than a busy server needs, shorter than a person's patience.
const STEP_TIMEOUT: Duration = Duration::from_secs(30);

/// Where devices connect.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    /// Address of the device listener.
    pub(crate) addr: SocketAddr,
    /// The name that its certificate is for.
    pub(crate) name: ServerName<'static>,
    /// The value of the field `Host`.
    pub(crate) host: String,
}

/// What the devices do on their connections.
#[derive(Debug, Clone)]
pub(crate) enum Errand {
    /// Check in, take what is offered, report.
    CheckIn(CheckInErrand),
    /// Only GET this path, for a comparison with another server; in ranges of one chunk, or at once.
    Get { path: String, in_ranges: bool },
}

/// What a check-in needs, and what follows it.
#[derive(Debug, Clone)]
pub(crate) struct CheckInErrand {
    pub(crate) model: Model,
    pub(crate) publishers: PublisherKeys,
    pub(crate) habits: Habits,
    /// Download this artifact at every pit stop, as an install of it does.
    pub(crate) download: Option<Digest>,
}

/// How a pit stop went.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Done {
    /// From the connect to the decision; without artifacts and reports.
    pub(crate) latency: Duration,
    /// Whether a session ticket spared the certificates.
    pub(crate) is_resumed: bool,
    /// Bytes of artifacts.
    pub(crate) downloaded_bytes: u64,
    /// What became of the release that was offered.
    pub(crate) fate: Option<Fate>,
}

/// Why a pit stop did not get its decision.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PitStopError {
    #[error("no connection: {0}")]
    Connect(std::io::Error),
    #[error("no TLS handshake: {0}")]
    Handshake(std::io::Error),
    #[error("the connection broke: {0}")]
    Http(#[from] hyper::Error),
    #[error("no answer within {} s", STEP_TIMEOUT.as_secs())]
    Timeout,
    #[error("expected a success, found status {status}: {text}")]
    Status { status: StatusCode, text: String, retry_after: Option<Duration> },
    #[error("expected {0}, found something else")]
    Protocol(&'static str),
}

impl PitStopError {
    /// How long the server asked to wait.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            Self::Connect(_) | Self::Handshake(_) | Self::Http(_) | Self::Timeout | Self::Protocol(_) => None,
        }
    }
}

/// Makes one pit stop.
pub(crate) async fn pit_stop(
    device: &mut LightDevice,
    target: &Target,
    errand: &Errand,
) -> Result<Done, PitStopError> {
    let started = Instant::now();
    let tcp = in_time(TcpStream::connect(target.addr)).await?.map_err(PitStopError::Connect)?;
    // A request is one small write, and the device waits for the answer.
    let _ = tcp.set_nodelay(true);
    let connector = TlsConnector::from(Arc::clone(&device.tls));
    let stream = in_time(connector.connect(target.name.clone(), tcp)).await?;
    let stream = stream.map_err(PitStopError::Handshake)?;
    let is_resumed = stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed);
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let mut connection = std::pin::pin!(connection);
    let exchanges = exchanges(device, Exchange { sender, host: &target.host }, errand, started);
    let done = tokio::select! {
        done = exchanges => done?,
        broken = connection.as_mut() => {
            broken?;
            return Err(PitStopError::Protocol("an answer before the end of the connection"));
        }
    };
    // The sender is gone: this closes the connection, which costs the device nothing when it fails.
    let _ = in_time(connection).await;
    Ok(Done { is_resumed, ..done })
}

async fn exchanges(
    device: &mut LightDevice,
    mut exchange: Exchange<'_>,
    errand: &Errand,
    started: Instant,
) -> Result<Done, PitStopError> {
    let mut done = Done { latency: Duration::ZERO, is_resumed: false, downloaded_bytes: 0, fate: None };
    match errand {
        Errand::CheckIn(errand) => {
            let said = device.memory.check_in(&errand.model).to_cbor();
            let answer = exchange.post(wire::CHECK_IN_PATH, said).await?;
            done.latency = started.elapsed();
            let decision =
                Decision::from_cbor(&answer).map_err(|_| PitStopError::Protocol("a decision in CBOR"))?;
            if let Some(digest) = errand.download {
                done.downloaded_bytes =
                    exchange.download(&format!("{}{digest}", wire::ARTIFACTS_PATH)).await?;
            }
            if let Some(bytes) = decision.manifest_bytes() {
                let manifest = Signed::from_bytes(bytes.to_vec())
                    .verify(&errand.publishers)
                    .map_err(|_| PitStopError::Protocol("a manifest signed by the product's publisher"))?;
                let (fate, report) = device.memory.take(&device.id, &manifest, &errand.habits);
                done.fate = Some(fate);
                exchange.post(wire::REPORTS_PATH, report.to_cbor()).await?;
            }
        }
        Errand::Get { path, in_ranges: true } => {
            done.latency = started.elapsed();
            done.downloaded_bytes = exchange.download(path).await?;
        }
        Errand::Get { path, in_ranges: false } => {
            let answer = exchange.send(get(path)).await?;
            answer.collect().await?;
            done.latency = started.elapsed();
        }
    }
    Ok(done)
}

/// Requests on one connection, one after the other.
struct Exchange<'a> {
    sender: SendRequest<Full<Bytes>>,
    host: &'a str,
}

impl Exchange<'_> {
    async fn post(&mut self, path: &str, body: Vec<u8>) -> Result<Bytes, PitStopError> {
        let request =
            Request::builder().method(Method::POST).uri(path).header(CONTENT_TYPE, wire::MEDIA_TYPE);
        let request = request.body(Full::from(body)).map_err(|_| PitStopError::Protocol("a path"))?;
        let answer = self.send(Ok(request)).await?;
        Ok(in_time(answer.into_body().collect()).await??.to_bytes())
    }

    /// Asks for a file in ranges of one chunk, as an install does; the number of its bytes. They are counted and not
    /// looked at.
    async fn download(&mut self, path: &str) -> Result<u64, PitStopError> {
        let (mut first, mut size) = (0, None);
        while size.is_none_or(|size| first < size) {
            let last = size.map_or(u64::MAX, |size: u64| size - 1).min(first + u64::from(CHUNK_BYTES) - 1);
            let mut request = get(path)?;
            if let Ok(range) = format!("bytes={first}-{last}").parse() {
                request.headers_mut().insert(RANGE, range);
            }
            let mut answer = self.send(Ok(request)).await?;
            if answer.status() != StatusCode::PARTIAL_CONTENT {
                return Err(PitStopError::Protocol("status 206 to a range"));
            }
            size = Some(size_of(&answer).ok_or(PitStopError::Protocol("a Content-Range with a size"))?);
            let mut received = 0;
            while let Some(frame) = in_time(answer.body_mut().frame()).await? {
                received += frame?.data_ref().map_or(0, Bytes::len) as u64;
            }
            if received == 0 || received > last - first + 1 {
                return Err(PitStopError::Protocol("as many bytes as were asked for"));
            }
            first += received;
        }
        Ok(first)
    }

    /// The answer when it is a success.
    async fn send(
        &mut self,
        request: Result<Request<Full<Bytes>>, PitStopError>,
    ) -> Result<Response<Incoming>, PitStopError> {
        let mut request = request?;
        if let Ok(host) = self.host.parse() {
            request.headers_mut().insert(HOST, host);
        }
        in_time(self.sender.ready()).await??;
        let answer = in_time(self.sender.send_request(request)).await??;
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let seconds = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        let text = in_time(answer.into_body().collect()).await??.to_bytes();
        let text = String::from_utf8_lossy(&text).lines().next().unwrap_or_default().to_owned();
        Err(PitStopError::Status { status, text, retry_after: seconds.map(Duration::from_secs) })
    }
}

fn get(path: &str) -> Result<Request<Full<Bytes>>, PitStopError> {
    Request::builder().uri(path).body(Full::default()).map_err(|_| PitStopError::Protocol("a path"))
}

/// The size of the whole file (RFC 9110 section 14.4).
fn size_of(answer: &Response<Incoming>) -> Option<u64> {
    answer.headers().get(CONTENT_RANGE)?.to_str().ok()?.rsplit_once('/')?.1.parse().ok()
}

async fn in_time<T>(step: impl Future<Output = T>) -> Result<T, PitStopError> {
    tokio::time::timeout(STEP_TIMEOUT, step).await.map_err(|_| PitStopError::Timeout)
}
