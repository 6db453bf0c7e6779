//! Packets among console text, damaged, cut off, and inside each other.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use improv::{Command, MAX_PACKET_BYTES, Parser, ProtocolError, SsidError};
use proptest::prelude::*;

use common::{Received, command, packet, push_all, settings, silence_all};

/// Begins a packet of 255 bytes of data that never come.
const CUT_OFF: &[u8] = b"IMPROV\x01\x03\xff";

fn request_state() -> Vec<u8> {
    command(2, &[])
}

#[test]
fn console_text_is_skipped() {
    let another_version = b"IMPROV\x02\x03\x02\x02\0\xe6\n";
    for text in [&b""[..], b"ESP-ROM:esp32c3\r\n", b"IMPROV", another_version] {
        let bytes = [text, request_state().as_slice(), text, request_state().as_slice()].concat();
        let found = push_all(&mut Parser::new(), &bytes);
        assert_eq!(found, [Ok(Command::RequestCurrentState), Ok(Command::RequestCurrentState)]);
    }
}

#[test]
fn a_packet_is_found_at_its_last_byte() {
    let bytes = request_state();
    let (newline, bytes) = bytes.split_last().unwrap();
    let (last, bytes) = bytes.split_last().unwrap();
    let mut parser = Parser::new();
    assert_eq!(push_all(&mut parser, bytes), []);
    assert_eq!(parser.push(*last), Some(Ok(Command::RequestCurrentState)));
    assert_eq!(parser.push(*newline), None);
}

#[test]
fn every_damaged_bit_is_noticed() {
    let good = settings(b"MyWirelessAP", b"mysecurepassword");
    for bit in 0..(good.len() - 1) * 8 {
        let mut bytes = good.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let mut parser = Parser::new();
        let mut found = push_all(&mut parser, &bytes);
        found.extend(silence_all(&mut parser));
        // A damaged header, type or length may also look like no command at all.
        let noticed = match found.as_slice() {
            [] => bit / 8 < 9,
            [Err(ProtocolError::Checksum { .. })] => true,
            _ => false,
        };
        assert!(noticed, "bit {bit}: {found:?}");
    }
}

#[test]
fn a_damaged_packet_is_told_once() {
    let mut bytes = request_state();
    bytes[11] ^= 1;
    let found = push_all(&mut Parser::new(), &[bytes, request_state()].concat());
    let damage = ProtocolError::Checksum { expected: 0xe5, found: 0xe4 };
    assert_eq!(found, [Err(damage), Ok(Command::RequestCurrentState)]);
}

#[test]
fn packets_of_the_other_direction_are_an_echo() {
    for packet_type in [0, 1, 2, 4, 5, 255] {
        let mut echo = packet(packet_type, &request_state());
        assert_eq!(push_all(&mut Parser::new(), &echo), [], "type {packet_type}");
        // Damaged, it is no frame any more, and what is in it counts.
        let checksum = echo.len() - 2;
        echo[checksum] ^= 1;
        assert_eq!(push_all(&mut Parser::new(), &echo), [Ok(Command::RequestCurrentState)]);
    }
}

#[test]
fn silence_ends_what_was_cut_off() {
    let good = settings(b"MyWirelessAP", b"mysecurepassword");
    for length in 0..good.len() - 2 {
        let mut parser = Parser::new();
        assert_eq!(push_all(&mut parser, &good[..length]), []);
        assert_eq!(silence_all(&mut parser), [], "{length} bytes");
        assert_eq!(push_all(&mut parser, &request_state()), [Ok(Command::RequestCurrentState)]);
    }
}

#[test]
fn silence_finds_what_came_behind() {
    let bytes = [CUT_OFF, &request_state(), CUT_OFF, CUT_OFF, &command(3, &[]), &command(4, &[])].concat();
    let mut parser = Parser::new();
    assert_eq!(push_all(&mut parser, &bytes), []);
    assert_eq!(
        silence_all(&mut parser),
        [
            Ok(Command::RequestCurrentState),
            Ok(Command::RequestDeviceInformation),
            Ok(Command::RequestScannedNetworks)
        ]
    );
}

