//! A run is the same every time, however it is cut into pieces.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod common;

use std::time::Duration;

use chip::{Chip, Stopped};
use common::asm::*;
use common::*;

const ROUNDS: u32 = 12;

/// Every alarm draws a random number, tells it and the time, writes it into the flash, and sets the next
/// alarm by it. In between the program erases, and after some rounds it resets the chip by software; the next
/// start leaves it at once.
fn busy_program() -> [Code; 2] {
    let main = Code::at(FLASH).rom("rtc_get_reset_reason", &[]).li(T1, 1).bne(A0, T1, "again");
    let main = main.li(T0, RAM).csrw(MTVEC, T0).interrupts_off();
    let main = main.rom("esp_rom_spiflash_erase_sector", &[SCRATCH / SECTOR]).li(S7, 0).li(S8, ROUNDS);
    let main = main.route(ALARM0, 9, 2).alarm_after(S0, 999).interrupts_on();
    let main = main.label("wait").addi(S9, S9, 1).bltu(S7, S8, "wait").interrupts_off();
    let main = main.rom("esp_rom_spiflash_erase_sector", &[SCRATCH / SECTOR + 1]).tell(S9);
    let main = main.store(0x6000_8000, 1 << 31).label("again").load(S0, RANDOM).tell(S0).end();
    let handler = Code::at(RAM).handler().alarm_is_seen().load(S1, RANDOM).tell(S1).store_reg(DATA, S1);
    let handler = handler.slli(A0, S7, 2).li(T0, SCRATCH).add(A0, A0, T0).li(A1, DATA).li(A2, 4);
    let handler = handler.mv(S2, RA).call(rom("esp_rom_spiflash_write")).mv(RA, S2);
    let handler = handler.srli(S1, S1, 18).alarm_after(S0, 500).add(S0, S0, S1);
    let handler = handler.store_reg(SYSTIMER + 0x20, S0).store(SYSTIMER + 0x50, 1).tell(S0);
    [main, handler.addi(S7, S7, 1).leave()]
}

/// Everything that can be seen from outside.
#[derive(Debug, PartialEq)]
struct Seen {
    instructions: u64,
    time: Duration,
    console: Vec<u8>,
    flash: Vec<u8>,
    registers: Vec<u32>,
    pc: u32,
}

fn seen(mut chip: Chip) -> Seen {
    Seen {
        instructions: chip.instructions(),
        time: chip.time(),
        console: chip.take_console(),
        flash: chip.flash().bytes().to_vec(),
        registers: (0..32).map(|index| chip.x(index)).collect(),
        pc: chip.pc(),
    }
}

/// Runs the program to its end, or until then, in slices.
fn run_in(slice: Duration, seed: u64) -> Seen {
    let mut chip = chip_with_seed(flash(&busy_program()), seed);
    loop {
        match chip.run(chip.time() + slice) {
            Stopped::TimeUp => assert!(chip.time() < 5000 * MS, "it has an end"),
            Stopped::Idle { .. } => return seen(chip),
            stopped => panic!("{stopped:?}"),
        }
    }
}

#[test]
fn two_runs_with_one_seed_are_the_same_and_with_another_one_differ() {
    let one = run_in(10_000 * MS, 1);
    assert_eq!(one, run_in(10_000 * MS, 1));
    let two = run_in(10_000 * MS, 2);
    assert_ne!(one.console, two.console);
    assert_ne!(one.flash, two.flash);
    assert_ne!(one.time, two.time);
    let words = one.flash[SCRATCH as usize..][..4 * ROUNDS as usize].chunks_exact(4);
    assert!(words.clone().all(|word| word != [0xFF; 4]), "it did what it is to do: {words:x?}");
    assert_eq!(String::from_utf8_lossy(&one.console).matches("ESP-ROM").count(), 2);
}

#[test]
fn a_run_in_slices_is_the_run_in_one_piece() {
    let whole = run_in(10_000 * MS, 3);
    for slice in [MS, 10 * MS, Duration::from_micros(77)] {
        assert_eq!(run_in(slice, 3), whole, "slices of {slice:?}");
    }
}
