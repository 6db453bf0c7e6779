//! A chip on a cable to the network under test.

use std::fmt::Debug;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::socket::AnySocket;
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};
use smoltcp::wire::{EthernetAddress, Ipv4Address, Ipv4Cidr};

use crate::net::device::Port;
use crate::net::{CHIP, HOST, UserNetwork};

pub(super) const CHIP_MAC: EthernetAddress = EthernetAddress([0x02, 0, 0, 0, 0, 1]);
/// By the clock of the wall; the slowest test takes a few seconds.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) struct Lab {
    pub(super) net: UserNetwork,
    pub(super) chip: Interface,
    pub(super) sockets: SocketSet<'static>,
    pub(super) now: Duration,
    /// What goes by for the chip in a step.
    pub(super) step: Duration,
    /// One frame in so many is lost, in either direction. By chance, from a seed: with each seventh, a round of seven
    /// frames that both stacks repeat loses the same one for ever.
    pub(super) lose_one_in: Option<usize>,
    pub(super) lost: u32,
    port: Port,
    frames: u32,
    random: Random,
    next_port: u16,
}

impl Lab {
    /// A chip that knows its address.
    pub(super) fn new() -> Self {
        let mut lab = Self::without_address();
        lab.chip.update_ip_addrs(|addresses| addresses.push(Ipv4Cidr::new(CHIP, 24).into()).unwrap());
        lab
    }

    pub(super) fn without_address() -> Self {
        let mut port = Port::default();
        let mut config = Config::new(CHIP_MAC.into());
        config.random_seed = 7;
        Self {
            net: UserNetwork::new().unwrap(),
            chip: Interface::new(config, &mut port, smoltcp::time::Instant::ZERO),
            sockets: SocketSet::new(Vec::new()),
            now: Duration::ZERO,
            step: Duration::from_millis(1),
            lose_one_in: None,
            random: Random(0x7_1055),
            lost: 0,
            port,
            frames: 0,
            next_port: 50_000,
        }
    }

    /// Carries all frames that there are.
    pub(super) fn step(&mut self) {
        self.now += self.step;
        let before = self.frames;
        self.chip_poll();
        self.net.poll(self.now);
        while let Some(frame) = self.net.receive() {
            if !self.is_lost() {
                self.port.deliver(&frame);
                self.chip_poll();
            }
        }
        if self.frames == before {
            self.net.wait(Duration::from_micros(200));
        }
    }

    /// Steps until `done` gives something.
    pub(super) fn until<T>(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> Option<T>) -> T {
        let begin = Instant::now();
        loop {
            if let Some(result) = done(self) {
                return result;
            }
            assert!(begin.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
            self.step();
        }
    }

    pub(super) fn until_state(&mut self, socket: SocketHandle, state: State) {
        self.until(&format!("{state:?}"), |lab| (lab.socket(socket).state() == state).then_some(()));
    }

    /// Steps until a thread of the host sends its result.
    pub(super) fn until_received<T>(&mut self, what: &str, from: &Receiver<T>) -> T {
        self.until(what, |_| from.try_recv().ok())
    }

    /// Begins a connection to the host with buffers of `bytes` in both directions.
    pub(super) fn connect(&mut self, host_port: u16, bytes: usize) -> SocketHandle {
        self.next_port += 1;
        self.connect_from(self.next_port, HOST, host_port, bytes)
    }

    pub(super) fn connect_from(
        &mut self,
        port: u16,
        address: Ipv4Address,
        host_port: u16,
        bytes: usize,
    ) -> SocketHandle {
        let buffer = || SocketBuffer::new(vec![0; bytes]);
        let mut socket = Socket::new(buffer(), buffer());
        socket.connect(self.chip.context(), (address, host_port), port).unwrap();
        self.sockets.add(socket)
    }

    pub(super) fn socket(&mut self, handle: SocketHandle) -> &mut Socket<'static> {
        self.sockets.get_mut(handle)
    }

    /// Steps until the chip has sent all of `data` and received as many bytes as `expected`.
    pub(super) fn exchange(&mut self, handle: SocketHandle, data: &[u8], expected: usize) -> Vec<u8> {
        let mut sent = 0;
        let mut received = Vec::new();
        self.until("exchange", |lab| {
            let socket = lab.socket(handle);
            if sent < data.len() && socket.can_send() {
                sent += socket.send_slice(&data[sent..]).unwrap();
            }
            if socket.can_recv() {
                socket.recv(|bytes| (bytes.len(), received.extend_from_slice(bytes))).unwrap();
            }
            (sent == data.len() && received.len() >= expected).then_some(())
        });
        received
    }

    /// The bytes that the network holds because the host does not take them.
    pub(super) fn held(&self) -> usize {
        let sockets = self.net.sockets.iter();
        sockets.filter_map(|(_, socket)| Some(Socket::downcast(socket)?.recv_queue())).sum()
    }

    fn chip_poll(&mut self) {
        let now = smoltcp::time::Instant::from_micros(i64::try_from(self.now.as_micros()).unwrap());
        self.chip.poll(now, &mut self.port, &mut self.sockets);
        while let Some(frame) = self.port.next() {
            if !self.is_lost() {
                self.net.send(&frame);
            }
        }
    }

    fn is_lost(&mut self) -> bool {
        self.frames += 1;
        let lost = self.lose_one_in.is_some_and(|number| self.random.below(number) == 0);
        self.lost += u32::from(lost);
        lost
    }
}

/// A server on this computer that handles `connections` in threads; the results arrive in any order.
pub(super) fn server<T: Send + Debug + 'static>(
    connections: usize,
    handle: impl Fn(TcpStream) -> T + Send + Clone + 'static,
) -> (u16, Receiver<T>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let (results, received) = channel();
    thread::spawn(move || {
        for _ in 0..connections {
            let (stream, _) = listener.accept().unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            let (handle, results) = (handle.clone(), results.clone());
            thread::spawn(move || {
                // A test that has failed does not wait for the result.
                let _ = results.send(handle(stream));
            });
        }
    });
    (port, received)
}

/// Sends back what comes, until the end or a failure; the result is the number of bytes.
pub(super) fn echo(mut stream: TcpStream) -> usize {
    let mut buffer = [0; 16 * 1024];
    let mut total = 0;
    loop {
        let Ok(length @ 1..) = stream.read(&mut buffer) else { return total };
        if stream.write_all(&buffer[..length]).is_err() {
            return total;
        }
        total += length;
    }
}

/// A server that waits until the test drops the first or sends something.
pub(super) fn gate() -> (Sender<()>, impl Fn() + Send + Clone) {
    let (open, opened) = channel();
    let opened = Arc::new(Mutex::new(opened));
    (open, move || opened.lock().unwrap().recv().unwrap_or_default())
}

/// A port of 127.0.0.1 on which nobody listens.
pub(super) fn closed_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

/// Bytes of which no two stretches are alike.
pub(super) fn pattern(length: usize) -> Vec<u8> {
    let mut random = Random(0x5eed);
    (0..length).map(|_| random.next() as u8).collect()
}

/// xorshift64 (G. Marsaglia, "Xorshift RNGs", 2003).
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub(super) fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(limit).unwrap()).unwrap()
    }
}
