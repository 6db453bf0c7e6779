//! A name server without names (RFC 1035).
//!
//! A chip in this network knows its host by address. "No such name" tells a program that asks for a name so at once;
//! with silence it would wait for its timeout, and with "server failure" it would ask again.

use super::DNS;
use super::frame::{self, Endpoint};

const PORT: u16 = 53;
const HEADER_BYTES: usize = 12;
/// RFC 1035 (4.1.2): type and class, behind the name.
const TYPE_AND_CLASS_BYTES: usize = 4;
/// RFC 1035 (2.3.4).
const MAX_NAME_BYTES: usize = 255;
/// RFC 1035 (2.3.4).
const MAX_LABEL_BYTES: u8 = 63;

// RFC 1035 (4.1.1), the bytes 2 and 3 of the header.
const RESPONSE: u8 = 0x80;
const OPCODE: u8 = 0x78;
const RECURSION_DESIRED: u8 = 0x01;
const RECURSION_AVAILABLE: u8 = 0x80;
const NAME_ERROR: u8 = 3;

/// The frame that answers a query for a name; `None`: it is malformed, or no query with one question.
pub(super) fn answer(asker: &Endpoint, query: &[u8]) -> Option<Vec<u8>> {
    let (header, body) = query.split_first_chunk::<HEADER_BYTES>()?;
    let &[id_high, id_low, flags, _, 0, 1, ..] = header else { return None };
    if flags & (RESPONSE | OPCODE) != 0 {
        return None;
    }
    let question = body.get(..name_bytes(body)? + TYPE_AND_CLASS_BYTES)?;

    let flags = [RESPONSE | flags & RECURSION_DESIRED, RECURSION_AVAILABLE | NAME_ERROR];
    let [questions, none] = [[0, 1], [0, 0]];
    let mut reply = [[id_high, id_low], flags, questions, none, none, none].concat();
    reply.extend_from_slice(question);
    Some(frame::udp(DNS, PORT, asker, &reply))
}

/// The length of the name at the beginning of `bytes`. A question has nothing before it that its name could point to,
/// so a pointer (RFC 1035, 4.1.4) is malformed here.
fn name_bytes(bytes: &[u8]) -> Option<usize> {
    let mut end = 0;
    while end < MAX_NAME_BYTES {
        let label = *bytes.get(end)?;
        end += 1 + usize::from(label);
        match label {
            0 => return Some(end),
            1..=MAX_LABEL_BYTES => {}
            _ => return None,
        }
    }
    None
}
