//! How connections begin, are refused, and end otherwise than by two FINs.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::Duration;

use smoltcp::socket::tcp::State;
use smoltcp::wire::{Ipv4Address, TcpControl, TcpRepr, TcpSeqNumber};

use super::frames::{arp, segment, syn_to};
use super::lab::{Lab, closed_port, echo, server};
use crate::net::{HOST, MAX_CONNECTIONS, Stats, UserNetwork};

/// Reads until the end or a failure, which is the result.
fn how_it_ends(mut stream: TcpStream) -> Result<u64, ErrorKind> {
    std::io::copy(&mut stream, &mut std::io::sink()).map_err(|error| error.kind())
}

#[test]
fn a_port_without_a_server_is_refused_and_never_open() {
    let mut lab = Lab::new();
    let socket = lab.connect(closed_port(), 2048);
    lab.until("reset", |lab| {
        let state = lab.socket(socket).state();
        assert!(matches!(state, State::SynSent | State::Closed), "{state:?}");
        (state == State::Closed).then_some(())
    });
    let stats = lab.net.stats();
    assert_eq!((stats.tcp_opened, stats.tcp_refused), (0, 1));
    assert!(!lab.net.is_waiting());
}

#[test]
fn other_addresses_are_silent() {
    let (port, _results) = server(1, echo);
    // Another machine of the subnet, the name server, loopback, the world; and what the ARP before it brings.
    for (address, answers) in
        [([10, 0, 2, 9], 0), ([10, 0, 2, 3], 1), ([127, 0, 0, 1], 1), ([192, 0, 2, 1], 1)]
    {
        let mut lab = Lab::new();
        lab.chip.routes_mut().add_default_ipv4_route(HOST).unwrap();
        let socket = lab.connect_from(50_000, Ipv4Address::from(address), port, 2048);
        for _ in 0..1500 {
            lab.step();
        }
        assert_eq!(lab.socket(socket).state(), State::SynSent);
        let Stats { frames_to_chip, unanswered, tcp_opened, tcp_refused, .. } = lab.net.stats();
        assert_eq!((frames_to_chip, tcp_opened, tcp_refused), (answers, 0, 0));
        // Each of the chip's attempts counts.
        assert!(unanswered >= 2, "{unanswered}");
        assert!(!lab.net.is_waiting());
    }
}

#[test]
fn one_connection_too_many_is_refused_until_one_ends() {
    let mut lab = Lab::new();
    let (port, _results) = server(MAX_CONNECTIONS + 1, echo);
    let sockets: Vec<_> = (0..MAX_CONNECTIONS).map(|_| lab.connect(port, 512)).collect();
    for socket in &sockets {
        lab.until_state(*socket, State::Established);
    }
    let refused = lab.connect(port, 512);
    lab.until_state(refused, State::Closed);
    assert_eq!(lab.net.stats().tcp_refused, 1);

    // All 32 work.
    for (number, socket) in (0u8..).zip(&sockets) {
        assert_eq!(lab.exchange(*socket, &[number; 100], 100), [number; 100]);
    }
    lab.socket(sockets[3]).close();
    lab.until_state(sockets[3], State::TimeWait);
    lab.until("the network's end", |lab| (lab.net.connections.len() < MAX_CONNECTIONS).then_some(()));
    let next = lab.connect(port, 512);
    lab.until_state(next, State::Established);
}

#[test]
fn connections_that_are_over_make_room_before_their_time() {
    let mut lab = Lab::new();
    // A server that closes first leaves the network, not the chip, to wait for repetitions.
    let (port, _results) = server(MAX_CONNECTIONS + 1, drop);
    for _ in 0..=MAX_CONNECTIONS {
        let socket = lab.connect(port, 512);
        lab.until_state(socket, State::CloseWait);
        lab.socket(socket).close();
        lab.until_state(socket, State::Closed);
    }
    assert_eq!(lab.net.stats().tcp_refused, 0);
    assert_eq!(lab.net.connections.len(), MAX_CONNECTIONS);
}

#[test]
fn a_repeated_syn_makes_no_second_connection() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.set_nonblocking(true).unwrap();
    let syn = syn_to(listener.local_addr().unwrap().port());
    let mut net = UserNetwork::new().unwrap();
    net.send(&arp(HOST));
    // The stack repeats its answer by its own clock: 1 s, then twice that, and so on.
    for second in [1, 5, 20] {
        net.send(&segment(&syn));
        net.poll(Duration::from_secs(second));
        assert!(net.is_waiting());
    }
    // ARP, and an answer to each SYN.
    assert_eq!(std::iter::from_fn(|| net.receive()).count(), 4);
    assert_eq!((net.stats().tcp_opened, net.connections.len()), (1, 1));
    assert!(listener.accept().is_ok());
    assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);

    // A chip that has restarted since, before it saw an answer.
    net.send(&segment(&TcpRepr { seq_number: TcpSeqNumber(77), ..syn }));
    assert_eq!((net.stats().tcp_opened, net.connections.len()), (2, 1));
}

