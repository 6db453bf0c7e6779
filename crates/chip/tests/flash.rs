//! The flash, by the ROM's functions and behind the cache.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod common;

use chip::{Chip, Reset, Stopped};
use common::asm::*;
use common::*;
use sim::flash::{OnViolation, PowerCut, Tear};

const READ: &str = "esp_rom_spiflash_read";
const WRITE: &str = "esp_rom_spiflash_write";
const ERASE: &str = "esp_rom_spiflash_erase_sector";
const ERASE_BLOCK: &str = "esp_rom_spiflash_erase_block";
/// In the blocks after the first of the scratch part.
const OLD: u8 = 0x5A;
const USED: std::ops::Range<u32> = SCRATCH..SCRATCH + 0x2_0000;

/// Bytes that are all different from their neighbours.
fn pattern(count: usize) -> Vec<u8> {
    (0..count).map(|index| (index * 7 + index / 256) as u8).collect()
}

/// A program that calls one function and tells its result, with these bytes at `DATA` and the scratch part
/// used.
fn calling(function: &str, arguments: &[u32], data: &[u8]) -> Chip {
    let program = Code::at(FLASH).rom(function, arguments).tell(A0).end();
    let mut chip = chip_with_seed(flash_of(&[(FLASH, program.bytes()), (DATA, data.to_vec())]), 1);
    chip.flash_mut().fill(USED, OLD).unwrap();
    chip
}

fn called(function: &str, arguments: &[u32], data: &[u8]) -> (Chip, u32) {
    let mut chip = calling(function, arguments, data);
    finish(&mut chip);
    let result = told(&mut chip)[0];
    (chip, result)
}

fn bytes(chip: &Chip, from: u32, count: u32) -> &[u8] {
    &chip.flash().bytes()[from as usize..][..count as usize]
}

/// Whether nothing but this range differs from what was there before.
fn only_changed(chip: &Chip, from: u32, count: u32) -> bool {
    let outside = |addr: &u32| !(from..from + count).contains(addr);
    USED.filter(outside).all(|addr| chip.flash().bytes()[addr as usize] == OLD)
}

#[test]
fn a_read_puts_the_flash_into_memory() {
    let program = Code::at(FLASH).rom(READ, &[SCRATCH + 4, DATA, 12]).tell(A0);
    let program =
        program.load(S0, DATA).load(S1, DATA + 8).load(S2, DATA + 12).tell(S0).tell(S1).tell(S2).end();
    let parts = [(FLASH, program.bytes()), (DATA, vec![0xEE; 16])];
    let mut chip = chip_with_seed(flash_of(&parts), 1);
    chip.flash_mut().put(SCRATCH, &pattern(32)).unwrap();
    finish(&mut chip);
    let word = |from: usize| u32::from_le_bytes(pattern(32)[from..from + 4].try_into().unwrap());
    assert_eq!(told(&mut chip), [0, word(4), word(12), 0xEEEE_EEEE]);
}

#[test]
fn an_erase_erases_its_sector_or_block_and_nothing_else() {
    for (function, unit_bytes) in [(ERASE, SECTOR), (ERASE_BLOCK, 0x1_0000)] {
        let from = SCRATCH + unit_bytes;
        let (chip, result) = called(function, &[from / unit_bytes], &[]);
        assert_eq!(result, 0);
        assert!(bytes(&chip, from, unit_bytes).iter().all(|byte| *byte == 0xFF));
        assert!(only_changed(&chip, from, unit_bytes));
        assert_eq!(chip.flash().stats().erases, 1);
    }
}

#[test]
fn a_write_into_an_erased_part_is_what_was_written() {
    let data = pattern(600);
    let from = SCRATCH + 0x80;
    let program =
        Code::at(FLASH).rom(ERASE, &[SCRATCH / SECTOR]).rom(WRITE, &[from, DATA, 600]).tell(A0).end();
    let mut chip = chip_with_seed(flash_of(&[(FLASH, program.bytes()), (DATA, data.clone())]), 1);
    chip.flash_mut().fill(USED, OLD).unwrap();
    finish(&mut chip);
    assert_eq!(told(&mut chip), [0]);
    assert_eq!(bytes(&chip, from, 600), data);
    assert!(bytes(&chip, SCRATCH, 0x80).iter().all(|byte| *byte == 0xFF));
    assert!(only_changed(&chip, SCRATCH, SECTOR));
}

