//! What goes in comes out: all of it, in order, in both directions.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::thread;
use std::time::{Duration, Instant};

use smoltcp::socket::tcp::State;

use super::lab::{Lab, closed_port, echo, gate, pattern, server};
use crate::net::relay::BUFFER_BYTES;

const MEGABYTE: usize = 1024 * 1024;

fn echo_through(lab: &mut Lab, bytes: usize, window: usize) {
    let data = pattern(bytes);
    let (port, result) = server(1, echo);
    let socket = lab.connect(port, window);
    let begin = Instant::now();
    let back = lab.exchange(socket, &data, bytes);
    let rate = bytes as f64 / 1e6 / begin.elapsed().as_secs_f64();
    eprintln!("echo of {bytes} bytes, window {window}: {rate:.1} MB/s in each direction");
    assert!(back == data, "not the same bytes");
    lab.socket(socket).close();
    assert_eq!(lab.until_received("end of the echo", &result), bytes);
}

#[test]
fn a_megabyte_comes_back_through_small_windows() {
    let mut lab = Lab::new();
    echo_through(&mut lab, MEGABYTE, 2920);
    // A window of less than a segment, and of an odd number of bytes.
    echo_through(&mut lab, 100_000, 777);
}

#[test]
fn a_megabyte_comes_back_through_large_windows() {
    echo_through(&mut Lab::new(), MEGABYTE, 32 * 1024);
}

#[test]
fn lost_frames_come_again() {
    let mut lab = Lab::new();
    lab.lose_one_in = Some(7);
    // Of a chip's time, much goes by with waiting for what is lost.
    lab.step = Duration::from_millis(20);
    echo_through(&mut lab, 300_000, 5760);
    assert!(lab.lost > 50, "lost {}", lab.lost);
    assert_eq!(lab.net.stats().tcp_opened, 1);
}

#[test]
fn several_connections_do_not_mix() {
    let mut lab = Lab::new();
    let (port, _results) = server(4, echo);
    let data = pattern(40_000);
    let sockets = [0, 1, 2, 3].map(|number| (number, lab.connect(port, 2920)));
    for (number, socket) in sockets {
        let part = &data[number * 10_000..][..10_000];
        assert!(lab.exchange(socket, part, part.len()) == part, "connection {number}");
    }
}

#[test]
fn a_server_that_does_not_read_stops_the_chip() {
    let mut lab = Lab::new();
    let (open, wait) = gate();
    let (port, result) = server(1, move |mut stream| {
        wait();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        all
    });
    let data = pattern(32 * MEGABYTE);
    let socket = lab.connect(port, BUFFER_BYTES);
    lab.until_state(socket, State::Established);
    let (mut sent, mut quiet) = (0, 0);
    // Until the host's kernel, the relay and the chip are full. Nothing in between grows.
    while quiet < 200 {
        let more = lab.socket(socket).send_slice(&data[sent..]).unwrap();
        quiet = if more == 0 { quiet + 1 } else { 0 };
        sent += more;
        lab.step();
    }
    assert_eq!(lab.held(), BUFFER_BYTES);
    assert!(sent < data.len(), "the server has taken everything");
    open.send(()).unwrap();
    lab.exchange(socket, &data[sent..sent + MEGABYTE], 0);
    lab.socket(socket).close();
    assert!(lab.until_received("all data", &result) == data[..sent + MEGABYTE]);
}

#[test]
fn a_chip_that_does_not_read_stops_the_server() {
    let mut lab = Lab::new();
    let data = pattern(16 * MEGABYTE);
    let copy = data.clone();
    let (port, result) = server(1, move |mut stream| stream.write_all(&copy).is_ok());
    let socket = lab.connect(port, 4096);
    lab.until_state(socket, State::Established);
    for _ in 0..300 {
        lab.step();
    }
    assert!(result.try_recv().is_err(), "16 MB are somewhere between server and chip");
    assert!(lab.exchange(socket, &[], data.len()) == data);
    assert!(lab.until_received("end of the server", &result));
}

