//! No frame makes the network panic, and it works afterwards.

use std::time::Duration;

use smoltcp::socket::tcp::State;
use smoltcp::wire::{TcpControl, TcpPacket, TcpRepr, TcpSeqNumber};

use super::frames::{ping, segment, syn_to, udp};
use super::lab::{Lab, Random, closed_port, echo, server};
use crate::net::{CHIP, DNS, HOST, HOST_MAC};

const SEED: u64 = 0x2f6e_11d5_90c4_a387;
const CASES: usize = 20_000;

fn still_works(lab: &mut Lab) {
    while lab.net.receive().is_some() {}
    let (port, _result) = server(1, echo);
    // A port that no case has used, so that no broken connection is meant.
    let socket = lab.connect_from(60_000, HOST, port, 2048);
    lab.until_state(socket, State::Established);
    assert_eq!(lab.exchange(socket, b"alive", 5), b"alive");
}

fn feed(lab: &mut Lab, frame: &[u8]) {
    lab.net.send(frame);
    lab.now += Duration::from_millis(1);
    lab.net.poll(lab.now);
    while lab.net.receive().is_some() {}
}

#[test]
fn random_bytes() {
    let mut lab = Lab::new();
    let mut random = Random(SEED);
    for case in 0..CASES {
        let mut frame: Vec<u8> = (0..random.below(200)).map(|_| random.next() as u8).collect();
        // Most frames get as far as a parser for what they carry.
        if case % 8 != 0 && frame.len() > 14 {
            frame[..6].copy_from_slice(HOST_MAC.as_bytes());
            frame[12..14].copy_from_slice(if case % 3 == 0 { &[8, 6] } else { &[8, 0] });
            frame[14] = if random.below(4) == 0 { frame[14] } else { 0x45 };
        }
        feed(&mut lab, &frame);
    }
    assert_eq!(lab.net.stats().tcp_opened, 0);
    still_works(&mut lab);
}

#[test]
fn damaged_and_cut_frames() {
    let mut lab = Lab::new();
    let mut random = Random(SEED);
    let query = *b"\xab\xcd\x01\x00\0\x01\0\0\0\0\0\0\x07example\x03org\0\0\x01\0\x01";
    let syn = segment(&syn_to(closed_port()));
    let good = [ping(HOST), syn, udp((CHIP, 68), (HOST, 67), &[1; 300]), udp((CHIP, 999), (DNS, 53), &query)];
    for _ in 0..CASES {
        let mut frame = good[random.below(good.len())].clone();
        for _ in 0..random.below(4) {
            let at = random.below(frame.len());
            frame[at] ^= 1 << random.below(8);
        }
        frame.truncate(frame.len() - if random.below(3) == 0 { random.below(frame.len()) } else { 0 });
        feed(&mut lab, &frame);
    }
    still_works(&mut lab);
}

/// Datagrams whose frames are sound down to the checksum and whose content is not.
#[test]
fn random_messages_for_the_servers() {
    let mut lab = Lab::new();
    let mut random = Random(SEED);
    for _ in 0..CASES {
        let mut message: Vec<u8> = (0..random.below(400)).map(|_| random.next() as u8).collect();
        if random.below(2) == 0 {
            if message.len() > 243 {
                message[..3].copy_from_slice(&[1, 1, 6]);
                message[236..243].copy_from_slice(&[99, 130, 83, 99, 53, 1, 1 + random.below(8) as u8]);
            }
            feed(&mut lab, &udp((CHIP, 68), (HOST, 67), &message));
        } else {
            // Labels of less than 8 bytes, so that many names end, and some of them where the message does.
            message.truncate(random.below(60));
            message.iter_mut().for_each(|byte| *byte %= 8);
            if message.len() > 12 {
                message[2..6].copy_from_slice(&[1, 0, 0, 1]);
            }
            feed(&mut lab, &udp((CHIP, 999), (DNS, 53), &message));
        }
    }
    assert!(lab.net.stats().frames_to_chip > 100);
    still_works(&mut lab);
}

/// Segments that are sound and make no sense: numbers around those of the connection, all flags, all windows.
#[test]
fn senseless_segments() {
    let mut lab = Lab::new();
    let mut random = Random(SEED);
    let (port, _results) = server(CASES, echo);
    // The network learns the chip's hardware address.
    lab.connect(closed_port(), 512);
    lab.step();
    let payload = [0x55; 1460];
    let (mut sequence, mut acknowledged, mut with_data) = (1000, 0, 0);
    for case in 0..CASES {
        let near = |random: &mut Random, number: i32| match random.below(8) {
            0 => random.next() as i32,
            1 => number.wrapping_add(random.below(80_000) as i32 - 40_000),
            2 => number.wrapping_add(random.below(3) as i32 - 1),
            _ => number,
        };
        let controls = [TcpControl::None, TcpControl::Psh, TcpControl::Fin, TcpControl::Rst, TcpControl::Syn];
        let control = match random.below(3) {
            _ if case % 50 == 0 => TcpControl::Syn,
            0 => controls[random.below(controls.len())],
            _ => TcpControl::Psh,
        };
        let length = if control == TcpControl::Syn { 0 } else { [0, 1, 100, 1460][random.below(4)] };
        let sent = TcpRepr {
            src_port: 50_000 + random.below(2) as u16,
            control,
            seq_number: TcpSeqNumber(near(&mut random, sequence)),
            ack_number: (case % 50 != 0 && random.below(20) != 0)
                .then(|| TcpSeqNumber(near(&mut random, acknowledged))),
            window_len: [0, 1, 500, 4096, 65535][random.below(5)],
            window_scale: (random.below(2) == 0).then_some(random.below(15) as u8),
            max_seg_size: [None, Some(0), Some(1), Some(1460), Some(65535)][random.below(5)],
            payload: &payload[..length],
            ..syn_to(port)
        };
        lab.net.send(&segment(&sent));
        lab.now += Duration::from_millis(random.below(20) as u64);
        lab.net.poll(lab.now);
        while let Some(frame) = lab.net.receive() {
            // What the network says about the connection's numbers is where the next segment is near.
            if frame.len() >= 54 && frame[23] == 6 {
                let tcp = TcpPacket::new_unchecked(&frame[34..]);
                acknowledged = tcp.seq_number().0.wrapping_add(i32::from(tcp.syn()));
                sequence = tcp.ack_number().0;
                with_data += u32::from(!tcp.payload().is_empty());
            }
        }
    }
    let stats = lab.net.stats();
    assert!(stats.tcp_opened > 100 && with_data > 100, "{stats:?}, {with_data} with data");
    still_works(&mut lab);
}
