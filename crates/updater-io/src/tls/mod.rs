//! TLS 1.3 client over any byte stream, on unmodified rustls through its unbuffered API.
//!
//! The crypto provider and the clock are injected ([`client_config`]), so that the same code runs on the host
//! and on a chip. Memory: one buffer for what arrives, one for what leaves, one for decrypted bytes that nobody
//! has read yet. The buffers start small, because the server sends records of at most 2 KiB; a server that sends
//! longer ones costs memory up to [`MAX_INCOMING_BYTES`] and no further.

mod config;
mod error;
mod incoming;

pub use config::{Identity, client_config, try_anchors, try_identity};
pub use error::{RustlsError, TlsError};
pub use incoming::INITIAL_INCOMING_BYTES;

use alloc::sync::Arc;
use alloc::vec::Vec;

use embedded_io_async::{ErrorKind, ErrorType, Read, Write};
use rustls::ClientConfig;
use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::unbuffered::{ConnectionState, EncodeError, EncodeTlsData, EncryptError, UnbufferedStatus};

use incoming::Incoming;

/// Size that the buffer for what arrives never exceeds, in bytes: one record of the longest kind that TLS 1.3 knows
/// (RFC 8446 section 5.2: 2^14 + 256 bytes, and a header of 5).
pub const MAX_INCOMING_BYTES: usize = 5 + (1 << 14) + 256;

/// Plaintext in one outgoing record, in bytes, at most. A check-in fits into one record.
pub const MAX_WRITE_BYTES: usize = 2048;

/// The longest outgoing record: header (5 bytes, RFC 8446 section 5.1), plaintext, content type (1), tag (16).
const MAX_OUTGOING_RECORD_BYTES: usize = 5 + MAX_WRITE_BYTES + 1 + 16;

/// An established TLS connection.
///
/// Reading and writing are not cancel-safe: after a read or write that was dropped before it ended (a deadline),
/// drop the session too. After an error every further operation fails with [`TlsError::ConnectionLost`].
pub struct TlsSession<C> {
    connection: C,
    tls: UnbufferedClientConnection,
    incoming: Incoming,
    /// Records to send.
    outgoing: Vec<u8>,
    /// Decrypted bytes; those before `read_bytes` have been read.
    plaintext: Vec<u8>,
    read_bytes: usize,
    /// The server has sent close_notify: what was decrypted is all there is.
    server_closed: bool,
    /// An operation failed, or was dropped in the middle of a record: nothing more can be done.
    failed: bool,
}

/// What rustls is to send once the handshake is over.
#[derive(Clone, Copy)]
enum Outbound<'a> {
    Nothing,
    /// Not empty, at most [`MAX_WRITE_BYTES`].
    Plaintext(&'a [u8]),
    CloseNotify,
}

/// What there is to do after rustls made a step.
enum Step {
    /// Let rustls make the next step.
    Continue,
    /// Send what is in `outgoing`.
    Transmit,
    /// The [`Outbound`] was encrypted into `outgoing`: send it, and the operation is done.
    Sealed,
    /// The handshake needs more bytes from the server.
    NeedsInput,
    /// The handshake is over, and nothing is to be done.
    Established,
    /// Both sides have closed.
    Closed,
}

impl<C: Read + Write> TlsSession<C> {
    /// Shakes hands with the server named `server_name`.
    ///
    /// A server that wants a client certificate judges it after this returns (TLS 1.3): its refusal is the error
    /// of the first read, [`TlsError::RefusedByServer`].
    ///
    /// # Errors
    /// [`TlsError`]; an alert has been sent to the server where TLS asks for one.
    pub async fn handshake(
        connection: C,
        config: Arc<ClientConfig>,
        server_name: ServerName<'static>,
    ) -> Result<Self, TlsError> {
        let tls = UnbufferedClientConnection::new(config, server_name).map_err(TlsError::from_rustls)?;
        let mut session = Self {
            connection,
            tls,
            incoming: Incoming::new()?,
            outgoing: Vec::new(),
            plaintext: Vec::new(),
            read_bytes: 0,
            server_closed: false,
            failed: false,
        };
        loop {
            match session.step(Outbound::Nothing).await? {
                Step::Continue => {}
                Step::Transmit => session.transmit().await?,
                Step::NeedsInput => session.receive().await?,
                Step::Sealed | Step::Established => break,
                Step::Closed => return Err(TlsError::Truncated),
            }
        }
        session.incoming.shrink();
        session.outgoing.shrink_to(MAX_OUTGOING_RECORD_BYTES);
        Ok(session)
    }