#[test]
fn a_write_clears_bits_and_never_sets_one() {
    let data = pattern(64);
    let and: Vec<_> = data.iter().map(|byte| byte & OLD).collect();
    let (chip, result) = called(WRITE, &[SCRATCH, DATA, 64], &data);
    assert_eq!((result, bytes(&chip, SCRATCH, 64)), (1, &and[..]));
    assert!(only_changed(&chip, SCRATCH, 64));
    // As silicon has it, which does not tell.
    let mut chip = calling(WRITE, &[SCRATCH, DATA, 64], &data);
    chip.flash_mut().set_on_violation(OnViolation::Pass);
    finish(&mut chip);
    assert_eq!((told(&mut chip), bytes(&chip, SCRATCH, 64)), (vec![0], &and[..]));
}

#[test]
fn what_is_not_aligned_or_outside_is_refused_and_changes_nothing() {
    let cases: [(&str, [u32; 3]); 5] = [
        (WRITE, [SCRATCH + 1, DATA, 4]),
        (WRITE, [SCRATCH, DATA, 3]),
        (WRITE, [4 << 20, DATA, 4]),
        (READ, [4 << 20, DATA, 4]),
        (ERASE, [0x400, 0, 0]),
    ];
    for (function, arguments) in cases {
        let (chip, result) = called(function, &arguments, &[0; 8]);
        assert_eq!(result, 1, "{function} {arguments:x?}");
        assert!(only_changed(&chip, 0, 0));
    }
}

/// What the sector held after the power was lost in its erase, and the chip.
fn torn(tear: Tear) -> (Chip, Vec<u8>) {
    let mut chip = calling(ERASE, &[SCRATCH / SECTOR], &[]);
    chip.flash_mut().arm(PowerCut { operation: 1, tear, seed: 3 });
    let stopped = go(&mut chip, 1000 * MS);
    assert!(matches!(stopped, Stopped::PowerLost), "{stopped:?}");
    assert!(told(&mut chip).is_empty(), "the program never learns it");
    assert!(only_changed(&chip, SCRATCH, SECTOR));
    let sector = bytes(&chip, SCRATCH, SECTOR).to_vec();
    (chip, sector)
}

#[test]
fn power_that_is_lost_in_an_erase_leaves_what_the_tear_says() {
    assert!(torn(Tear::Before).1.iter().all(|byte| *byte == OLD));
    assert!(torn(Tear::After).1.iter().all(|byte| *byte == 0xFF));
    let (_, half) = torn(Tear::Prefix { bytes: SECTOR / 2 });
    let (first, last) = half.split_at(SECTOR as usize / 2);
    assert!(first.iter().all(|byte| *byte == 0xFF) && last[1..].iter().all(|byte| *byte == OLD));
    let (_, bits) = torn(Tear::Bits);
    assert!(bits.iter().all(|byte| byte & OLD == OLD), "no bit is cleared by an erase");
    assert!(bits.iter().any(|byte| *byte != OLD) && bits.iter().any(|byte| *byte != 0xFF));
}

#[test]
fn without_power_nothing_runs_and_with_it_the_chip_starts_anew() {
    let (mut chip, _) = torn(Tear::Bits);
    chip.reset(Reset::PowerOn);
    assert!(matches!(chip.run(2000 * MS), Stopped::PowerLost));
    chip.flash().power().restore();
    chip.reset(Reset::PowerOn);
    finish(&mut chip);
    assert_eq!(told(&mut chip), [0]);
    assert!(bytes(&chip, SCRATCH, SECTOR).iter().all(|byte| *byte == 0xFF), "and erases it again");
}

