//! While the flash erases, nobody may come near it through the cache: an interrupt in that time finds out.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod common;

use chip::{Access, Chip, Fault, Stopped};
use common::asm::*;
use common::*;

const MS_PERIODS: u32 = SYSTIMER_HZ / 1000;
/// The data sheets' typical erase of a sector.
const ERASE_MS: u32 = 45;
const LINE: u32 = 7;

/// Erases a sector, with an alarm a millisecond from the beginning. Told: when it goes off; when the erase
/// began and ended, and its result.
fn eraser(code: Code) -> Code {
    code.route(ALARM0, LINE, 1)
        .alarm_after(S0, MS_PERIODS)
        .now(S1)
        .rom("esp_rom_spiflash_erase_sector", &[SCRATCH / SECTOR])
        .now(S2)
        .mv(S3, A0)
}

fn tell_all(code: Code) -> Code {
    code.tell(S0).tell(S1).tell(S2).tell(S3)
}

/// Notes when it is taken, and what it interrupted.
fn handler(code: Code) -> Code {
    code.handler().now(S4).csrr(S5, MEPC).csrr(S6, MCAUSE).addi(S7, S7, 1).alarm_is_seen().leave()
}

fn with_scratch(parts: &[Code]) -> Chip {
    let mut chip = chip(parts);
    chip.flash_mut().fill(SCRATCH..SCRATCH + 4 * SECTOR, 0x5A).unwrap();
    chip
}

fn is_erased(chip: &Chip) -> bool {
    let bytes = chip.flash().bytes();
    let sector = |index: u32| &bytes[(SCRATCH + index * SECTOR) as usize..][..SECTOR as usize];
    assert!([sector(1), sector(2)].concat().iter().all(|byte| *byte == 0x5A), "only the first is");
    sector(0).iter().all(|byte| *byte == 0xFF)
}

#[test]
fn a_handler_in_the_flash_is_a_fault_during_an_erase() {
    let program = handler(eraser(Code::at(FLASH).traps_to("vectors")).print("not reached").end());
    let vector = program.addr_of("vectors") + 4 * LINE;
    let mut chip = with_scratch(&[program]);
    let stopped = go(&mut chip, 1000 * MS);
    let Stopped::Fault { fault, pc } = stopped else { panic!("{stopped:?}") };
    assert_eq!((fault, pc), (Fault::FlashBusy { addr: vector, access: Access::Fetch }, vector));
    assert!(fault.to_string().contains("interrupts must be off"), "{fault}");
    assert!(chip.time() < 60 * MS, "it came during the erase, at {:?}", chip.time());
}

#[test]
fn data_in_the_flash_is_a_fault_during_an_erase() {
    let ram = Code::at(RAM).vectors("vectors", "handler").label("handler").li(T2, 0x3C00_0020);
    let ram = ram.label("there").lw(T2, T2, 0).mret();
    let there = ram.addr_of("there");
    let program = eraser(Code::at(FLASH).li(T0, RAM).csrw(MTVEC, T0)).end();
    let stopped = go(&mut with_scratch(&[program, ram]), 1000 * MS);
    let Stopped::Fault { fault, pc } = stopped else { panic!("{stopped:?}") };
    assert_eq!((fault, pc), (Fault::FlashBusy { addr: 0x3C00_0020, access: Access::Load }, there));
}

#[test]
fn with_interrupts_off_an_erase_takes_its_time_and_the_interrupt_comes_after_it() {
    let program = eraser(Code::at(FLASH).traps_to("vectors").interrupts_off().li(S7, 0));
    let program = program.mv(S8, S7).interrupts_on().label("on").mv(S9, S7);
    let program = handler(tell_all(program).tell(S4).tell(S5).tell(S8).tell(S9).end());
    let on = program.addr_of("on");
    let mut chip = with_scratch(&[program]);
    finish(&mut chip);
    let told = told(&mut chip);
    let [alarm, began, ended, result, taken, from, before, after] = told[..] else { panic!("{told:?}") };
    assert!(is_erased(&chip));
    assert_eq!(result, 0);
    let took = ended - began;
    assert!((0..20).contains(&(took - ERASE_MS * MS_PERIODS)), "{took} periods");
    assert!(alarm < ended && taken > ended);
    assert_eq!((from, before, after), (on, 0, 1));
}

#[test]
fn a_handler_in_ram_runs_during_an_erase_which_returns_rightly() {
    let program = eraser(Code::at(FLASH).li(T0, RAM).csrw(MTVEC, T0).li(S7, 0));
    let program = tell_all(program).tell(S4).tell(S5).tell(S6).tell(S7).end();
    let mut chip = with_scratch(&[program, handler(Code::at(RAM))]);
    finish(&mut chip);
    let told = told(&mut chip);
    let [alarm, began, ended, result, taken, from, cause, count] = told[..] else { panic!("{told:?}") };
    assert!(is_erased(&chip));
    assert_eq!((result, cause, count), (0, 1 << 31 | LINE, 1));
    assert_eq!(from & !3, rom("esp_rom_spiflash_erase_sector"), "within the ROM's function");
    assert!((0..20).contains(&(taken - alarm)), "{} periods after its time", taken - alarm);
    let took = ended - began;
    assert!((0..20).contains(&(took - ERASE_MS * MS_PERIODS)), "{took} periods");
}

#[test]
fn a_program_takes_its_time_for_each_page() {
    let (from, bytes) = (SCRATCH + SECTOR, 3 * 256);
    let program = Code::at(FLASH).rom("esp_rom_spiflash_erase_sector", &[from / SECTOR]).now(S0);
    let program = program.rom("esp_rom_spiflash_write", &[from, DATA, bytes]).now(S1).sub(S0, S1, S0).end();
    let [took] = results(&[program], [S0]);
    // 400 us a page.
    assert!((0..20).contains(&(took - 3 * MS_PERIODS * 4 / 10)), "{took} periods");
}

/// The handler does not return to the call, as a scheduler that drops a task: the next one from the same
/// place is its own.
#[test]
fn a_call_that_was_left_for_good_is_not_mistaken_for_the_next_one() {
    let main = Code::at(RAM).traps_to("vectors").li(S7, 0).la(S9, "left").route(ALARM0, LINE, 1);
    let main = main.alarm_after(S0, MS_PERIODS).rom("esp_rom_spiflash_erase_sector", &[SCRATCH / SECTOR]);
    let main = main.label("left").rom("ets_delay_us", &[200_000]);
    let main = main.rom("esp_rom_spiflash_erase_sector", &[SCRATCH / SECTOR + 3]);
    let handler = main.tell(S7).end().handler().alarm_is_seen().addi(S7, S7, 1).csrw(MEPC, S9);
    let mut chip = with_scratch(&[handler.leave()]);
    finish(&mut chip);
    assert_eq!(told(&mut chip), [1]);
    assert!(is_erased(&chip));
    let next = &chip.flash().bytes()[(SCRATCH + 3 * SECTOR) as usize..][..SECTOR as usize];
    assert!(next.iter().all(|byte| *byte == 0xFF), "the next call did what it is to do");
}
