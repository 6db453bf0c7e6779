//! Code that changes: behind the cache by its MMU, and in memory.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod common;

use common::asm::*;
use common::*;

const MMU: u32 = 0x600C_5000;
const CACHE_CTRL: u32 = 0x600C_4000;
const INVALID: u32 = 1 << 8;
const PAGE: u32 = 0x1_0000;
/// In the first page, and what the second page has there.
const FIRST: u32 = FLASH;
const SECOND: u32 = FLASH + PAGE;

/// A function that returns a number.
fn number(addr: u32, value: u32) -> Code {
    Code::at(addr).li(A0, value).ret()
}

/// Puts the two instructions of `number` at an address.
fn put_number(code: Code, addr: u32, value: u32) -> Code {
    let words = number(0, value).bytes();
    let words = words.chunks_exact(4).map(|word| u32::from_le_bytes(word.try_into().unwrap()));
    (addr..).step_by(4).zip(words).fold(code, |code, (addr, word)| code.store(addr, word))
}

fn call_and_tell(code: Code, addr: u32) -> Code {
    code.call(addr).tell(A0)
}

#[test]
fn a_page_that_is_mapped_anew_runs_its_new_code() {
    let code = call_and_tell(Code::at(RAM).load(S0, MMU).load(S1, MMU + 4), FIRST).store_reg(MMU, S1);
    let code = call_and_tell(code, FIRST).store_reg(MMU, S0);
    let code = call_and_tell(call_and_tell(code, FIRST), SECOND);
    assert_eq!(telling(&[code.end(), number(FIRST, 1), number(SECOND, 2)]), [1, 2, 1, 2]);
}

/// Does something to the cache, and uses the first page then: told are mcause and mtval, or nothing.
fn use_after(change: impl Fn(Code) -> Code, usage: impl Fn(Code) -> Code) -> Vec<u32> {
    let code = change(Code::at(RAM).traps_to("vectors").call(FIRST));
    let code = usage(code).end().handler().csrr(S0, MCAUSE).csrr(S1, MTVAL).tell(S0).tell(S1).end();
    telling(&[code, number(FIRST, 1)])
}

#[test]
fn a_page_that_is_not_valid_is_an_exception() {
    let unmap = |code: Code| code.store(MMU, INVALID);
    assert_eq!(use_after(unmap, |code| code.call(FIRST)), [1, FIRST]);
    assert_eq!(use_after(unmap, |code| code.load(S2, 0x3C00_0020)), [5, 0x3C00_0020]);
    assert!(use_after(|code| code, |code| code.call(FIRST).load(S2, 0x3C00_0020)).is_empty());
    let never_mapped = 0x4230_0000;
    assert_eq!(use_after(|code| code, |code| code.call(never_mapped)), [1, never_mapped]);
}

#[test]
fn a_page_beyond_the_flash_is_an_exception() {
    assert_eq!(use_after(|code| code.store(MMU, 0x40), |code| code.call(FIRST)), [1, FIRST]);
}

#[test]
fn with_the_cache_off_its_windows_are_an_exception() {
    let cases: [fn(Code) -> Code; 4] = [
        |code| code.store(CACHE_CTRL, 0),
        |code| code.store(CACHE_CTRL + 4, 3),
        |code| code.rom("Cache_Suspend_ICache", &[]),
        |code| code.rom("Cache_Disable_ICache", &[]),
    ];
    for off in cases {
        assert_eq!(use_after(off, |code| code.call(FIRST)), [1, FIRST]);
        assert_eq!(use_after(off, |code| code.load(S2, 0x3C00_0020)), [5, 0x3C00_0020]);
        let on_again = |code: Code| off(code).rom("Cache_Resume_ICache", &[]).store(CACHE_CTRL + 4, 0);
        assert!(use_after(on_again, |code| code.call(FIRST).load(S2, 0x3C00_0020)).is_empty());
    }
}

#[test]
fn code_that_is_overwritten_in_memory_runs_as_it_is_then() {
    // Where it is written and where it runs.
    let places =
        [(DATA, DATA_CODE), (DATA_CODE, DATA_CODE), (RTC_FAST, RTC_FAST), (DATA + 0x7C, DATA_CODE + 0x7C)];
    for (store, run) in places {
        let code =
            (1..5).fold(Code::at(FLASH), |code, value| call_and_tell(put_number(code, store, value), run));
        assert_eq!(telling(&[code.end()]), [1, 2, 3, 4], "{run:#x}");
    }
}

#[test]
fn code_that_the_rom_puts_into_memory_runs_as_it_is_then() {
    let load =
        |code: Code, from: u32| call_and_tell(code.rom("esp_rom_spiflash_read", &[from, DATA, 8]), DATA_CODE);
    let copy = |code: Code, from: u32| call_and_tell(code.rom("memcpy", &[DATA, from, 8]), DATA_CODE);
    let code = load(load(Code::at(FLASH), SCRATCH), SCRATCH + 8);
    let code = copy(copy(copy(code, DATA + 0x100), DATA + 0x108), DATA + 0x100);
    let numbers = [number(0, 3).bytes(), number(0, 4).bytes()].concat();
    let mut chip = chip_with_seed(flash_of(&[(FLASH, code.end().bytes()), (DATA + 0x100, numbers)]), 1);
    chip.flash_mut().put(SCRATCH, &[number(0, 1).bytes(), number(0, 2).bytes()].concat()).unwrap();
    finish(&mut chip);
    assert_eq!(told(&mut chip), [1, 2, 3, 4, 3]);
}

#[test]
fn after_a_fence_a_program_runs_the_next_instructions_that_it_has_changed() {
    let code = Code::at(RAM).la(T2, "next").la(T3, "other").lw(T3, T3, 0).sw(T3, T2, 0).fence_i();
    let code = code.label("next").addi(S0, ZERO, 1).end().label("other").addi(S0, ZERO, 2);
    assert_eq!(results(&[code], [S0]), [2]);
}

/// Blocks of the processor's are long: a change far behind their beginning counts too.
#[test]
fn a_change_in_the_middle_of_long_code_counts() {
    for distance in [1, 20, 40, 46] {
        let body = |value: i32| {
            let code = (0..60).fold(Code::at(DATA_CODE + 0x74).li(A0, 0), |code, index| {
                if index == distance { code.addi(A0, A0, value) } else { code.addi(A0, A0, 0) }
            });
            code.ret()
        };
        let words = body(7).bytes();
        let index = 1 + distance;
        let word = u32::from_le_bytes(words[4 * index..][..4].try_into().unwrap());
        let code = call_and_tell(Code::at(FLASH), DATA_CODE + 0x74);
        let code = code.store(DATA + 0x74 + 4 * index as u32, word);
        assert_eq!(telling(&[call_and_tell(code, DATA_CODE + 0x74).end(), body(5)]), [5, 7], "{distance}");
    }
}

#[test]
fn a_reset_maps_the_image_again() {
    let code = Code::at(RAM).rom("rtc_get_reset_reason", &[]).mv(S0, A0).call(FIRST).tell(A0);
    let code = code.addi(S0, S0, -1).bne(S0, ZERO, "again").load(S1, MMU + 4).store_reg(MMU, S1);
    let code = call_and_tell(code, FIRST).rom("software_reset", &[]).label("again").end();
    let mut chip = finished(&[code, number(FIRST, 1), number(SECOND, 2)]);
    assert_eq!(told(&mut chip), [1], "after the reset");
}