#[test]
fn the_cache_shows_what_was_written() {
    // Entry 5 of the MMU, which both windows share, shows the scratch part.
    let code = Code::at(FLASH).store(0x600C_5000 + 4 * 5, SCRATCH >> 16).load(S0, 0x3C05_0000);
    let invalidated = |code: Code| code.rom("Cache_Invalidate_ICache_All", &[]);
    let code = invalidated(code.rom(ERASE, &[SCRATCH / SECTOR])).load(S1, 0x3C05_0000);
    let code = invalidated(code.rom(WRITE, &[SCRATCH, DATA, 4]));
    let program = code.load(S2, 0x3C05_0000).load(S3, 0x4205_0000).tell(S0).tell(S1).tell(S2).tell(S3).end();
    let parts = [(FLASH, program.bytes()), (DATA, 0x1357_9BDF_u32.to_le_bytes().to_vec())];
    let mut chip = chip_with_seed(flash_of(&parts), 1);
    chip.flash_mut().fill(USED, OLD).unwrap();
    finish(&mut chip);
    assert_eq!(told(&mut chip), [0x5A5A_5A5A, 0xFFFF_FFFF, 0x1357_9BDF, 0x1357_9BDF]);
}

#[test]
fn the_flash_says_how_large_it_is() {
    // SPI1's command "read identification", and the first word of its answer.
    let program = Code::at(FLASH).store(0x6000_2000, 1 << 28).label("wait").load(S0, 0x6000_2000);
    let [id] = results(&[program.load(S1, 0x6000_2058).end()], [S1]);
    assert_eq!(id >> 16, 22, "2 to the power of 22 bytes");
}

/// A program that reads a page of the scratch part through the cache, changes it, does something, and reads again at `addr`.
fn read_change_read(between: impl Fn(Code) -> Code, addr: u32) -> (Stopped, Vec<u32>) {
    const WINDOW: u32 = 0x3C05_0000;
    let code = Code::at(RAM).store(0x600C_5000 + 4 * 5, SCRATCH >> 16).load(S0, WINDOW + 0x40).tell(S0);
    let code = between(code.rom(ERASE, &[SCRATCH / SECTOR])).load(S0, WINDOW + addr).tell(S0).end();
    let mut chip = chip_with_seed(flash(&[code, Code::at(FLASH).ret()]), 1);
    chip.flash_mut().fill(USED, OLD).unwrap();
    let stopped = go(&mut chip, MS * 500);
    (stopped, told(&mut chip))
}

#[test]
fn a_read_of_what_was_changed_behind_the_cache_stops_the_run() {
    let invalidations: [fn(Code) -> Code; 4] = [
        |code| code.rom("Cache_Invalidate_ICache_All", &[]),
        |code| code.rom("Cache_Invalidate_Addr", &[0x3C05_0000, 64]),
        |code| code.store(0x600C_4028, 1),
        |code| code.rom("Cache_Disable_ICache", &[]).rom("Cache_Enable_ICache", &[]),
    ];
    let old = u32::from_le_bytes([OLD; 4]);
    for invalidate in invalidations {
        let (stopped, told) = read_change_read(invalidate, 0x40);
        assert!(matches!(stopped, Stopped::Idle { .. }), "{stopped:?}");
        assert_eq!(told, [old, u32::MAX]);
    }
    // The same line, and one that the cache does not hold.
    let suspended = |code: Code| code.rom("Cache_Suspend_ICache", &[]).rom("Cache_Resume_ICache", &[]);
    for between in [suspended, |code| code] {
        let (stopped, told) = read_change_read(between, 0x44);
        let Stopped::Fault { fault, .. } = stopped else { panic!("{stopped:?}") };
        assert!(fault.to_string().contains("invalidate it first"), "{fault}");
        assert_eq!(told, [old]);
        assert_eq!(read_change_read(between, 0x60).1, [old, u32::MAX]);
    }
}

#[test]
fn code_that_was_changed_behind_the_cache_stops_the_run() {
    let code = Code::at(RAM).call(FLASH).tell(A0);
    // The image's own pages.
    let code = (0x10..0x30).fold(code, |code, sector| code.rom(ERASE, &[sector])).call(FLASH).tell(A0).end();
    let mut chip = chip_with_seed(flash(&[code, Code::at(FLASH).li(A0, 1).ret()]), 1);
    let stopped = go(&mut chip, MS * 3000);
    let Stopped::Fault { fault, pc } = stopped else { panic!("{stopped:?}") };
    assert!(fault.to_string().contains("Fetch"), "{fault}");
    assert_eq!((pc, told(&mut chip)), (FLASH, vec![1]));
}
