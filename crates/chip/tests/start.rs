//! Power on: what ROM and bootloader print, and what a program finds.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod common;

use std::time::Duration;

use chip::Stopped;
use common::asm::*;
use common::*;

#[test]
fn a_program_prints_after_rom_and_bootloader() {
    let (chip, stopped, console) = run(flash(&[Code::at(FLASH).print("hello\n").end()]), 1000 * MS);
    assert!(matches!(stopped, Stopped::Idle { .. }), "{stopped:?}");
    let lines: Vec<_> = console.lines().collect();
    assert_eq!(lines[0], "ESP-ROM:esp32c3-api1-20210207");
    assert_eq!(lines[1], "rst:0x1 (PowerOn),boot:0x8 (SPI_FAST_FLASH_BOOT)");
    assert!(lines[2].ends_with("boot: Loaded app from partition at offset 0x10000"), "{console}");
    assert_eq!(lines[3..], ["hello"]);
    assert!(chip.time() > 30 * MS, "ROM and bootloader take their time: {:?}", chip.time());
}

#[test]
fn what_was_printed_is_told_once() {
    let mut chip = finished(&[Code::at(FLASH).print("a").wfi().print("b").end()]);
    assert!(chip.take_console().ends_with(b"a"));
    assert!(chip.take_console().is_empty());
}

/// `boot.rs` has them from an ESP32-C3.
#[test]
fn the_entry_registers_are_those_that_the_bootloader_leaves() {
    let program = Code::at(FLASH).mv(S0, SP).csrr(S1, MSTATUS).csrr(S2, MTVEC).csrr(S3, MCAUSE).end();
    assert_eq!(results(&[program], [S0, S1, S2, S3]), [0x3FCD_E310, MIE, 0x4000_1D01, 0]);
}

#[test]
fn the_first_part_is_entered_wherever_it_is() {
    for addr in [FLASH, RAM, RTC_FAST] {
        let chip = finished(&[Code::at(addr).li(S0, 77).end()]);
        assert_eq!((chip.x(S0 as usize), chip.pc() & !0xFF), (77, addr & !0xFF));
    }
}

#[test]
fn general_registers_are_noise_of_the_seed_after_power_on() {
    let registers = |seed| {
        let mut chip = chip_with_seed(flash(&[Code::at(FLASH).end()]), seed);
        finish(&mut chip);
        (3..32).map(|index| chip.x(index)).collect::<Vec<_>>()
    };
    let (one, two) = (registers(1), registers(2));
    assert_eq!(one, registers(1));
    assert!(one.iter().zip(&two).all(|(one, two)| one != two), "{one:x?} {two:x?}");
    assert!(!one.contains(&0) && !two.contains(&0));
}

#[test]
fn memories_are_noise_of_the_seed_after_power_on() {
    let addrs = [DATA, DATA + 4, RTC_FAST, STORE0];
    let words = |seed| {
        let code = (S2..).zip(addrs).fold(Code::at(FLASH), |code, (reg, addr)| code.load(reg, addr));
        let mut chip = chip_with_seed(flash(&[code.end()]), seed);
        finish(&mut chip);
        [S2, S3, S4, S5].map(|reg| chip.x(reg as usize))
    };
    let (one, two) = (words(1), words(2));
    assert_eq!(one, words(1));
    assert!(one.iter().zip(&two).all(|(one, two)| one != two && *one != 0), "{one:x?} {two:x?}");
}

#[test]
fn segments_for_ram_are_copied_and_those_for_flash_are_mapped() {
    let program = Code::at(FLASH).load(S0, DATA).load(S1, 0x3C01_0020).load(S2, 0x4201_0020).end();
    let parts = [
        (FLASH, program.bytes()),
        (DATA, 0x1234_5678_u32.to_le_bytes().to_vec()),
        (0x3C01_0020, 0x9ABC_DEF0_u32.to_le_bytes().to_vec()),
    ];
    let (chip, ..) = run(flash_of(&parts), 1000 * MS);
    // Both windows share the entries of the MMU.
    let found = [S0, S1, S2].map(|reg| chip.x(reg as usize));
    assert_eq!(found, [0x1234_5678, 0x9ABC_DEF0, 0x9ABC_DEF0]);
}

#[test]
fn without_an_image_nothing_starts() {
    let mut chip = chip_with_seed(vec![0xFF; 4 << 20], 1);
    let stopped = chip.run(Duration::from_secs(1));
    assert!(matches!(stopped, Stopped::NothingToStart(_)), "{stopped:?}");
    assert!(chip.take_console().starts_with(b"ESP-ROM:"));
}
