//! Commands out of a stream of bytes.

use zeroize::Zeroize;

use crate::command::{Command, ProtocolError};
use crate::packet::{self, Front, MAX_PACKET_BYTES};

/// How long nothing must have come before [`Parser::silence`] is called, in milliseconds: as long as in ESPHome's
/// `improv_serial` component. The longest packet takes 23 ms at 115 200 baud (265 bytes x 10 bits).
pub const SILENCE_MS: u32 = 100;

const _: () = assert!(MAX_PACKET_BYTES as u32 * 10 * 1000 / 115_200 < SILENCE_MS);

/// Finds commands among whatever else comes over the wire. Holds one packet at most, and wipes what it lets go: it may
/// be a passphrase.
///
/// A packet inside another packet's data is data. Only when the outer one turns out to be damaged or cut off is the
/// inner one looked at, so that no byte can hide a good packet for good.
pub struct Parser {
    buffer: [u8; MAX_PACKET_BYTES],
    filled: usize,
}

impl Parser {
    /// A parser that has seen nothing.
    pub const fn new() -> Self {
        Self { buffer: [0; MAX_PACKET_BYTES], filled: 0 }
    }

    /// Takes the next byte. Returns the command that it completes, if any, or what is wrong with it.
    ///
    /// A damaged packet can have held several good ones: then each further byte (clients send a line feed after each
    /// packet) returns one of them, in their order.
    pub fn push(&mut self, byte: u8) -> Option<Result<Command, ProtocolError>> {
        // There is room: what is left between two calls is shorter than the packet that it may become, or than the
        // damaged packet that it was part of.
        if let Some(free) = self.buffer.get_mut(self.filled) {
            *free = byte;
            self.filled += 1;
        }
        self.take()
    }

    /// Says that nothing came for [`SILENCE_MS`]: the packet that had begun is cut off and forgotten. Returns the
    /// commands that came after its beginning, one a call, and then `None`.
    pub fn silence(&mut self) -> Option<Result<Command, ProtocolError>> {
        loop {
            let found = self.take();
            if found.is_some() || self.filled == 0 {
                return found;
            }
            self.discard(1);
        }
    }

    /// Takes the first command out of the buffer. `None` leaves the beginning of a packet, or nothing.
    fn take(&mut self) -> Option<Result<Command, ProtocolError>> {
        let mut damage = None;
        loop {
            match packet::front(&self.buffer[..self.filled]) {
                // The damage is told only when no good packet was found behind it: a client that has sent another
                // packet since would take the error for the answer to that one.
                Front::Incomplete => return damage.map(Err),
                Front::Rubbish => self.discard(1),
                Front::Packet(packet) => {
                    // Packets of the other direction are an echo, and stay without an answer: it would echo, too.
                    let for_device = packet.packet_type == packet::RPC_COMMAND;
                    let (expected, found) = (packet.expected_checksum, packet.found_checksum);
                    if expected != found {
                        damage = damage.or(for_device.then_some(ProtocolError::Checksum { expected, found }));
                        self.discard(1);
                        continue;
                    }
                    let size_bytes = packet.size_bytes;
                    let command = for_device.then(|| Command::decode(packet.data));
                    self.discard(size_bytes);
                    if command.is_some() {
                        return command;
                    }
                }
            }
        }
    }

    /// Lets the first bytes go.
    fn discard(&mut self, bytes: usize) {
        self.buffer.copy_within(bytes..self.filled, 0);
        let left = self.filled - bytes;
        self.buffer[left..self.filled].zeroize();
        self.filled = left;
    }
}

impl Default for Parser {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Parser {
    fn drop(&mut self) {
        self.buffer.zeroize();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_kept_of_a_passphrase() {
        let mut parser = Parser::new();
        let mut bytes = b"IMPROV\x01\x03\x0d\x01\x0b\x01s\x08passpass".to_vec();
        bytes.push(bytes.iter().fold(0, |sum: u8, byte| sum.wrapping_add(*byte)));
        // Cut off, and then whole.
        for byte in &bytes[..bytes.len() - 1] {
            assert_eq!(parser.push(*byte), None);
        }
        assert_eq!(parser.silence(), None);
        assert_eq!(parser.buffer, [0; MAX_PACKET_BYTES]);
        let found = bytes.iter().filter_map(|byte| parser.push(*byte)).collect::<alloc::vec::Vec<_>>();
        assert!(matches!(found.as_slice(), [Ok(Command::SendWifiSettings(_))]), "{found:?}");
        assert_eq!(parser.buffer, [0; MAX_PACKET_BYTES]);
    }
}
