//! A small HTTP client, with and without TLS, that keeps its connection open.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{CONTENT_TYPE, HOST, HeaderMap};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// No request of a test takes as long.
const PATIENCE: Duration = Duration::from_secs(20);

/// A client certificate and its key.
pub(crate) struct Identity {
    pub(crate) certificate: CertificateDer<'static>,
    pub(crate) key_der: Vec<u8>,
}

impl Clone for Identity {
    fn clone(&self) -> Self {
        Self { certificate: self.certificate.clone(), key_der: self.key_der.clone() }
    }
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }

    /// The status, or a panic that shows the answer.
    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Self {
        assert_eq!(self.status.as_u16(), status, "{} {:?}", self.text(), self.headers);
        self
    }
}

/// One connection.
pub(crate) struct Connection {
    sender: SendRequest<Full<Bytes>>,
}

impl Connection {
    pub(crate) async fn plain(addr: SocketAddr) -> io::Result<Self> {
        Self::over(TcpStream::connect(addr).await?).await
    }

    pub(crate) async fn tls(addr: SocketAddr, ca: &[u8], identity: Option<&Identity>) -> io::Result<Self> {
        Self::over(tls_stream(addr, "localhost", ca, identity).await?).await
    }

    /// The same on a connection that has begun otherwise.
    pub(crate) async fn tls_over(tcp: TcpStream, ca: &[u8], identity: Option<&Identity>) -> io::Result<Self> {
        let name = ServerName::try_from("localhost").unwrap();
        Self::over(TlsConnector::from(client_config(ca, identity)).connect(name, tcp).await?).await
    }

    pub(crate) async fn over<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
        stream: S,
    ) -> io::Result<Self> {
        let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        tokio::spawn(connection);
        Ok(Self { sender })
    }

    pub(crate) async fn send(&mut self, request: Request<Full<Bytes>>) -> io::Result<Answer> {
        let answer = async {
            self.sender.ready().await?;
            let response = self.sender.send_request(request).await?;
            let (parts, body) = response.into_parts();
            // A stream of events has no end.
            let endless = parts.headers.get(CONTENT_TYPE).is_some_and(|value| value == "text/event-stream");
            let body = if endless { Bytes::new() } else { body.collect().await?.to_bytes() };
            Ok(Answer { status: parts.status, headers: parts.headers, body })
        };
        timeout(PATIENCE, answer)
            .await
            .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
            .map_err(|error: hyper::Error| io::Error::other(error))
    }

    /// Sends a request whose answer may never end; the body comes as it arrives.
    pub(crate) async fn open(&mut self, request: Request<Full<Bytes>>) -> io::Result<(Answer, Incoming)> {
        self.sender.ready().await.map_err(io::Error::other)?;
        let response = timeout(PATIENCE, self.sender.send_request(request)).await?;
        let (parts, body) = response.map_err(io::Error::other)?.into_parts();
        Ok((Answer { status: parts.status, headers: parts.headers, body: Bytes::new() }, body))
    }

    pub(crate) async fn get(&mut self, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.send(request(Method::GET, path, headers, Bytes::new())).await.unwrap()
    }

    pub(crate) async fn post(&mut self, path: &str, media_type: &str, body: impl Into<Bytes>) -> Answer {
        let headers = [(CONTENT_TYPE.as_str(), media_type)];
        self.send(request(Method::POST, path, &headers, body)).await.unwrap()
    }
}

pub(crate) fn request(
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> Request<Full<Bytes>> {
    let mut request = Request::builder().method(method).uri(path).header(HOST, "localhost");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Full::new(body.into())).unwrap()
}

pub(crate) async fn tls_stream(
    addr: SocketAddr,
    name: &str,
    ca: &[u8],
    identity: Option<&Identity>,
) -> io::Result<TlsStream<TcpStream>> {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let connector = TlsConnector::from(client_config(ca, identity));
    connector.connect(name, TcpStream::connect(addr).await?).await
}

/// The same with a configuration that outlives the connection, as tickets need it.
pub(crate) async fn tls_stream_with(
    addr: SocketAddr,
    config: Arc<ClientConfig>,
) -> io::Result<TlsStream<TcpStream>> {
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(config).connect(name, TcpStream::connect(addr).await?).await
}

pub(crate) fn client_config(ca: &[u8], identity: Option<&Identity>) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(ca.to_vec())).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    Arc::new(match identity {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            let key = PrivateKeyDer::try_from(identity.key_der.clone()).unwrap();
            builder.with_client_auth_cert(vec![identity.certificate.clone()], key).unwrap()
        }
    })
}
