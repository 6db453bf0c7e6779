//! The Ethernet MAC as the updater drives it (firmware/updater/src/network/open_eth.rs): one descriptor to
//! send, a ring to receive.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod common;

use chip::{Chip, Stopped};
use common::asm::*;
use common::*;

const MAC: u32 = 0x600C_D000;
const TX: u32 = MAC + 0x400;
const RX: u32 = TX + 8;
const OWNED: u32 = 1 << 15;
const WRAP: u32 = 1 << 13;
const TX_PAD_CRC: u32 = 3 << 11;
const RECEIVE: u32 = 1;
const SEND: u32 = 1 << 1;
const CRC_PAD: u32 = 1 << 13 | 1 << 15;
const RX_FRAMES: u32 = 4;
const FRAME: u32 = 0x600;
const FCS: usize = 4;

fn tx_buffer() -> u32 {
    DATA + 0x8000
}

fn rx_buffer(index: u32) -> u32 {
    DATA + FRAME * index
}

fn wrap_of(index: u32) -> u32 {
    if index + 1 == RX_FRAMES { WRAP } else { 0 }
}

/// A descriptor, its address first.
fn descriptor(code: Code, addr: u32, flags: u32, buffer: u32) -> Code {
    code.store(addr + 4, buffer).store(addr, flags)
}

/// Starts the MAC; the descriptors for which `owned` has a bit are the hardware's.
fn start(owned: u32, mode: u32) -> Code {
    let code = Code::at(FLASH).store(MAC, 0).store(MAC + 0x20, 1);
    let code = descriptor(code, TX, WRAP, tx_buffer());
    let code = (0..RX_FRAMES).fold(code, |code, index| {
        let flags = if owned >> index & 1 != 0 { OWNED } else { 0 };
        descriptor(code, RX + 8 * index, flags | wrap_of(index), rx_buffer(index))
    });
    code.store(MAC, mode | CRC_PAD)
}

/// Sends so many bytes of the buffer, and waits for it.
fn send(code: Code, count: u32, name: &str) -> Code {
    let code = descriptor(code, TX, OWNED | WRAP | TX_PAD_CRC | count << 16, tx_buffer());
    code.label(name).load(T1, TX).li(T2, OWNED).and(T1, T1, T2).bne(T1, ZERO, name)
}

/// Waits until a descriptor is the program's, and tells its flags and its frame's first two words.
fn receive(code: Code, index: u32) -> Code {
    let name = format!("receive {index}");
    let code = code.label(&name).load(S0, RX + 8 * index).li(T2, OWNED).and(T1, S0, T2).bne(T1, ZERO, &name);
    code.tell(S0).load(S0, rx_buffer(index)).tell(S0).load(S0, rx_buffer(index) + 4).tell(S0)
}

fn frame(length: usize, first: u8) -> Vec<u8> {
    (0..length).map(|index| first.wrapping_add(index as u8)).collect()
}

fn word(bytes: &[u8]) -> u32 {
    u32::from_le_bytes(bytes[..4].try_into().unwrap())
}

/// What `receive` tells of a frame.
fn received(frame: &[u8], flags: u32) -> [u32; 3] {
    [((frame.len() + FCS) as u32) << 16 | flags, word(frame), word(&frame[4..])]
}

/// Runs on for ten milliseconds: the program may wait for a frame.
fn go_on(chip: &mut Chip) {
    let stopped = go(chip, chip.time() + 50 * MS);
    assert!(matches!(stopped, Stopped::Idle { .. } | Stopped::TimeUp), "{stopped:?}");
}

#[test]
fn frames_that_a_program_sends_come_out_in_their_order() {
    let bytes = frame(1514, 5);
    let code = send(send(start(0, SEND), 1514, "one"), 60, "two");
    let parts = [(FLASH, code.print("sent").end().bytes()), (tx_buffer(), bytes.clone())];
    let (mut chip, _, console) = run(flash_of(&parts), 1000 * MS);
    assert!(console.ends_with("sent"), "{console}");
    assert_eq!(chip.take_frames(), [bytes.clone(), bytes[..60].to_vec()]);
    assert!(chip.take_frames().is_empty(), "they are told once");
}

#[test]
fn nothing_is_sent_that_the_program_has_not_given_away_or_with_the_sender_off() {
    let given = descriptor(start(0, 0), TX, OWNED | WRAP | 60 << 16, tx_buffer());
    let kept = descriptor(start(0, SEND), TX, WRAP | 60 << 16, tx_buffer());
    for code in [given, kept] {
        assert!(finished(&[code.load(S0, TX).end()]).take_frames().is_empty());
    }
}

