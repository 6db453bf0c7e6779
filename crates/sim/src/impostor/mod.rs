//! A server that lies: real TLS 1.3 on 127.0.0.1 with whatever certificate it is given, and scripted HTTP answers.
//!
//! It stands for a stolen server key, another CA's server, a broken proxy, a full disk. It asks for a client
//! certificate, takes any, and records every request.

mod answer;
mod http;
#[cfg(test)]
mod tests;
pub(crate) mod tls;

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

pub use answer::{Content, Delivery, Length, RangeAnswer, Reply};

use crate::pki::Identity;
use crate::service::Service;

/// A rule of the script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The method it is for; `None` for all.
    pub method: Option<String>,
    /// How the path begins.
    pub path_prefix: String,
    /// What is answered.
    pub reply: Reply,
    /// How many requests it is for; `None` for all.
    pub times: Option<u32>,
}

impl Rule {
    /// A rule for all requests with this method whose path begins with `path_prefix`.
    pub fn new(method: &str, path_prefix: &str, reply: Reply) -> Self {
        Self { method: Some(method.to_owned()), path_prefix: path_prefix.to_owned(), reply, times: None }
    }

    /// The same for this many requests; then the rules below it count.
    #[must_use]
    pub fn times(mut self, count: u32) -> Self {
        self.times = Some(count);
        self
    }

    fn is_for(&self, request: &ReceivedRequest) -> bool {
        self.times != Some(0)
            && self.method.as_ref().is_none_or(|method| *method == request.method)
            && request.path.starts_with(&self.path_prefix)
    }
}

/// A request as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceivedRequest {
    /// Method.
    pub method: String,
    /// Path with query.
    pub path: String,
    /// Headers in order; names as sent.
    pub headers: Vec<(String, String)>,
    /// Body.
    pub body: Vec<u8>,
    /// The client's certificate, DER.
    pub client_certificate: Option<Vec<u8>>,
}

impl ReceivedRequest {
    /// The value of a header, whatever the case of its name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(found, _)| found.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }
}

/// A certificate, a key, or the loopback interface that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ImpostorError {
    /// The PEM text holds no usable certificate and key.
    #[error("certificate or key cannot be read; give PEM")]
    Pem(#[from] rustls::pki_types::pem::Error),
    /// rustls refuses them, for instance because they do not belong together.
    #[error("certificate and key cannot be used")]
    Tls(#[from] rustls::Error),
    /// No port could be bound.
    #[error("no port could be bound on 127.0.0.1")]
    Io(#[from] io::Error),
}

/// A running hostile server. Dropping it closes all connections.
#[derive(Debug)]
pub struct Impostor {
    service: Service,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    rules: Vec<Rule>,
    requests: Vec<ReceivedRequest>,
    connections: u64,
    refused_handshakes: Vec<String>,
}

impl Impostor {
    /// Starts a server with this identity. The first rule that fits a request counts; without one the answer is 404.
    ///
    /// # Errors
    /// [`ImpostorError`].
    pub async fn start(identity: &Identity, rules: Vec<Rule>) -> Result<Self, ImpostorError> {
        let acceptor = TlsAcceptor::from(Arc::new(tls::server_config(identity)?));
        let shared = Arc::new(Shared { state: Mutex::new(State { rules, ..State::default() }) });
        let handler = Arc::clone(&shared);
        let service = Service::start(move |stream| {
            let (acceptor, shared) = (acceptor.clone(), Arc::clone(&handler));
            async move { shared.serve(acceptor, stream).await }
        });
        Ok(Self { service: service.await?, shared })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.service.address()
    }

    /// Replaces the script.
    pub fn set_rules(&self, rules: Vec<Rule>) {
        self.shared.state().rules = rules;
    }

    /// The requests so far.
    pub fn requests(&self) -> Vec<ReceivedRequest> {
        self.shared.state().requests.clone()
    }

    /// How many TCP connections were accepted.
    pub fn connections(&self) -> u64 {
        self.shared.state().connections
    }

    /// Why TLS handshakes failed, in rustls' words: a client that refuses a certificate says so in an alert.
    pub fn refused_handshakes(&self) -> Vec<String> {
        self.shared.state().refused_handshakes.clone()
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn serve(&self, acceptor: TlsAcceptor, stream: TcpStream) {
        self.state().connections += 1;
        let answered = converse(&acceptor, stream, |request| {
            let reply = self.take_reply(&request);
            self.state().requests.push(request);
            reply
        });
        if let Err(error) = answered.await {
            self.state().refused_handshakes.push(error.to_string());
        }
    }

    /// The reply of the first rule that fits, which is used up by one.
    fn take_reply(&self, request: &ReceivedRequest) -> Reply {
        let mut state = self.state();
        let Some(rule) = state.rules.iter_mut().find(|rule| rule.is_for(request)) else {
            return Reply::status(404);
        };
        if let Some(times) = &mut rule.times {
            *times -= 1;
        }
        rule.reply.clone()
    }
}

/// Shakes hands and answers one request after the other, until one side has enough.
///
/// # Errors
/// The handshake failed.
pub(crate) async fn converse<S: AsyncRead + AsyncWrite + Unpin>(
    acceptor: &TlsAcceptor,
    stream: S,
    mut answer: impl FnMut(ReceivedRequest) -> Reply,
) -> io::Result<()> {
    let mut stream = acceptor.accept(stream).await?;
    let client_certificate =
        stream.get_ref().1.peer_certificates().and_then(|chain| chain.first()).map(|leaf| leaf.to_vec());
    let mut received = Vec::new();
    // A client that sends no HTTP, or leaves, ends the connection.
    while let Ok(Some(request)) = http::read_request(&mut stream, &mut received).await {
        let request = ReceivedRequest { client_certificate: client_certificate.clone(), ..request };
        let range = request.header("range").map(str::to_owned);
        match answer::send(&mut stream, answer(request), range.as_deref()).await {
            Ok(answer::Next::KeepAlive) => {}
            Ok(answer::Next::Close) | Err(_) => break,
        }
    }
    Ok(())
}