#[test]
fn the_chip_closes_first_and_still_hears_the_answer() {
    let mut lab = Lab::new();
    let (port, result) = server(1, |mut stream| {
        let mut request = Vec::new();
        stream.read_to_end(&mut request).unwrap();
        // The chip's end is an end of its data and not of the connection.
        stream.write_all(&pattern(50_000)).unwrap();
        request
    });
    let socket = lab.connect(port, 2048);
    lab.exchange(socket, b"request", 0);
    lab.socket(socket).close();
    assert_eq!(lab.until_received("request", &result), b"request");
    assert!(lab.exchange(socket, &[], 50_000) == pattern(50_000));
    lab.until_state(socket, State::TimeWait);
    lab.until("end of waiting", |lab| (!lab.net.is_waiting()).then_some(()));
    assert_eq!(lab.net.connections.len(), 0);
}

#[test]
fn the_server_closes_first_and_still_hears_the_chip() {
    let mut lab = Lab::new();
    let (port, result) = server(1, |mut stream| {
        stream.write_all(b"greeting").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        answer
    });
    let socket = lab.connect(port, 2048);
    assert_eq!(lab.exchange(socket, &[], 8), b"greeting");
    lab.until_state(socket, State::CloseWait);
    assert!(result.try_recv().is_err(), "the server must not see an end before the chip's");
    lab.exchange(socket, &pattern(50_000), 0);
    lab.socket(socket).close();
    assert!(lab.until_received("answer", &result) == pattern(50_000));
    lab.until_state(socket, State::Closed);
    // What is left of the connection answers repetitions of the chip's last frame for 10 s, and nothing else.
    lab.until("end of waiting", |lab| (!lab.net.is_waiting()).then_some(()));
    lab.now += Duration::from_secs(11);
    lab.step();
    assert_eq!(lab.net.connections.len(), 0);
}

#[test]
fn what_a_slow_server_has_not_read_survives_the_connection() {
    let mut lab = Lab::new();
    let (open, wait) = gate();
    let (port, result) = server(1, move |mut stream| {
        stream.shutdown(Shutdown::Write).unwrap();
        wait();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        all.len()
    });
    let socket = lab.connect(port, BUFFER_BYTES);
    lab.until_state(socket, State::CloseWait);
    let mut sent = 0;
    while lab.held() < 5000 {
        sent += lab.socket(socket).send_slice(&[7; 1400]).unwrap();
        lab.step();
    }
    lab.socket(socket).close();
    lab.until_state(socket, State::Closed);
    // The chip has said all and heard of it; its connection is over before the server reads.
    for _ in 0..3 {
        lab.now += Duration::from_secs(11);
        lab.step();
        assert!(lab.net.is_waiting());
    }
    open.send(()).unwrap();
    assert_eq!(lab.until_received("all data", &result), sent);
    lab.step();
    assert_eq!(lab.net.connections.len(), 0);
}

#[test]
fn wait_ends_with_the_first_byte_from_the_host() {
    let mut lab = Lab::new();
    // The server's end is an event too: it must not come before that of this test.
    let (_open, wait) = gate();
    let (port, _result) = server(1, move |mut stream| {
        thread::sleep(Duration::from_millis(100));
        stream.write_all(b"late").unwrap();
        wait();
    });
    let socket = lab.connect(port, 2048);
    lab.until_state(socket, State::Established);
    for _ in 0..10 {
        lab.step();
    }
    let begin = Instant::now();
    lab.net.wait(Duration::from_secs(20));
    let waited = begin.elapsed();
    assert!(waited < Duration::from_secs(10), "waited {waited:?}");
    // Nothing is lost if a caller waits again before it polls.
    lab.net.wait(Duration::from_secs(20));
    assert!(begin.elapsed() < Duration::from_secs(10));
    assert_eq!(lab.exchange(socket, &[], 4), b"late");
}

#[test]
fn wait_without_connections_lasts_as_long_as_asked() {
    let mut lab = Lab::new();
    let socket = lab.connect(closed_port(), 2048);
    lab.until_state(socket, State::Closed);
    assert!(!lab.net.is_waiting());
    for timeout in [Duration::from_micros(300), Duration::from_millis(20)] {
        let begin = Instant::now();
        lab.net.wait(timeout);
        assert!(begin.elapsed() >= timeout);
    }
}
