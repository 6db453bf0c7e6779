//! The frame of every packet ("Packet format"):
//!
//! ```text
//!  0..6       6    7     8       9..9+length  9+length
//!  "IMPROV"   1    type  length  data         checksum: sum of all bytes before it, modulo 256
//! ```

use alloc::vec::Vec;

/// The longest packet, in bytes, without the line feeds around it.
pub const MAX_PACKET_BYTES: usize = DATA_AT + MAX_DATA_BYTES + 1;

/// Packet types ("The packet types are").
pub(crate) const CURRENT_STATE: u8 = 0x01;
pub(crate) const ERROR_STATE: u8 = 0x02;
pub(crate) const RPC_COMMAND: u8 = 0x03;
pub(crate) const RPC_RESULT: u8 = 0x04;

/// The longest data: its length is one byte.
pub(crate) const MAX_DATA_BYTES: usize = u8::MAX as usize;

/// What every packet begins with, the protocol's version at its end. Another version is another header: its frame is
/// not known, so nothing can be said about it, not even an error.
const HEADER: &[u8] = b"IMPROV\x01";
const TYPE_AT: usize = HEADER.len();
const LENGTH_AT: usize = TYPE_AT + 1;
const DATA_AT: usize = LENGTH_AT + 1;

/// What stands at the front of some bytes.
pub(crate) enum Front<'a> {
    /// No packet begins here.
    Rubbish,
    /// The bytes may become a packet, or there are none.
    Incomplete,
    /// A whole packet, whatever its checksum.
    Packet(Packet<'a>),
}

/// A packet as received.
pub(crate) struct Packet<'a> {
    pub(crate) packet_type: u8,
    pub(crate) data: &'a [u8],
    /// What the packet's bytes sum up to, and what the packet says.
    pub(crate) expected_checksum: u8,
    pub(crate) found_checksum: u8,
    /// How many bytes the packet takes up.
    pub(crate) size_bytes: usize,
}

/// Looks for a packet at the front of `bytes`.
pub(crate) fn front(bytes: &[u8]) -> Front<'_> {
    if !bytes.starts_with(HEADER) && !HEADER.starts_with(bytes) {
        return Front::Rubbish;
    }
    let (Some(&packet_type), Some(&length)) = (bytes.get(TYPE_AT), bytes.get(LENGTH_AT)) else {
        return Front::Incomplete;
    };
    let end = DATA_AT + usize::from(length);
    let (Some(summed), Some(data), Some(&found_checksum)) =
        (bytes.get(..end), bytes.get(DATA_AT..end), bytes.get(end))
    else {
        return Front::Incomplete;
    };
    Front::Packet(Packet {
        packet_type,
        data,
        expected_checksum: checksum(summed),
        found_checksum,
        size_bytes: end + 1,
    })
}

/// Appends a packet, with a line feed before and after it. `parts` are its data, [`MAX_DATA_BYTES`] at most.
///
/// Clients look for a packet only where a line begins: without the line feed before it, a packet that follows
/// unfinished console text would be lost. The one after it keeps console text out of the packet's line.
pub(crate) fn write(out: &mut Vec<u8>, packet_type: u8, parts: &[&[u8]]) {
    let length = parts.iter().map(|part| part.len()).sum::<usize>();
    debug_assert!(length <= MAX_DATA_BYTES);
    out.reserve(1 + DATA_AT + length + 2);
    out.push(b'\n');
    let start = out.len();
    out.extend_from_slice(HEADER);
    out.extend([packet_type, length as u8]);
    for part in parts {
        out.extend_from_slice(part);
    }
    out.push(checksum(&out[start..]));
    out.push(b'\n');
}

fn checksum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
}
