//! A network behind the chip's Ethernet controller, without privileges and without a device of this computer.
//!
//! | address | who answers | what |
//! | --- | --- | --- |
//! | [`HOST`] | a TCP/IP stack in this module | ARP, ICMP echo, and TCP that is relayed to the same port of `127.0.0.1` |
//! | [`HOST`] and broadcast, UDP port 67 | a DHCP server with one lease | [`CHIP`], for a day |
//! | [`DNS`], UDP port 53 | a name server without names | "no such name" (NXDOMAIN) to each query |
//!
//! Anything else that the chip sends is counted in [`Stats::unanswered`] and not answered, so that a program on the
//! chip can reach nothing but this computer's loopback.
//!
//! Frames are Ethernet II without FCS, at most [`MAX_FRAME_BYTES`]; those for the chip are not padded to 60 bytes.
//!
//! Where the network is kinder than a real one: it loses nothing as long as the chip takes its frames, it is done in no
//! time, and a server always gets its connection's end, because this computer does not crash with the chip. A chip that
//! resets a connection ends it for the server as one that closes it: the standard library cannot reset a socket.

mod device;
mod dhcp;
mod dns;
mod frame;
mod host;
mod relay;
#[cfg(test)]
mod tests;

use std::time::Duration;

use smoltcp::iface::{Config, Interface, SocketSet};
use smoltcp::time::Instant;
use smoltcp::wire::{EthernetAddress, Ipv4Address, Ipv4Cidr};

use device::Port;
use frame::{Incoming, Syn};
use host::HostSockets;
pub use host::{Servers, Stream, Unconnected};
use relay::{Admission, Connections};

/// The address by which the chip reaches this computer's loopback; also its router and its DHCP server.
pub const HOST: Ipv4Address = Ipv4Address::new(10, 0, 2, 2);
/// The address of the name server.
pub const DNS: Ipv4Address = Ipv4Address::new(10, 0, 2, 3);
/// The address that DHCP gives to the chip. A chip may also take another of 10.0.2.0/24 by itself.
pub const CHIP: Ipv4Address = Ipv4Address::new(10, 0, 2, 15);
/// The hardware address of [`HOST`] and of [`DNS`]; bit 1 of its first byte says that it is locally administered.
pub const HOST_MAC: EthernetAddress = EthernetAddress([0x52, 0x55, 0x0a, 0x00, 0x02, 0x02]);
/// The largest frame in bytes: 14 of Ethernet II and 1500 of IP. A larger one from the chip is not answered.
pub const MAX_FRAME_BYTES: usize = 14 + 1500;
/// The most TCP connections at once. The chip gets a reset for one more.
pub const MAX_CONNECTIONS: usize = 32;

const PREFIX_BITS: u8 = 24;

/// Why there is no network.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// The operating system refuses a queue of socket events, most likely because too many files are open.
    #[error("no queue of socket events from the operating system")]
    Events(#[source] std::io::Error),
}

/// What has happened since the network exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Stats {
    /// Frames that the chip has sent.
    pub frames_from_chip: u64,
    /// Frames that the chip has received: those that [`UserNetwork::receive`] has returned.
    pub frames_to_chip: u64,
    /// Frames from the chip that nobody here answers: malformed ones, other addresses, other protocols.
    pub unanswered: u64,
    /// TCP connections that the host has accepted.
    pub tcp_opened: u64,
    /// Attempts at a TCP connection that the chip got a reset for: nobody listens, or [`MAX_CONNECTIONS`] are open.
    pub tcp_refused: u64,
}

/// A network behind the chip's Ethernet controller in which 10.0.2.2 is this computer's loopback.
///
/// The caller's loop carries frames and time: [`send`](Self::send) what the chip sends, [`poll`](Self::poll), give the
/// chip what [`receive`](Self::receive) returns, and, if the chip sleeps, [`wait`](Self::wait).
pub struct UserNetwork {
    interface: Interface,
    sockets: SocketSet<'static>,
    port: Port,
    connections: Connections,
    servers: Box<dyn Servers>,
    now: Instant,
    stats: Stats,
}

impl UserNetwork {
    /// A network without connections, at time zero, in which [`HOST`] is this computer.
    ///
    /// # Errors
    /// [`NetworkError`]
    pub fn new() -> Result<Self, NetworkError> {
        Ok(Self::with(Box::new(HostSockets::new().map_err(NetworkError::Events)?)))
    }

