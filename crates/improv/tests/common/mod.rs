//! Packets as a client sends them, made without the crate's own code.

#![allow(dead_code)]

use improv::{Command, Parser, ProtocolError};

/// What the parser makes of a piece of the stream.
pub(crate) type Received = Result<Command, ProtocolError>;

/// A packet of any type, with the right checksum and the line feed that clients send.
pub(crate) fn packet(packet_type: u8, data: &[u8]) -> Vec<u8> {
    let mut bytes = b"IMPROV\x01".to_vec();
    bytes.extend([packet_type, u8::try_from(data.len()).unwrap()]);
    bytes.extend(data);
    bytes.push(bytes.iter().map(|byte| u32::from(*byte)).sum::<u32>() as u8);
    bytes.push(b'\n');
    bytes
}

/// An RPC command packet.
pub(crate) fn command(number: u8, data: &[u8]) -> Vec<u8> {
    packet(3, &[&[number, u8::try_from(data.len()).unwrap()], data].concat())
}

/// A command with Wi-Fi settings.
pub(crate) fn settings(ssid: &[u8], passphrase: &[u8]) -> Vec<u8> {
    let length = |string: &[u8]| [u8::try_from(string.len()).unwrap()];
    command(1, &[&length(ssid), ssid, &length(passphrase), passphrase].concat())
}

/// Everything that the parser finds in the bytes.
pub(crate) fn push_all(parser: &mut Parser, bytes: &[u8]) -> Vec<Received> {
    bytes.iter().filter_map(|byte| parser.push(*byte)).collect()
}

/// Everything that the parser finds when nothing comes any more.
pub(crate) fn silence_all(parser: &mut Parser) -> Vec<Received> {
    std::iter::from_fn(|| parser.silence()).collect()
}
