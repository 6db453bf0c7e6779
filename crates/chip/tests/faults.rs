//! What is not modelled ends the run; what silicon refuses is an exception.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod common;

use chip::{Access, Fault, Stopped};
use common::asm::*;
use common::*;

/// What a program that is not carried on was stopped by, and the name of the label at its address.
fn fault(program: Code) -> (Fault, u32) {
    match run(flash(&[program]), 1000 * MS).1 {
        Stopped::Fault { fault, pc } => (fault, pc),
        stopped => panic!("{stopped:?}"),
    }
}

#[test]
fn a_register_that_is_not_modelled_stops_the_run_by_its_name() {
    let cases = [
        (0x6001_90D0, "LEDC.conf"),
        (0x6002_D00C, "I2S0.int_raw"),
        (0x600C_2FF0, "at 0x600c2ff0"),
        (0x6001_90D4, "LEDC.conf+0x4"),
    ];
    for (addr, name) in cases {
        let load = Code::at(FLASH).li(T0, addr).label("there").lw(T1, T0, 0).end();
        let store = Code::at(FLASH).li(T0, addr).label("there").sw(T1, T0, 0).end();
        for (program, access) in [(load, Access::Load), (store, Access::Store)] {
            let there = program.addr_of("there");
            let (found, pc) = fault(program);
            assert_eq!((found, pc), (Fault::Register { addr, access }, there));
            let message = found.to_string();
            assert!(message.contains(name) && message.contains("not modelled"), "{message}");
        }
    }
}

#[test]
fn a_function_of_the_rom_that_is_not_modelled_stops_the_run_by_its_name() {
    for name in ["ets_printf", "esp_rom_spiflash_write_status", "_rom_chip_id"] {
        let addr = rom(name);
        let (found, pc) = fault(Code::at(FLASH).rom(name, &[]).end());
        assert_eq!((found, pc), (Fault::RomFunction { addr }, addr));
        assert!(found.to_string().contains(name), "{found}");
    }
    let (found, _) = fault(Code::at(FLASH).call(0x4000_F002).end());
    assert_eq!(found, Fault::RomFunction { addr: 0x4000_F002 });
}

#[test]
fn data_of_the_rom_stops_the_run() {
    for addr in [0x4000_0000, 0x4005_FFFC] {
        assert_eq!(fault(Code::at(FLASH).load(T1, addr).end()).0, Fault::RomData { addr });
    }
}

type Access32 = fn(Code) -> Code;

/// Accesses, each with its address in T2: mcause, mtval, and how far mepc is from the instruction; zeros
/// without an exception.
fn traps(cases: &[(Access32, u32)]) -> Vec<[u32; 3]> {
    let mut program = Code::at(FLASH).traps_to("vectors");
    for (index, (access, addr)) in cases.iter().enumerate() {
        let (there, after) = (format!("there {index}"), format!("after {index}"));
        program = program.li(T2, *addr).la(S3, &there).la(S4, &after).label(&there);
        program = access(program).tell(ZERO).tell(ZERO).tell(ZERO).label(&after);
    }
    let handler = program.end().vectors("vectors", "handler").label("handler").csrr(S0, MCAUSE);
    let handler = handler.csrr(S1, MTVAL).csrr(S2, MEPC).sub(S2, S2, S3).tell(S0).tell(S1).tell(S2);
    let words = telling(&[handler.csrw(MEPC, S4).mret()]);
    words.chunks_exact(3).map(|words| words.try_into().unwrap()).collect()
}

/// Whether these accesses have this cause, and as value their address and so much more.
fn check(cause: u32, more: u32, access: Access32, addrs: &[u32]) {
    let cases: Vec<_> = addrs.iter().map(|addr| (access, *addr)).collect();
    let expected: Vec<_> = addrs.iter().map(|addr| [cause, addr + more, 0]).collect();
    assert_eq!(traps(&cases), expected);
}

const NOWHERE: [u32; 8] =
    [0, 0x2000_0000, 0x3FC7_FFFC, 0x3FCE_0000, 0x403E_0000, 0x5000_2000, 0x6010_0000, 0xFFFF_FFFC];

#[test]
fn access_to_memory_that_is_not_there_is_an_exception() {
    check(5, 0, |code| code.lw(T1, T2, 0), &NOWHERE);
    check(5, 1, |code| code.lb(T1, T2, 1), &NOWHERE);
    check(7, 0, |code| code.sw(T1, T2, 0), &NOWHERE);
    check(7, 1, |code| code.sb(T1, T2, 1), &NOWHERE);
}

#[test]
fn a_jump_to_where_nothing_can_be_executed_is_an_exception() {
    let addrs: Vec<_> = NOWHERE.into_iter().chain([DATA, 0x6000_0000, 0x3C00_0020]).collect();
    let cases: Vec<_> = addrs.iter().map(|addr| (jump as Access32, *addr)).collect();
    for ([cause, value, distance], addr) in traps(&cases).into_iter().zip(addrs) {
        assert_eq!([cause, value], [1, addr]);
        assert_ne!(distance, 0, "mepc is where it jumped to");
    }
}

fn jump(code: Code) -> Code {
    code.jalr(ZERO, T2, 0)
}

#[test]
fn access_to_an_address_that_is_no_multiple_of_its_size_is_an_exception() {
    let addrs = [DATA, DATA_CODE, RTC_FAST, STORE0, 0x3C00_0020];
    check(4, 2, |code| code.lw(T1, T2, 2), &addrs);
    check(4, 1, |code| code.lh(T1, T2, 1), &addrs);
    check(6, 1, |code| code.sw(T1, T2, 1), &addrs);
    check(6, 3, |code| code.sh(T1, T2, 3), &addrs);
}

#[test]
fn a_store_into_flash_or_rom_is_an_exception() {
    check(7, 0, |code| code.sw(T1, T2, 0), &[0x3C00_0020, 0x4200_0020, 0x3C40_0000, 0x4000_0000]);
}

#[test]
fn a_crash_from_outside_is_an_illegal_instruction() {
    let program = Code::at(FLASH).traps_to("vectors").end().vectors("vectors", "handler");
    let mut chip = finished(&[program.label("handler").csrr(S0, MCAUSE).end()]);
    chip.crash();
    finish(&mut chip);
    assert_eq!(chip.x(S0 as usize), 2);
}
