//! A TLS server whose bytes are changed, cut off, doubled, or preceded by others on their way to the device: what the
//! device reads is what the server sent, or nothing.

use std::slice;
use std::sync::{Arc, OnceLock};

use crate::pki::{Authority, NOW_S};
use arbitrary::Arbitrary;
use embedded_io_async::{ErrorKind, ErrorType, Read, Write};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ServerConfig, ServerConnection};
use updater_io::time::FloorClock;
use updater_io::tls::{TlsSession, client_config};

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";

#[derive(Arbitrary, Debug)]
pub struct Input<'a> {
    /// What arrives before the first byte of the server.
    before: &'a [u8],
    changes: Vec<(u16, u8)>,
    /// The bytes from here on come twice.
    doubled: Option<(u16, u8)>,
    end: Option<u16>,
    piece_bytes: u8,
}

pub fn run(input: Input<'_>) {
    let untouched =
        input.before.is_empty() && input.changes.is_empty() && input.doubled.is_none() && input.end.is_none();
    let read = crate::block_on(exchange(Server::new(input)));
    match read {
        Some(read) => assert!(ANSWER.starts_with(&read), "bytes that nobody sent: {read:?}"),
        None => assert!(!untouched, "a good handshake failed"),
    }
}

/// What a device reads, as far as it reads anything.
async fn exchange(server: Server<'_>) -> Option<Vec<u8>> {
    let name = ServerName::try_from("localhost").unwrap();
    let mut session = TlsSession::handshake(server, world().client.clone(), name).await.ok()?;
    session.write(b"GET / HTTP/1.1\r\n\r\n").await.ok()?;
    session.flush().await.ok()?;
    let (mut read, mut buffer) = (Vec::new(), [0; 64]);
    while let Ok(bytes @ 1..) = session.read(&mut buffer).await {
        read.extend_from_slice(&buffer[..bytes]);
    }
    Some(read)
}

struct World {
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
}

fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(|| {
        let authority = Authority::new("Test CA");
        let server = authority.server();
        let provider = || Arc::new(rustls::crypto::ring::default_provider());
        let clock = Arc::new(FloorClock::new(NOW_S));
        let client =
            client_config(device_provider(), clock, slice::from_ref(&authority.certificate), None).unwrap();
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![server.certificate.clone()], server.private_key())
            .unwrap();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        World { client: Arc::new(client), server: Arc::new(config) }
    })
}

/// What the chip computes with.
fn device_provider() -> Arc<rustls::crypto::CryptoProvider> {
    static KEY_EXCHANGE: tls_crypto::Secp256r1 = tls_crypto::Secp256r1::new(&Seeded);
    Arc::new(tls_crypto::provider(&KEY_EXCHANGE))
}

/// The same numbers each time, so that a run can be repeated.
#[derive(Debug)]
struct Seeded;

impl rustls::crypto::SecureRandom for Seeded {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), rustls::crypto::GetRandomFailed> {
        for (byte, number) in bytes.iter_mut().zip(1..) {
            *byte = number;
        }
        Ok(())
    }
}

/// A server at the other end of a bad line.
struct Server<'a> {
    tls: ServerConnection,
    input: Input<'a>,
    answered: bool,
    /// What is on its way to the device.
    line: Vec<u8>,
    /// How much the server has sent, and how much of the line the device has read.
    sent_bytes: usize,
    read_bytes: usize,
}

impl<'a> Server<'a> {
    fn new(input: Input<'a>) -> Self {
        let tls = ServerConnection::new(world().server.clone()).unwrap();
        let line = input.before.to_vec();
        Self { tls, input, answered: false, line, sent_bytes: 0, read_bytes: 0 }
    }

    /// Puts on the line what the server has to say.
    fn send(&mut self) {
        let mut bytes = Vec::new();
        while self.tls.wants_write() {
            self.tls.write_tls(&mut bytes).unwrap();
        }
        for (place, changed) in &self.input.changes {
            if let Some(byte) =
                usize::from(*place).checked_sub(self.sent_bytes).and_then(|at| bytes.get_mut(at))
            {
                *byte ^= changed;
            }
        }
        let end = self.input.end.map_or(usize::MAX, |end| usize::from(end).saturating_sub(self.sent_bytes));
        let sent = bytes.len();
        bytes.truncate(end);
        if let Some((place, length)) = self.input.doubled
            && let Some(at) = usize::from(place).checked_sub(self.sent_bytes).filter(|at| *at < bytes.len())
        {
            let again = bytes[at..bytes.len().min(at + usize::from(length))].to_vec();
            let at = at + again.len();
            bytes.splice(at..at, again);
        }
        self.sent_bytes += sent;
        self.line.extend(bytes);
    }
}

impl ErrorType for Server<'_> {
    type Error = ErrorKind;
}

impl Read for Server<'_> {
    async fn read(&mut self, buffer: &mut [u8]) -> Result<usize, ErrorKind> {
        let waiting = &self.line[self.read_bytes..];
        let bytes = waiting.len().min(buffer.len()).min(usize::from(self.input.piece_bytes) * 16 + 1);
        buffer[..bytes].copy_from_slice(&waiting[..bytes]);
        self.read_bytes += bytes;
        Ok(bytes)
    }
}

impl Write for Server<'_> {
    async fn write(&mut self, mut bytes: &[u8]) -> Result<usize, ErrorKind> {
        let length = bytes.len();
        while !bytes.is_empty() {
            self.tls.read_tls(&mut bytes).map_err(|_| ErrorKind::Other)?;
            let Ok(state) = self.tls.process_new_packets() else { break };
            if state.plaintext_bytes_to_read() > 0 && !self.answered {
                self.answered = true;
                std::io::Write::write_all(&mut self.tls.writer(), ANSWER).map_err(|_| ErrorKind::Other)?;
                self.tls.send_close_notify();
            }
        }
        self.send();
        Ok(length)
    }

    async fn flush(&mut self) -> Result<(), ErrorKind> {
        Ok(())
    }
}
