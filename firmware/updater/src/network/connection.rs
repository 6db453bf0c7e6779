//! The one TCP connection. Its socket is lent out and comes back, closed, when the connection is dropped: so the stack
//! can still say goodbye to the server.

use core::cell::Cell;

use embassy_net::tcp::{Error, TcpSocket};
use embedded_io_async::{ErrorType, Read, Write};

/// Receive window: two TLS records of the server (2 KiB each, its `max_fragment_size`), so that one can be on its way
/// while the other is written to flash. Larger would not be faster: flash is what installs wait for, and while it is busy
/// all of the window has to fit into the radio's buffers (see [`super::WINDOW_FRAMES`]).
pub(super) const RX_BYTES: usize = 4096;
/// Send buffer: the longest request, a check-in or a CSR, goes out in two.
const TX_BYTES: usize = 1024;

pub(super) struct Buffers {
    pub(super) rx: [u8; RX_BYTES],
    pub(super) tx: [u8; TX_BYTES],
}

impl Buffers {
    pub(super) const fn new() -> Self {
        Self { rx: [0; RX_BYTES], tx: [0; TX_BYTES] }
    }
}

/// Where the socket is while nobody uses it.
pub(super) struct SocketHome(Cell<Option<TcpSocket<'static>>>);

impl SocketHome {
    pub(super) fn new(socket: TcpSocket<'static>) -> Self {
        Self(Cell::new(Some(socket)))
    }

    pub(super) fn take(&self) -> Option<TcpSocket<'static>> {
        self.0.take()
    }
}

/// An open TCP connection.
pub(crate) struct Connection {
    socket: Option<TcpSocket<'static>>,
    home: &'static SocketHome,
}

impl Connection {
    pub(super) fn new(socket: TcpSocket<'static>, home: &'static SocketHome) -> Self {
        Self { socket: Some(socket), home }
    }

    fn socket(&mut self) -> Result<&mut TcpSocket<'static>, Error> {
        self.socket.as_mut().ok_or(Error::ConnectionReset)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if let Some(mut socket) = self.socket.take() {
            socket.close();
            self.home.0.set(Some(socket));
        }
    }
}

impl ErrorType for Connection {
    type Error = Error;
}

impl Read for Connection {
    async fn read(&mut self, bytes: &mut [u8]) -> Result<usize, Error> {
        self.socket()?.read(bytes).await
    }
}

impl Write for Connection {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, Error> {
        self.socket()?.write(bytes).await
    }

    async fn flush(&mut self) -> Result<(), Error> {
        self.socket()?.flush().await
    }
}