    /// The certificate that the server showed and that was accepted.
    #[must_use]
    pub fn server_certificate(&self) -> Option<&CertificateDer<'static>> {
        self.tls.peer_certificates()?.first()
    }

    /// Sends close_notify and gives the connection back. It does not wait for the server's.
    ///
    /// # Errors
    /// [`TlsError`]
    pub async fn close(mut self) -> Result<C, TlsError> {
        loop {
            match self.step(Outbound::CloseNotify).await? {
                Step::Continue => {}
                Step::Transmit => self.transmit().await?,
                Step::NeedsInput => self.receive().await?,
                Step::Sealed => {
                    self.transmit().await?;
                    return Ok(self.connection);
                }
                Step::Established | Step::Closed => return Ok(self.connection),
            }
        }
    }

    /// Lets rustls make one step; when it fails, sends the alert that tells the server why.
    async fn step(&mut self, outbound: Outbound<'_>) -> Result<Step, TlsError> {
        if self.failed {
            return Err(TlsError::ConnectionLost { kind: ErrorKind::NotConnected });
        }
        match self.advance(outbound) {
            Ok(step) => Ok(step),
            Err(error) => {
                // A server that sent an alert itself gets none.
                if !matches!(error, TlsError::RefusedByServer { .. }) {
                    self.queue_alert();
                    // The error at hand says more than one about an alert that could not be sent.
                    let _ = self.transmit().await;
                }
                self.failed = true;
                Err(error)
            }
        }
    }

    fn advance(&mut self, outbound: Outbound<'_>) -> Result<Step, TlsError> {
        let UnbufferedStatus { mut discard, state } =
            self.tls.process_tls_records(self.incoming.filled_mut());
        let step = match state.map_err(TlsError::from_rustls)? {
            ConnectionState::ReadTraffic(mut traffic) => {
                if self.read_bytes == self.plaintext.len() {
                    self.plaintext.clear();
                    self.read_bytes = 0;
                }
                while let Some(record) = traffic.next_record() {
                    let record = record.map_err(TlsError::from_rustls)?;
                    discard += record.discard;
                    let room = self.plaintext.try_reserve_exact(record.payload.len());
                    room.map_err(|_| TlsError::OutOfMemory { wanted_bytes: record.payload.len() })?;
                    self.plaintext.extend_from_slice(record.payload);
                }
                Step::Continue
            }
            ConnectionState::EncodeTlsData(data) => {
                encode(&mut self.outgoing, data)?;
                Step::Continue
            }
            ConnectionState::TransmitTlsData(data) => {
                data.done();
                Step::Transmit
            }
            ConnectionState::BlockedHandshake => Step::NeedsInput,
            ConnectionState::WriteTraffic(mut traffic) => {
                let sealing = |error| match error {
                    EncryptError::InsufficientSize(size) => Some(size.required_size),
                    EncryptError::EncryptExhausted => None,
                };
                match outbound {
                    Outbound::Nothing => Step::Established,
                    Outbound::Plaintext(bytes) => {
                        let space_bytes = bytes.len() + MAX_OUTGOING_RECORD_BYTES - MAX_WRITE_BYTES;
                        append(&mut self.outgoing, space_bytes, |space| {
                            traffic.encrypt(bytes, space).map_err(sealing)
                        })?;
                        Step::Sealed
                    }
                    Outbound::CloseNotify => {
                        append(&mut self.outgoing, 0, |space| {
                            traffic.queue_close_notify(space).map_err(sealing)
                        })?;
                        Step::Sealed
                    }
                }
            }
            ConnectionState::PeerClosed => {
                self.server_closed = true;
                Step::Continue
            }
            ConnectionState::Closed => {
                self.server_closed = true;
                Step::Closed
            }
            // Early data is a server's matter, and rustls 0.23 has no further states.
            _ => return Err(TlsError::Unexpected),
        };
        self.incoming.discard(discard);
        Ok(step)
    }

    /// Puts the alert that rustls has prepared, if any, into `outgoing`. rustls hands it out before it looks at
    /// input again, and must not be asked twice: it would judge the same bytes once more.
    fn queue_alert(&mut self) {
        let status = self.tls.process_tls_records(self.incoming.filled_mut());
        if let Ok(ConnectionState::EncodeTlsData(data)) = status.state {
            // Without its alert the server learns the reason from nobody, which is no reason to fail otherwise.
            let _ = encode(&mut self.outgoing, data);
        }
    }

    async fn receive(&mut self) -> Result<(), TlsError> {
        let received = match self.incoming.space() {
            Ok(space) => match self.connection.read(space).await {
                Ok(0) => Err(TlsError::Truncated),
                Ok(bytes) => Ok(bytes),
                Err(error) => Err(lost(&error)),
            },
            Err(error) => Err(error),
        };
        match received {
            Ok(bytes) => {
                self.incoming.add(bytes);
                Ok(())
            }
            Err(error) => {
                self.failed = true;
                Err(error)
            }
        }
    }

    async fn transmit(&mut self) -> Result<(), TlsError> {
        // Half a record may be out when this is dropped or fails.
        let failed_before = core::mem::replace(&mut self.failed, true);
        let mut sent_bytes = 0;
        // Not `write_all`: it panics on a connection that takes nothing.
        while let Some(rest @ [_, ..]) = self.outgoing.get(sent_bytes..) {
            match self.connection.write(rest).await.map_err(|error| lost(&error))? {
                0 => return Err(TlsError::ConnectionLost { kind: ErrorKind::WriteZero }),
                bytes => sent_bytes += bytes,
            }
        }
        self.outgoing.clear();
        self.connection.flush().await.map_err(|error| lost(&error))?;
        self.failed = failed_before;
        Ok(())
    }

    /// Moves decrypted bytes to the reader.
    fn take_plaintext(&mut self, buffer: &mut [u8]) -> usize {
        let unread = self.plaintext.get(self.read_bytes..).unwrap_or_default();
        let bytes = unread.len().min(buffer.len());
        buffer[..bytes].copy_from_slice(&unread[..bytes]);
        self.read_bytes += bytes;
        bytes
    }
}