#[test]
fn a_frame_that_is_delivered_lands_in_memory_with_its_length() {
    let mut chip = chip(&[receive(start(0xF, RECEIVE | SEND), 0).end()]);
    go_on(&mut chip);
    assert!(told(&mut chip).is_empty(), "it waits");
    chip.deliver(frame(100, 1));
    finish(&mut chip);
    assert_eq!(told(&mut chip), received(&frame(100, 1), 0));
}

#[test]
fn a_short_frame_is_filled_up() {
    let mut chip = chip(&[receive(start(0xF, RECEIVE), 0).end()]);
    go_on(&mut chip);
    told(&mut chip);
    chip.deliver(frame(42, 1));
    finish(&mut chip);
    let mut padded = frame(42, 1);
    padded.resize(60, 0);
    assert_eq!(told(&mut chip), received(&padded, 0));
}

#[test]
fn frames_fill_the_ring_in_their_order_and_wait_for_room() {
    let code = (0..RX_FRAMES).fold(start(0xF, RECEIVE), receive);
    // The first descriptor goes back, and takes the fifth frame.
    let code = descriptor(code, RX, OWNED, rx_buffer(0)).label("wait").load(S0, RX).li(T2, OWNED);
    let code = code.and(T1, S0, T2).bne(T1, ZERO, "wait").tell(S0).load(S0, rx_buffer(0)).tell(S0).end();
    let mut chip = chip(&[code]);
    go_on(&mut chip);
    told(&mut chip);
    let frames: Vec<_> = (0..5).map(|index| frame(64 + index, 0x10 * (index as u8 + 1))).collect();
    for frame in &frames {
        chip.deliver(frame.clone());
    }
    finish(&mut chip);
    let mut expected: Vec<_> =
        (0..).zip(&frames[..4]).flat_map(|(index, frame)| received(frame, wrap_of(index))).collect();
    expected.extend(&received(&frames[4], 0)[..2]);
    assert_eq!(told(&mut chip), expected);
}

#[test]
fn nothing_is_delivered_into_a_descriptor_that_is_the_programs() {
    // The second is the hardware's, but it is not its turn.
    let code = start(0b10, RECEIVE).store(rx_buffer(0), 7).store(rx_buffer(1), 8).now(S1);
    let code = code.label("wait").now(S2).sub(S2, S2, S1).li(T1, 100 * 16_000).bltu(S2, T1, "wait");
    let look = |code: Code| {
        let code = code.load(S0, RX).tell(S0).load(S0, rx_buffer(0)).tell(S0);
        code.load(S0, RX + 8).tell(S0).load(S0, rx_buffer(1)).tell(S0)
    };
    let code = descriptor(look(code), RX, OWNED, rx_buffer(0)).fence_i();
    let mut chip = chip(&[look(code).end()]);
    go_on(&mut chip);
    told(&mut chip);
    chip.deliver(frame(60, 1));
    finish(&mut chip);
    let told = told(&mut chip);
    assert_eq!(told[..4], [0, 7, OWNED, 8], "before it is given away");
    assert_eq!(told[4..], [64 << 16, word(&frame(60, 1)), OWNED, 8], "and after it");
}

#[test]
fn frames_that_come_while_the_receiver_is_off_are_lost() {
    let code = start(0xF, 0).now(S1).label("wait").now(S2).sub(S2, S2, S1).li(T1, 100 * 16_000);
    let code = code.bltu(S2, T1, "wait").store(MAC, RECEIVE | CRC_PAD).fence_i().load(S0, RX).tell(S0);
    let mut chip = chip(&[code.end()]);
    go_on(&mut chip);
    told(&mut chip);
    chip.deliver(frame(60, 1));
    finish(&mut chip);
    assert_eq!(told(&mut chip), [OWNED]);
}

#[test]
fn a_descriptor_that_points_nowhere_loses_its_frame_and_the_chip_lives() {
    let code = descriptor(start(0xF, RECEIVE), RX, OWNED, 0x2000_0000).label("wait").load(S0, RX);
    let code = code.li(T2, OWNED).and(T1, S0, T2).bne(T1, ZERO, "wait").tell(S0);
    let mut chip = chip(&[receive(code, 1).end()]);
    go_on(&mut chip);
    told(&mut chip);
    chip.deliver(frame(60, 1));
    chip.deliver(frame(61, 2));
    finish(&mut chip);
    let expected = [&[64 << 16][..], &received(&frame(61, 2), 0)].concat();
    assert_eq!(told(&mut chip), expected);
}
