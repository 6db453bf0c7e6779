//! TCP connections of the chip, each with a socket of the stack and one of this computer.

use std::io::{self, ErrorKind};

use smoltcp::iface::{SocketHandle, SocketSet};
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};
use smoltcp::time::Duration;

use super::frame::Syn;
use super::host::{Servers, Stream, Unconnected};
use super::{HOST, MAX_CONNECTIONS};

/// Per direction and connection; below 64 KiB, so that the window needs no scaling, which lwIP has off by default.
pub(super) const BUFFER_BYTES: usize = 32 * 1024;
/// How a connection is found out whose chip has restarted meanwhile and knows nothing of it: the chip answers the
/// question with a reset. Counted by the caller's clock. Below the 60 s for which the stack remembers a hardware
/// address (smoltcp 0.13.1, `iface/neighbor.rs`), so that nothing for a chip that answers has to wait for ARP.
const KEEP_ALIVE: Duration = Duration::from_secs(45);
/// How a connection is found out whose chip is off: 6 questions without an answer, and 30 s for the last.
const SILENCE: Duration = Duration::from_secs(6 * 45 + 30);

const _: () = assert!(BUFFER_BYTES <= u16::MAX as usize);

/// What becomes of the first frame of a connection.
pub(super) enum Admission {
    /// A repetition: the connection exists, and its answer is on the way.
    Known,
    /// The host has accepted, and a socket of the stack waits for the frame.
    Opened,
    /// No connection, and the chip should know.
    Refused,
    /// No connection now; the chip should try again.
    Busy,
}

/// All connections, at most [`MAX_CONNECTIONS`].
#[derive(Default)]
pub(super) struct Connections {
    list: Vec<Connection>,
}

impl Connections {
    /// Connects to the host, unless the frame is a repetition.
    pub(super) fn admit(
        &mut self,
        syn: Syn,
        sockets: &mut SocketSet<'_>,
        servers: &mut dyn Servers,
    ) -> Admission {
        if let Some(index) = self.list.iter().position(|known| known.syn.is_same_connection(&syn)) {
            let known = &self.list[index];
            if known.syn == syn && known.state(sockets) == State::SynReceived {
                return Admission::Known;
            }
            // The chip has restarted and begins its port numbers again. Nothing is left there that the old connection
            // could speak to, and the stack would leave the new one unanswered.
            self.remove(index, sockets);
        }
        if self.list.len() >= MAX_CONNECTIONS && !self.make_room(sockets) {
            return Admission::Refused;
        }
        match servers.connect(syn.host_port) {
            Ok(stream) => {
                self.list.push(Connection::new(syn, stream, sockets));
                Admission::Opened
            }
            Err(Unconnected::Refused) => Admission::Refused,
            Err(Unconnected::Busy) => Admission::Busy,
        }
    }

    /// Moves what both sides of each connection can take.
    pub(super) fn relay(&mut self, sockets: &mut SocketSet<'_>) {
        for connection in &mut self.list {
            connection.relay(sockets.get_mut(connection.socket));
        }
    }

    /// Forgets connections that are over on both sides.
    pub(super) fn remove_closed(&mut self, sockets: &mut SocketSet<'_>) {
        for index in (0..self.list.len()).rev() {
            if self.list[index].is_over(sockets) {
                self.remove(index, sockets);
            }
        }
    }

    /// Whether a connection is left that does not only wait for late repetitions.
    pub(super) fn any_alive(&self, sockets: &SocketSet<'_>) -> bool {
        self.list.iter().any(|connection| !connection.is_late(sockets))
    }

    /// How many there are, late ones too.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    fn make_room(&mut self, sockets: &mut SocketSet<'_>) -> bool {
        let late = self.list.iter().position(|connection| connection.is_late(sockets));
        if let Some(index) = late {
            self.remove(index, sockets);
        }
        late.is_some()
    }

    fn remove(&mut self, index: usize, sockets: &mut SocketSet<'_>) {
        let connection = self.list.remove(index);
        sockets.remove(connection.socket);
    }
}

/// A connection of the chip. Dropping it closes the host's socket.
struct Connection {
    syn: Syn,
    socket: SocketHandle,
    stream: Box<dyn Stream>,
    from_chip: FromChip,
    from_host: FromHost,
}

/// ```text
/// Open --FIN from the chip--> Ending --host has taken the rest--> Ended
///   \______________________ host's socket broken ________________/
/// ```
enum FromChip {
    Open,
    /// The rest stands here and not in the stack, which forgets it when the connection is over for the chip.
    Ending {
        rest: Vec<u8>,
    },
    Ended,
}

