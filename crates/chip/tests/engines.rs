//! The SHA engine, random numbers, and the fuses.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod common;

use common::asm::*;
use common::*;
use proptest::prelude::*;
use sha2::{Digest as _, Sha256};

const SHA: u32 = 0x6003_B000;
const MODE_SHA_256: u32 = 2;
const BLOCK: usize = 64;

/// A message with the padding of FIPS 180-4, 5.1.1.
fn padded(message: &[u8]) -> Vec<u8> {
    let mut blocks = [message, &[0x80]].concat();
    while blocks.len() % BLOCK != BLOCK - 8 {
        blocks.push(0);
    }
    blocks.extend((8 * message.len() as u64).to_be_bytes());
    blocks
}

/// Gives a block to the engine as a program does: its bytes as words of memory.
fn feed(code: Code, block: &[u8], is_first: bool) -> Code {
    let words = block.chunks_exact(4).map(|word| u32::from_le_bytes(word.try_into().unwrap()));
    let code = (SHA + 0x80..).step_by(4).zip(words).fold(code, |code, (addr, word)| code.store(addr, word));
    code.store(SHA + if is_first { 0x10 } else { 0x14 }, 1)
}

fn wait_and_tell_digest(code: Code) -> Code {
    let code = code.label("busy").load(S0, SHA + 0x18).bne(S0, ZERO, "busy");
    (0..8).fold(code, |code, index| code.load(S0, SHA + 0x40 + 4 * index).tell(S0))
}

fn digest(message: &[u8]) -> Vec<u8> {
    let blocks = padded(message);
    let code = blocks
        .chunks_exact(BLOCK)
        .enumerate()
        .fold(Code::at(FLASH).store(SHA, MODE_SHA_256), |code, (index, block)| feed(code, block, index == 0));
    telling(&[wait_and_tell_digest(code).end()]).into_iter().flat_map(u32::to_le_bytes).collect()
}

#[test]
fn the_engine_hashes_one_block_and_two() {
    let text = b"The quick brown fox jumps over the lazy dog, and over it again, and over it again..";
    for length in [0, 3, 55, 56, 64, 80] {
        assert_eq!(digest(&text[..length]), Sha256::digest(&text[..length]).to_vec(), "{length} bytes");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_engine_hashes_what_sha2_hashes(message in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert_eq!(digest(&message), Sha256::digest(&message).to_vec());
    }
}

/// Programs that hash two things in turns save the state and put it back.
#[test]
fn a_state_that_is_put_back_goes_on() {
    let message = [0x61; 100];
    let blocks = padded(&message);
    let (first, second) = blocks.split_at(BLOCK);
    let code = feed(Code::at(FLASH).store(SHA, MODE_SHA_256), first, true);
    let state = |code: Code, each: fn(Code, u32, u32) -> Code| {
        (0..8).fold(code, |code, index| each(code, SHA + 0x40 + 4 * index, DATA + 4 * index))
    };
    let code = state(code, |code, engine, memory| code.load(S0, engine).store_reg(memory, S0));
    let code = feed(code, &[0x55; BLOCK], true);
    let code = state(code, |code, engine, memory| code.load(S0, memory).store_reg(engine, S0));
    let told = telling(&[wait_and_tell_digest(feed(code, second, false)).end()]);
    let found: Vec<_> = told.into_iter().flat_map(u32::to_le_bytes).collect();
    assert_eq!(found, Sha256::digest(message).to_vec());
}

#[test]
fn random_numbers_are_those_of_the_seed() {
    let numbers = |seed| {
        let code = (0..16).fold(Code::at(FLASH), |code, _| code.load(S0, RANDOM).tell(S0)).end();
        let mut chip = chip_with_seed(flash(&[code]), seed);
        finish(&mut chip);
        told(&mut chip)
    };
    let (one, two) = (numbers(1), numbers(2));
    assert_eq!(one, numbers(1));
    let mut all = [one, two].concat();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), 32, "no number comes twice");
}

#[test]
fn the_fuses_have_an_address_of_espressif_and_a_revision() {
    let code = Code::at(FLASH).load(S0, 0x6000_8844).load(S1, 0x6000_8848).load(S2, 0x6000_8850);
    let [low, high, sys_3] = results(&[code.end()], [S0, S1, S2]);
    let [_, _, a, b] = high.to_be_bytes();
    let [c, d, e, f] = low.to_be_bytes();
    assert_eq!([a, b, c, d, e, f], [0x60, 0x55, 0xF9, 0x01, 0x02, 0x03]);
    assert_eq!(sys_3 >> 18 & 7, 3, "v0.3");
}
