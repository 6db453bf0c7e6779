//! Inputs made of other inputs, as fuzzers make them.

use std::ops::Range;

use rand::Rng;

/// Nothing that is fed is longer, in bytes.
const MAX_INPUT_BYTES: usize = 4096;

/// So many changes at most make an input of another one: a power of two, all powers up to it alike.
const MAX_CHANGES: u32 = 8;

/// Bytes at which something begins or ends.
const BYTES: [u8; 8] = [0, 1, 0x20, 0x2F, 0x7F, 0x80, 0xFE, 0xFF];

/// Integers, of which as many bytes are taken as a field has.
const INTEGERS: [u64; 12] =
    [0, 1, 0x7F, 0x80, 0xFF, 0x1000, 0x7FFF, 0xFFFF, 0x1_0000, 0x7FFF_FFFF, 0xFFFF_FFFF, u64::MAX];

/// An input that is made of those of the corpus.
pub(crate) fn made_of(corpus: &[Vec<u8>], random: &mut impl Rng) -> Vec<u8> {
    let mut input = corpus[random.gen_range(0..corpus.len())].clone();
    for _ in 0..1 << random.gen_range(0..=MAX_CHANGES.ilog2()) {
        let other = &corpus[random.gen_range(0..corpus.len())];
        change(&mut input, other, random);
    }
    input.truncate(MAX_INPUT_BYTES);
    input
}

fn change(input: &mut Vec<u8>, other: &[u8], random: &mut impl Rng) {
    if input.is_empty() {
        extend(input, random);
        return;
    }
    match random.gen_range(0..9) {
        0 => {
            let at = random.gen_range(0..input.len());
            input[at] ^= 1 << random.gen_range(0..8);
        }
        1 => {
            let at = random.gen_range(0..input.len());
            input[at] = byte(random);
        }
        2 => integer(input, random),
        3 => input.truncate(random.gen_range(0..input.len())),
        4 => drop(input.drain(range(input, random))),
        5 => extend(input, random),
        // A part again, over others or between them.
        6 => {
            let copy = input[range(input, random)].to_vec();
            let at = random.gen_range(0..=input.len());
            let end = if random.gen_bool(0.5) { at } else { input.len().min(at + copy.len()) };
            input.splice(at..end, copy);
        }
        // The beginning of one and the end of another.
        7 => {
            input.truncate(random.gen_range(0..=input.len()));
            input.extend(&other[random.gen_range(0..=other.len())..]);
        }
        // A part of another one in between.
        _ => {
            let at = random.gen_range(0..=input.len());
            input.splice(at..at, other[range(other, random)].iter().copied());
        }
    }
}

fn byte(random: &mut impl Rng) -> u8 {
    if random.gen_bool(0.5) { BYTES[random.gen_range(0..BYTES.len())] } else { random.gen_range(0..=u8::MAX) }
}

/// Sets a field somewhere to an integer of the table, or to a little more or less than it is.
fn integer(input: &mut [u8], random: &mut impl Rng) {
    let width = 1 << random.gen_range(0..4);
    let Some(last) = input.len().checked_sub(width) else { return };
    let at = random.gen_range(0..=last);
    let field = &mut input[at..at + width];
    let is_little_endian = random.gen_bool(0.5);
    if is_little_endian {
        field.reverse();
    }
    let mut bytes = [0; 8];
    bytes[8 - width..].copy_from_slice(field);
    let value = match random.gen_bool(0.5) {
        true => INTEGERS[random.gen_range(0..INTEGERS.len())],
        false => u64::from_be_bytes(bytes).wrapping_add_signed(random.gen_range(-16..=16)),
    };
    field.copy_from_slice(&value.to_be_bytes()[8 - width..]);
    if is_little_endian {
        field.reverse();
    }
}

/// Adds some bytes at the end, all alike or each another.
fn extend(input: &mut Vec<u8>, random: &mut impl Rng) {
    let length = random.gen_range(1..=64);
    if random.gen_bool(0.5) {
        input.resize(input.len() + length, byte(random));
    } else {
        input.extend((0..length).map(|_| random.gen_range(0..=u8::MAX)));
    }
}

/// Any part, more often a short one.
fn range(bytes: &[u8], random: &mut impl Rng) -> Range<usize> {
    let start = random.gen_range(0..=bytes.len());
    let longest = (bytes.len() - start).min(1 << random.gen_range(0..=MAX_INPUT_BYTES.ilog2()));
    start..start + random.gen_range(0..=longest)
}