#[derive(PartialEq)]
enum FromHost {
    Open,
    Ended,
}

impl Connection {
    fn new(syn: Syn, stream: Box<dyn Stream>, sockets: &mut SocketSet<'_>) -> Self {
        let buffer = || SocketBuffer::new(vec![0; BUFFER_BYTES]);
        let mut socket = Socket::new(buffer(), buffer());
        // The host's side has decided what goes out together. Holding a small segment back until the chip
        // acknowledges the last one costs the 250 ms by which lwIP delays that.
        socket.set_nagle_enabled(false);
        socket.set_ack_delay(None);
        socket.set_keep_alive(Some(KEEP_ALIVE));
        socket.set_timeout(Some(SILENCE));
        // Refused only for port 0, which no frame that parses has; a socket that does not listen is removed with the
        // others that are over.
        let _ = socket.listen((HOST, syn.host_port));
        let socket = sockets.add(socket);
        Self { syn, socket, stream, from_chip: FromChip::Open, from_host: FromHost::Open }
    }

    fn state(&self, sockets: &SocketSet<'_>) -> State {
        sockets.get::<Socket<'_>>(self.socket).state()
    }

    fn relay(&mut self, socket: &mut Socket<'_>) {
        if self.chip_to_host(socket).and_then(|()| self.host_to_chip(socket)).is_err() {
            socket.abort();
            self.from_chip = FromChip::Ended;
            self.from_host = FromHost::Ended;
        }
    }

    fn chip_to_host(&mut self, socket: &mut Socket<'_>) -> io::Result<()> {
        if matches!(self.from_chip, FromChip::Open) {
            if has_fin(socket) {
                let mut rest = vec![0; socket.recv_queue()];
                let length = socket.recv_slice(&mut rest).unwrap_or(0);
                rest.truncate(length);
                self.from_chip = FromChip::Ending { rest };
            }
            while socket.can_recv() {
                let Ok(moved) = socket.recv(|data| counted(self.stream.write(data))) else { break };
                if !matches!(moved?, Some(1..)) {
                    break;
                }
            }
        }
        if let FromChip::Ending { rest } = &mut self.from_chip {
            while !rest.is_empty() {
                let (taken, moved) = counted(self.stream.write(rest));
                rest.drain(..taken);
                if !matches!(moved?, Some(1..)) {
                    return Ok(());
                }
            }
            self.stream.end()?;
            self.from_chip = FromChip::Ended;
        }
        Ok(())
    }

    fn host_to_chip(&mut self, socket: &mut Socket<'_>) -> io::Result<()> {
        while self.from_host == FromHost::Open && socket.can_send() {
            let Ok(moved) = socket.send(|room| counted(self.stream.read(room))) else { break };
            match moved? {
                Some(0) => {
                    socket.close();
                    self.from_host = FromHost::Ended;
                }
                Some(_) => {}
                None => break,
            }
        }
        Ok(())
    }

    fn is_over(&self, sockets: &SocketSet<'_>) -> bool {
        let socket = sockets.get::<Socket<'_>>(self.socket);
        match socket.state() {
            // The chip has taken its SYN back, or the stack did not like it.
            State::Listen => true,
            // The poll that closed it has sent its reset. If that is lost, the chip's next segment gets another.
            State::Closed => !matches!(self.from_chip, FromChip::Ending { .. }),
            State::SynSent
            | State::SynReceived
            | State::Established
            | State::FinWait1
            | State::FinWait2
            | State::CloseWait
            | State::Closing
            | State::LastAck
            | State::TimeWait => false,
        }
    }

    /// Whether nothing but repetitions of the chip's last frames can still come.
    fn is_late(&self, sockets: &SocketSet<'_>) -> bool {
        self.state(sockets) == State::TimeWait && matches!(self.from_chip, FromChip::Ended)
    }
}

/// Whether the chip has sent all that it will send. Not asked of a closed socket: a reset closes it too.
fn has_fin(socket: &Socket<'_>) -> bool {
    matches!(socket.state(), State::CloseWait | State::Closing | State::LastAck | State::TimeWait)
}

/// The number of bytes moved, for the stack, and the same for the relay: `None` if the host's socket would block.
fn counted(outcome: io::Result<usize>) -> (usize, io::Result<Option<usize>>) {
    match outcome {
        Ok(bytes) => (bytes, Ok(Some(bytes))),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => (0, Ok(None)),
        Err(error) => (0, Err(error)),
    }
}