    /// The same with other servers at [`HOST`].
    pub fn with(servers: Box<dyn Servers>) -> Self {
        let mut port = Port::default();
        // The seed stays as it is (zero): sequence numbers are no secret between a chip and its own computer, and two
        // runs of an emulation then differ in nothing that this module could keep equal.
        let mut interface = Interface::new(Config::new(HOST_MAC.into()), &mut port, Instant::ZERO);
        interface.update_ip_addrs(|addresses| {
            addresses.extend([HOST, DNS].map(|address| Ipv4Cidr::new(address, PREFIX_BITS).into()));
        });
        Self {
            interface,
            sockets: SocketSet::new(Vec::new()),
            port,
            connections: Connections::default(),
            servers,
            now: Instant::ZERO,
            stats: Stats::default(),
        }
    }

    /// Takes a frame that the chip sends.
    ///
    /// Answers are ready after the next [`poll`](Self::poll). The first frame of a TCP connection connects to the host
    /// here, which takes up to 100 ms if a server on the host does not accept.
    pub fn send(&mut self, frame: &[u8]) {
        self.stats.frames_from_chip += 1;
        let answered = match frame::classify(frame) {
            Some(Incoming::Stack) => {
                self.process(frame);
                true
            }
            Some(Incoming::Syn(syn)) => {
                self.open(syn, frame);
                true
            }
            Some(Incoming::Dhcp(message)) => self.answer(dhcp::answer(message)),
            Some(Incoming::Dns { asker, query }) => self.answer(dns::answer(&asker, query)),
            None => false,
        };
        if !answered {
            self.stats.unanswered += 1;
        }
    }

    /// The next frame for the chip.
    ///
    /// At most 64 frames wait here. While they do, TCP keeps its data, and other answers are lost as in a full switch.
    pub fn receive(&mut self) -> Option<Vec<u8>> {
        let frame = self.port.next()?;
        self.stats.frames_to_chip += 1;
        Some(frame)
    }

    /// Moves data between the chip and the host's sockets, and sends again what the chip has not acknowledged. Never
    /// blocks.
    ///
    /// `now` is the time since the network exists, by the caller's clock; a clock that goes back counts as standing
    /// still.
    pub fn poll(&mut self, now: Duration) {
        let now = i64::try_from(now.as_micros()).map_or(self.now, Instant::from_micros);
        self.now = self.now.max(now);
        self.servers.poll_begins();
        self.connections.relay(&mut self.sockets);
        self.interface.poll(self.now, &mut self.port, &mut self.sockets);
        self.connections.remove_closed(&mut self.sockets);
    }

    /// Whether something may come although the chip sends nothing: a frame that waits, a TCP connection that opens, is
    /// open or closes, or the end of the chip's data if the host has not taken it yet. While this is false, neither [`poll`](Self::poll) nor [`wait`](Self::wait) has
    /// anything to do until the chip sends.
    pub fn is_waiting(&self) -> bool {
        !self.port.is_empty() || self.connections.any_alive(&self.sockets)
    }

    /// Waits up to `timeout` of wall time for a host socket to have something to do, and returns early if one has.
    /// [`poll`](Self::poll) then does it.
    ///
    /// Of a timeout of 1 ms or more only the whole milliseconds are waited, and a shorter one is not cut short, because
    /// the operating systems count in milliseconds here.
    pub fn wait(&mut self, timeout: Duration) {
        self.servers.wait(timeout);
    }

    /// What has happened until now.
    pub fn stats(&self) -> Stats {
        self.stats
    }

    fn answer(&mut self, frame: Option<Vec<u8>>) -> bool {
        match frame {
            Some(frame) => {
                self.port.queue(frame);
                true
            }
            None => false,
        }
    }

    fn open(&mut self, syn: Syn, frame: &[u8]) {
        match self.connections.admit(syn, &mut self.sockets, &mut *self.servers) {
            Admission::Known => self.process(frame),
            Admission::Opened => {
                self.stats.tcp_opened += 1;
                self.process(frame);
            }
            // The stack has no socket for this port and answers with a reset.
            Admission::Refused => {
                self.stats.tcp_refused += 1;
                self.process(frame);
            }
            // As if the frame were lost: the chip sends it again.
            Admission::Busy => {}
        }
    }

    fn process(&mut self, frame: &[u8]) {
        self.port.deliver(frame);
        self.interface.poll_ingress_single(self.now, &mut self.port, &mut self.sockets);
        // A listening socket must not outlive the frame that it was made for, or it would take the next connection to
        // the same port away from its own.
        self.connections.remove_closed(&mut self.sockets);
    }
}
