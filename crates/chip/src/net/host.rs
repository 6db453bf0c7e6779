//! Sockets of this computer, and waiting for them.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr};
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

/// Why the host has not accepted a connection.
pub(super) enum Unconnected {
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

    /// A connection to `port` of this computer's loopback that does not block.
    pub(super) fn connect(&self, port: u16) -> Result<TcpStream, Unconnected> {
        self.try_connect(port).map_err(|error| match error.kind() {
            ErrorKind::TimedOut => Unconnected::Busy,
            _ => Unconnected::Refused,
        })
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

    /// The sockets are looked at now, whatever the events have said.
    pub(super) fn poll_begins(&mut self) {
        self.has_work = false;
    }

    /// Returns at the first event, or after `timeout`.
    pub(super) fn wait(&mut self, timeout: Duration) {
        let whole =
            Duration::from_secs(timeout.as_secs()) + Duration::from_millis(timeout.subsec_millis().into());
        self.look(whole);
        if whole.is_zero() && !self.has_work {
            thread::sleep(timeout);
            self.look(Duration::ZERO);
        }
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
