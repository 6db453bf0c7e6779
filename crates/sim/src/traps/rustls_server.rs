//! rustls's own server, for everything that is wrong with a certificate alone.

use std::future::pending;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::ring;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use super::{ANSWER, Observation, TrapError, chain, private_key};
use crate::pki::Identity;

/// The smallest records that rustls makes, in bytes (`ServerConfig::max_fragment_size`).
const SMALLEST_RECORD_BYTES: usize = 32;

/// The longest piece of the byte stream, when it comes in pieces.
const MAX_PIECE_BYTES: usize = 7;

/// Time between two pieces: long enough that each travels alone.
const PAUSE: Duration = Duration::from_millis(1);

/// Room between the server and what cuts its stream into pieces.
const PIPE_BYTES: usize = 1024;

/// How the server's bytes arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pieces {
    /// As TCP likes it.
    Whole,
    /// In the smallest records, of which 1 to [`MAX_PIECE_BYTES`] bytes are sent at a time.
    Tiny,
}

/// A TLS 1.3 server that wants a certificate of its clients.
pub(super) struct RustlsServer {
    acceptor: TlsAcceptor,
    pieces: Pieces,
}

impl RustlsServer {
    /// A server with this identity, whose clients have certificates of `client_ca` (DER).
    pub(super) fn new(identity: &Identity, client_ca: &[u8], pieces: Pieces) -> Result<Self, TrapError> {
        let provider = Arc::new(ring::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(client_ca.into())?;
        let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(clients.build()?)
            .with_single_cert(chain(identity)?, private_key(identity)?)?;
        config.max_fragment_size = match pieces {
            Pieces::Whole => None,
            Pieces::Tiny => Some(SMALLEST_RECORD_BYTES),
        };
        Ok(Self { acceptor: TlsAcceptor::from(Arc::new(config)), pieces })
    }

    pub(super) async fn serve(&self, stream: TcpStream) -> Observation {
        match self.pieces {
            Pieces::Whole => self.talk(stream).await,
            Pieces::Tiny => self.talk_in_pieces(stream).await,
        }
    }

    async fn talk_in_pieces(&self, stream: TcpStream) -> Observation {
        // Pieces that wait for each other in the kernel are none.
        if let Err(error) = stream.set_nodelay(true) {
            return Observation::Broken { why: error.to_string() };
        }
        let (server, client) = tokio::io::duplex(PIPE_BYTES);
        let (from_server, mut to_server) = tokio::io::split(client);
        let (mut from_client, to_client) = stream.into_split();
        let upstream = async {
            // Its end is the server's matter, which sees the end of the pipe.
            let _ = tokio::io::copy(&mut from_client, &mut to_server).await;
            let _ = to_server.shutdown().await;
            pending().await
        };
        let downstream = async { tokio::join!(self.talk(server), send_in_pieces(from_server, to_client)).0 };
        tokio::select! {
            observation = downstream => observation,
            never = upstream => never,
        }
    }

    async fn talk(&self, stream: impl AsyncRead + AsyncWrite + Unpin) -> Observation {
        let mut stream = match self.acceptor.accept(stream).await {
            Ok(stream) => stream,
            Err(error) => return failure(&error),
        };
        let shown = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
        let client_certificate = shown.map(|leaf| leaf.to_vec());
        let mut buffer = [0; 4096];
        let mut received = Vec::new();
        // Read to the end: a connection that is closed with bytes unread is reset, and the answer may be lost with it.
        while let Ok(bytes @ 1..) = stream.read(&mut buffer).await {
            if received.is_empty() {
                received.extend_from_slice(&buffer[..bytes]);
                // A client that left needs no answer.
                let _ = stream.write_all(ANSWER).await;
                let _ = stream.shutdown().await;
            }
        }
        Observation::Trusted { client_certificate, received }
    }
}

/// Why there was no handshake.
fn failure(error: &io::Error) -> Observation {
    match error.get_ref().and_then(|source| source.downcast_ref()) {
        Some(rustls::Error::AlertReceived(alert)) => Observation::Refused { alert: *alert },
        _ => Observation::Broken { why: error.to_string() },
    }
}

/// Copies to the end, in pieces of 1, 2, ... [`MAX_PIECE_BYTES`], 1, 2, ... bytes. What a client that left does not
/// take is read all the same, so that the server never waits.
async fn send_in_pieces(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) {
    for piece_bytes in (1..=MAX_PIECE_BYTES).cycle() {
        let mut piece = [0; MAX_PIECE_BYTES];
        match from.read(&mut piece[..piece_bytes]).await {
            Ok(bytes @ 1..) if to.write_all(&piece[..bytes]).await.is_ok() => tokio::time::sleep(PAUSE).await,
            Ok(1..) => {}
            Ok(0) | Err(_) => break,
        }
    }
    // Fails when the client left.
    let _ = to.shutdown().await;
}