#[test]
fn a_chip_that_takes_its_syn_back_leaves_nothing() {
    let (port, result) = server(1, how_it_ends);
    let mut lab = Lab::new();
    lab.net.send(&arp(HOST));
    lab.net.send(&segment(&syn_to(port)));
    assert_eq!(lab.net.connections.len(), 1);
    lab.net.poll(Duration::from_millis(1));
    let reset = TcpRepr { control: TcpControl::Rst, seq_number: TcpSeqNumber(1001), ..syn_to(port) };
    lab.net.send(&segment(&reset));
    assert_eq!(lab.net.connections.len(), 0);
    assert_eq!(lab.until_received("end", &result), Ok(0));
}

#[test]
fn a_chip_that_restarts_may_use_its_ports_again() {
    let mut lab = Lab::new();
    let (port, results) = server(2, echo);
    let old = lab.connect_from(50_000, HOST, port, 2048);
    lab.until_state(old, State::Established);
    assert_eq!(lab.exchange(old, b"old", 3), b"old");
    // Nobody says goodbye.
    lab.sockets.remove(old);
    let new = lab.connect_from(50_000, HOST, port, 2048);
    lab.until_state(new, State::Established);
    assert_eq!(lab.exchange(new, b"new", 3), b"new");
    assert_eq!(lab.until_received("end of the old one", &results), 3);
    assert_eq!(lab.net.connections.len(), 1);
}

#[test]
fn a_reset_from_the_chip_ends_the_hosts_connection() {
    let mut lab = Lab::new();
    let (port, result) = server(1, how_it_ends);
    let socket = lab.connect(port, 2048);
    lab.until_state(socket, State::Established);
    lab.exchange(socket, b"abc", 0);
    lab.step();
    lab.socket(socket).abort();
    assert_eq!(lab.until_received("end", &result), Ok(3));
    assert!(!lab.net.is_waiting());
    assert_eq!(lab.net.connections.len(), 0);
}

#[test]
fn a_reset_from_the_host_reaches_the_chip() {
    let mut lab = Lab::new();
    let (port, _result) = server(1, |mut stream| {
        // A socket that is closed with bytes unread resets its connection.
        stream.read_exact(&mut [0; 1]).unwrap();
    });
    let socket = lab.connect(port, 2048);
    lab.exchange(socket, &[1; 1000], 0);
    lab.until("reset", |lab| {
        let state = lab.socket(socket).state();
        assert!(matches!(state, State::SynSent | State::Established | State::Closed), "{state:?}");
        (state == State::Closed).then_some(())
    });
    assert_eq!(lab.net.connections.len(), 0);
}

#[test]
fn a_chip_that_is_switched_off_is_noticed() {
    let mut lab = Lab::new();
    let (port, result) = server(1, how_it_ends);
    let socket = lab.connect(port, 2048);
    lab.until_state(socket, State::Established);
    // Idle, and alive: the network asks, the chip answers.
    for _ in 0..40 {
        lab.now += Duration::from_secs(20);
        lab.step();
    }
    assert_eq!(lab.socket(socket).state(), State::Established);
    assert!(result.try_recv().is_err());
    lab.sockets.remove(socket);
    lab.lose_one_in = Some(1);
    for _ in 0..40 {
        lab.now += Duration::from_secs(20);
        lab.step();
    }
    assert_eq!(lab.until_received("end", &result), Ok(0));
    assert_eq!(lab.net.connections.len(), 0);
}

#[test]
fn a_server_that_is_gone_is_no_longer_written_to() {
    let mut lab = Lab::new();
    let (port, result) = server(1, |mut stream| stream.write_all(b"bye"));
    let socket = lab.connect(port, 2048);
    assert_eq!(lab.exchange(socket, &[], 3), b"bye");
    lab.until_received("server's end", &result).unwrap();
    lab.until_state(socket, State::CloseWait);
    // The kernel resets what comes for a socket that is closed, and the chip hears of it.
    lab.until("reset", |lab| {
        let socket = lab.socket(socket);
        if socket.can_send() {
            socket.send_slice(&[1; 100]).unwrap();
        }
        (socket.state() == State::Closed).then_some(())
    });
}