/// A client that asks again and again is understood even if there is never a silence, and nothing is lost.
#[test]
fn without_silence_the_cut_off_packet_fills_up() {
    let asked = 30;
    let bytes = [CUT_OFF, &request_state().repeat(asked)].concat();
    let found = push_all(&mut Parser::new(), &bytes);
    assert_eq!(found, vec![Ok(Command::RequestCurrentState); asked]);
}

#[test]
fn a_packet_inside_a_packet_is_data() {
    let found = push_all(&mut Parser::new(), &settings(&request_state(), b""));
    assert_eq!(found, [Err(ProtocolError::Ssid(SsidError::NotUtf8))]);
}

/// The parser's rules over the whole stream at once: what stands at a position is looked at with everything that
/// follows it at hand. Errors of checksums are left out; the parser may keep them to itself.
fn read_at_once(bytes: &[u8]) -> Vec<Received> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
        let whole = rest.starts_with(b"IMPROV\x01").then(|| rest.get(8)).flatten().and_then(|length| {
            let packet = rest.get(..10 + usize::from(*length))?;
            let (checksum, summed) = packet.split_last()?;
            (summed.iter().map(|byte| u32::from(*byte)).sum::<u32>() as u8 == *checksum).then_some(packet)
        });
        at += whole.map_or(1, <[u8]>::len);
        if let Some(packet) = whole.filter(|packet| packet[7] == 3) {
            found.extend(push_all(&mut Parser::new(), packet));
        }
    }
    found
}

/// Bytes that look like packets more often than chance would have it.
fn rubbish() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..20),
        prop::collection::vec(prop::sample::select(b"IMPROV\x01\x03\x02\n".to_vec()), 0..20),
        prop::collection::vec(any::<u8>(), 0..40).prop_map(|data| [CUT_OFF, &data].concat()),
        (any::<u8>(), prop::collection::vec(any::<u8>(), 0..60)).prop_map(|(kind, data)| packet(kind, &data)),
        (0..8u8, prop::collection::vec(any::<u8>(), 0..60)).prop_map(|(number, data)| command(number, &data)),
        (1..14usize).prop_map(|length| request_state()[..length.min(13)].to_vec()),
        Just([b"IMPROV\x01\x03\x11".as_slice(), &request_state()].concat()),
    ];
    prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

fn without_checksums(found: Vec<Received>) -> Vec<Received> {
    let checksum = |received: &Received| matches!(received, Err(ProtocolError::Checksum { .. }));
    found.into_iter().filter(|received| !checksum(received)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2048))]

    #[test]
    fn after_rubbish_and_silence_a_good_packet_is_understood(rubbish in rubbish()) {
        let mut parser = Parser::new();
        push_all(&mut parser, &rubbish);
        silence_all(&mut parser);
        prop_assert_eq!(push_all(&mut parser, &request_state()), [Ok(Command::RequestCurrentState)]);
    }

    #[test]
    fn after_text_without_a_header_no_silence_is_needed(text in "[IMPROV\x01\x03\r\n a-z]{0,600}") {
        prop_assume!(!text.contains("IMPROV\x01"));
        let mut parser = Parser::new();
        prop_assert_eq!(push_all(&mut parser, text.as_bytes()), []);
        prop_assert_eq!(push_all(&mut parser, &request_state()), [Ok(Command::RequestCurrentState)]);
    }

    #[test]
    fn the_stream_reads_as_if_it_were_there_at_once(rubbish in rubbish()) {
        let mut parser = Parser::new();
        let mut found = push_all(&mut parser, &rubbish);
        found.extend(silence_all(&mut parser));
        prop_assert_eq!(without_checksums(found), without_checksums(read_at_once(&rubbish)));
    }

    #[test]
    fn after_rubbish_the_longest_packet_is_awaited_at_most(rubbish in rubbish()) {
        // No silence, but other bytes: once they could have filled the longest packet, nothing is left of the rubbish.
        let mut parser = Parser::new();
        push_all(&mut parser, &rubbish);
        push_all(&mut parser, &[b'\n'; 2 * MAX_PACKET_BYTES]);
        prop_assert_eq!(push_all(&mut parser, &request_state()), [Ok(Command::RequestCurrentState)]);
    }
}
