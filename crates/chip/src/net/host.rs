//! Who answers the chip's connections: by default the sockets of this computer.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr};
use std::thread;
use std::time::Duration;

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use super::MAX_CONNECTIONS;

/// Loopback connects or refuses at once, except if a server's queue of connections is full: then a chip's SYN may as
/// well be lost, and be sent again. Meanwhile the chip stands still.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(100);
/// A poll looks at every socket, so nobody asks which one an event is from.
const ANY: Token = Token(0);

/// Servers that the chip reaches at [`HOST`](super::HOST).
pub trait Servers: Send {
    /// A connection to the server at `port`. Nothing that is done with it may block.
    ///
    /// # Errors
    /// There is none now.
    fn connect(&mut self, port: u16) -> Result<Box<dyn Stream>, Unconnected>;

    /// All connections are looked at now.
    fn poll_begins(&mut self) {}

    /// Returns when a connection may have something to do, or after `timeout` of wall time.
    fn wait(&mut self, timeout: Duration) {
        thread::sleep(timeout);
    }
}

/// A server's end of a connection, without blocking. Dropping it closes the connection.
pub trait Stream: Read + Write + Send {
    /// The chip has sent all that it will send.
    ///
    /// # Errors
    /// The connection is broken.
    fn end(&mut self) -> io::Result<()>;
}

impl Stream for TcpStream {
    fn end(&mut self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }
}

/// Why there is no connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unconnected {
    /// Nobody listens, or this computer has no more sockets.
    Refused,
    /// A server listens and takes no more connections for now.
    Busy,
}

/// The queue of events of the host's sockets.
///
/// Events are edges: one comes when a socket that was read to its end has data again, or when one that was full has
/// room again. The relay reads and writes until then, or until the chip's side is full or empty, and that changes only
/// with a frame from the chip.
pub(super) struct HostSockets {
    poll: Poll,
    events: Events,
    /// An event was seen and no poll has followed yet.
    has_work: bool,
}

impl HostSockets {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self { poll: Poll::new()?, events: Events::with_capacity(MAX_CONNECTIONS), has_work: false })
    }

    fn try_connect(&self, port: u16) -> io::Result<TcpStream> {
        let server = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let stream = std::net::TcpStream::connect_timeout(&server, CONNECT_TIMEOUT)?;
        // The system may choose the very port that it connects to, and TCP then connects the socket with itself
        // (RFC 9293, 3.5, simultaneous open). That is nobody who listens.
        if stream.local_addr()? == server {
            return Err(ErrorKind::ConnectionRefused.into());
        }
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        let mut stream = TcpStream::from_std(stream);
        self.poll.registry().register(&mut stream, ANY, Interest::READABLE | Interest::WRITABLE)?;
        Ok(stream)
    }

    fn look(&mut self, timeout: Duration) {
        if self.has_work {
            return;
        }
        // An error here is a signal to the process. The caller is back early and polls, as after an event.
        let outcome = self.poll.poll(&mut self.events, Some(timeout));
        self.has_work = outcome.is_ok() && !self.events.is_empty();
    }
}

impl Servers for HostSockets {
    /// A connection to `port` of this computer's loopback.
    fn connect(&mut self, port: u16) -> Result<Box<dyn Stream>, Unconnected> {
        match self.try_connect(port) {
            Ok(stream) => Ok(Box::new(stream)),
            Err(error) if error.kind() == ErrorKind::TimedOut => Err(Unconnected::Busy),
            Err(_) => Err(Unconnected::Refused),
        }
    }

    /// Whatever the events have said.
    fn poll_begins(&mut self) {
        self.has_work = false;
    }

    /// Returns at the first event, or after `timeout`.
    fn wait(&mut self, timeout: Duration) {
        let whole =
            Duration::from_secs(timeout.as_secs()) + Duration::from_millis(timeout.subsec_millis().into());
        self.look(whole);
        if whole.is_zero() && !self.has_work {
            thread::sleep(timeout);
            self.look(Duration::ZERO);
        }
    }
}