fn lost(error: &impl embedded_io_async::Error) -> TlsError {
    TlsError::ConnectionLost { kind: error.kind() }
}

/// Appends a handshake record or an alert to `outgoing`.
fn encode(outgoing: &mut Vec<u8>, mut data: EncodeTlsData<'_, ClientConnectionData>) -> Result<(), TlsError> {
    append(outgoing, 0, |space| {
        data.encode(space).map_err(|error| match error {
            EncodeError::InsufficientSize(size) => Some(size.required_size),
            EncodeError::AlreadyEncoded => None,
        })
    })
}

/// Appends to `buffer` what `encode` writes into the space behind it; `space_bytes` is the first guess of how
/// much that is. `encode` says the space that it needs, or nothing when it failed for another reason.
fn append(
    buffer: &mut Vec<u8>,
    mut space_bytes: usize,
    mut encode: impl FnMut(&mut [u8]) -> Result<usize, Option<usize>>,
) -> Result<(), TlsError> {
    let start = buffer.len();
    loop {
        buffer
            .try_reserve_exact(space_bytes)
            .map_err(|_| TlsError::OutOfMemory { wanted_bytes: space_bytes })?;
        buffer.resize(start + space_bytes, 0);
        match encode(&mut buffer[start..]) {
            Ok(bytes) => {
                buffer.truncate(start + bytes);
                return Ok(());
            }
            Err(Some(required_bytes)) if required_bytes > space_bytes => space_bytes = required_bytes,
            Err(_) => {
                buffer.truncate(start);
                return Err(TlsError::Unexpected);
            }
        }
    }
}

impl<C: ErrorType> ErrorType for TlsSession<C> {
    type Error = TlsError;
}

impl<C: Read + Write> Read for TlsSession<C> {
    /// Reads decrypted bytes. 0 means that the server has closed the connection in an orderly way; a connection
    /// that just ends is [`TlsError::Truncated`].
    async fn read(&mut self, buffer: &mut [u8]) -> Result<usize, TlsError> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            match self.take_plaintext(buffer) {
                0 if self.server_closed => return Ok(0),
                0 => {}
                bytes => return Ok(bytes),
            }
            match self.step(Outbound::Nothing).await? {
                Step::Continue | Step::Sealed => {}
                Step::Transmit => self.transmit().await?,
                Step::NeedsInput | Step::Established => self.receive().await?,
                Step::Closed => return Ok(0),
            }
        }
    }
}

impl<C: Read + Write> Write for TlsSession<C> {
    /// Sends the first bytes of `buffer`, at most [`MAX_WRITE_BYTES`], as one record, and returns their number.
    async fn write(&mut self, buffer: &[u8]) -> Result<usize, TlsError> {
        let plaintext = &buffer[..buffer.len().min(MAX_WRITE_BYTES)];
        if plaintext.is_empty() {
            return Ok(0);
        }
        loop {
            match self.step(Outbound::Plaintext(plaintext)).await? {
                Step::Continue => {}
                Step::Transmit => self.transmit().await?,
                Step::Sealed => {
                    self.transmit().await?;
                    return Ok(plaintext.len());
                }
                Step::NeedsInput | Step::Established => self.receive().await?,
                Step::Closed => return Err(TlsError::ConnectionLost { kind: ErrorKind::BrokenPipe }),
            }
        }
    }

    async fn flush(&mut self) -> Result<(), TlsError> {
        if self.failed {
            return Err(TlsError::ConnectionLost { kind: ErrorKind::NotConnected });
        }
        self.transmit().await
    }
}
