//! Functions of the C library, and arithmetic of the compiler's, that the ROM has.

use super::Called;
use crate::bus::{Bus, MOST_BYTES};
use crate::fault::{Access, Fault};

/// Ticks for each byte that is moved: about what a loop of loads and stores takes.
const TICKS_PER_BYTE: u64 = 1;

/// Runs a function of this file; `None` if it is none.
pub(super) fn run(name: &str, arguments: &[u32; 8], bus: &mut Bus) -> Option<Called> {
    let [a, b, c, d, ..] = *arguments;
    Some(match name {
        "memcpy" | "memmove" => moved(bus, a, c, |bus| bus.read_bytes(b, c)),
        "memset" => moved(bus, a, c, |_| Ok(vec![b as u8; c as usize])),
        "memcmp" => {
            bus.now += u64::from(c) * TICKS_PER_BYTE;
            match bus.read_bytes(a, c).and_then(|left| Ok((left, bus.read_bytes(b, c)?))) {
                Ok((left, right)) => {
                    let differs = left.iter().zip(&right).find(|(left, right)| left != right);
                    let difference = differs.map_or(0, |(left, right)| i32::from(*left) - i32::from(*right));
                    Called::Return(Some(difference as u32))
                }
                Err(fault) => Called::Fault(fault),
            }
        }
        "__ffsdi2" => {
            let value = u64::from(b) << 32 | u64::from(a);
            Called::Return(Some(if value == 0 { 0 } else { value.trailing_zeros() + 1 }))
        }
        "__udivdi3" | "__umoddi3" | "__divdi3" | "__moddi3" | "__muldi3" | "__ashldi3" | "__lshrdi3"
        | "__ashrdi3" => {
            let (left, right) = (u64::from(b) << 32 | u64::from(a), u64::from(d) << 32 | u64::from(c));
            bus.now += 40;
            let result = wide(name, left, right)?;
            return Some(Called::Wide(result));
        }
        _ => return None,
    })
}

fn wide(name: &str, left: u64, right: u64) -> Option<u64> {
    let shift = right as u32 & 63;
    Some(match name {
        "__udivdi3" => left.checked_div(right).unwrap_or(u64::MAX),
        "__umoddi3" => left.checked_rem(right).unwrap_or(left),
        "__divdi3" => {
            if right == 0 {
                u64::MAX
            } else {
                (left as i64).wrapping_div(right as i64) as u64
            }
        }
        "__moddi3" => {
            if right == 0 {
                left
            } else {
                (left as i64).wrapping_rem(right as i64) as u64
            }
        }
        "__muldi3" => left.wrapping_mul(right),
        "__ashldi3" => left << shift,
        "__lshrdi3" => left >> shift,
        "__ashrdi3" => (left as i64 >> shift) as u64,
        _ => return None,
    })
}

fn moved(bus: &mut Bus, to: u32, len: u32, bytes: impl FnOnce(&mut Bus) -> Result<Vec<u8>, Fault>) -> Called {
    if len > MOST_BYTES {
        let addr = to.wrapping_add(MOST_BYTES);
        return Called::Fault(Fault::Nothing { addr, access: Access::Store });
    }
    bus.now += u64::from(len) * TICKS_PER_BYTE;
    match bytes(bus).and_then(|bytes| bus.write_bytes(to, &bytes)) {
        Ok(()) => Called::Return(Some(to)),
        Err(fault) => Called::Fault(fault),
    }
}
