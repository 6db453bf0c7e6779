//! Programs by which the model was once taken in: each would have broken on silicon, or broke the model itself.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod common;

use chip::{Chip, Fault, Stopped};
use common::asm::*;
use common::*;

const RTC: u32 = 0x6000_8000;
const WATCHDOG: u32 = RTC + 0x90;
const WATCHDOG_FEED: u32 = RTC + 0xA4;
const WATCHDOG_KEY: u32 = RTC + 0xA8;
const KEY: u32 = 0x50D8_3AA1;
const ON: u32 = 1 << 31;
const ETHERNET: u32 = 0x600C_D000;
const PERIODS: u32 = SYSTIMER_HZ / 1000;

/// Erases a block and is interrupted in it by a handler in RAM.
fn interrupted_erase(handler: impl Fn(Code) -> Code) -> Chip {
    let ram = handler(Code::at(RAM).vectors("vectors", "handler").label("handler"));
    let program = Code::at(FLASH).li(T0, RAM).csrw(MTVEC, T0).store(DATA, 0x1234_5678);
    let program = program.route(ALARM0, 7, 1).alarm_after(S0, PERIODS);
    let program = program.rom("esp_rom_spiflash_erase_block", &[SCRATCH >> 16]).end();
    chip(&[program, ram])
}

#[test]
fn flash_that_is_busy_is_not_used_again_by_whoever_interrupts() {
    for (function, arguments) in [
        ("esp_rom_spiflash_read", [SCRATCH + 0x8000, DATA, 4]),
        ("esp_rom_spiflash_write", [SCRATCH, DATA, 4]),
        ("esp_rom_spiflash_erase_sector", [SCRATCH / SECTOR, 0, 0]),
    ] {
        let mut chip = interrupted_erase(|code| code.rom(function, &arguments).end());
        let stopped = go(&mut chip, 1000 * MS);
        assert!(
            matches!(stopped, Stopped::Fault { fault: Fault::FlashInUse, .. }),
            "{function}: {stopped:?}"
        );
    }
}

#[test]
fn what_reads_flash_that_is_busy_has_a_name_with_the_cache_off_too() {
    let entry = Code::at(FLASH).vectors("vectors", "handler").label("handler").end();
    let ram = Code::at(RAM).li(T0, FLASH).csrw(MTVEC, T0).route(ALARM0, 7, 1).alarm_after(S0, PERIODS);
    let ram = ram.rom("Cache_Suspend_ICache", &[]);
    let ram = ram.rom("esp_rom_spiflash_erase_sector", &[SCRATCH / SECTOR]).end();
    let mut chip = chip(&[ram, entry]);
    let stopped = go(&mut chip, 1000 * MS);
    assert!(matches!(stopped, Stopped::Fault { fault: Fault::FlashBusy { .. }, .. }), "{stopped:?}");
    assert!(chip.image_addr().is_some(), "the image by which its names are found");
}

#[test]
fn a_read_that_is_refused_leaves_memory_alone() {
    for from in [4 << 20, SCRATCH + 1, SCRATCH + 2] {
        let program = Code::at(FLASH).rom("esp_rom_spiflash_read", &[from, DATA, 8]);
        let program = program.tell(A0).load(S0, DATA).tell(S0).end();
        let mut chip = chip_with_seed(flash_of(&[(FLASH, program.bytes()), (DATA, vec![0xEE; 16])]), 1);
        finish(&mut chip);
        assert_eq!(told(&mut chip), [1, 0xEEEE_EEEE], "{from:#x}");
    }
}

#[test]
fn an_erase_past_all_numbers_does_not_begin_anew() {
    for (function, number) in
        [("esp_rom_spiflash_erase_sector", 0x10_0008), ("esp_rom_spiflash_erase_block", 0x1_0000)]
    {
        let mut chip = chip(&[Code::at(RAM).rom(function, &[number]).tell(A0).end()]);
        finish(&mut chip);
        assert_eq!((told(&mut chip), chip.flash().stats().erases), (vec![1], 0), "{function}");
    }
}

#[test]
fn a_write_that_is_refused_is_no_change() {
    let program = Code::at(RAM).load(S0, 0x3C00_0040).rom("esp_rom_spiflash_write", &[0x2_0041, DATA, 4]);
    let program = program.tell(A0).load(S2, 0x3C00_0040).end();
    let mut chip = chip(&[program, Code::at(FLASH).end()]);
    finish(&mut chip);
    assert_eq!(told(&mut chip), [1]);
}

/// Behind a branch that is always taken is code on another line of the cache, which was changed since. Nobody executes it.
#[test]
fn code_that_nobody_executes_is_no_fault_elsewhere() {
    let function = Code::at(FLASH).beq(ZERO, ZERO, "out");
    let function = (0..12).fold(function, |code, _| code.addi(A1, A1, 1)).label("later");
    let function = (0..12).fold(function, |code, _| code.addi(A1, A1, 1)).label("out").ret();
    let later = function.addr_of("later") - 0x4200_0000;
    let ram = Code::at(RAM).call(FLASH).load(A2, 0x3C00_0000 + later).store_reg(DATA, A2);
    let ram = ram.rom("esp_rom_spiflash_write", &[0x2_0000 + later, DATA, 4]).call(FLASH);
    let ram = ram.rom("memset", &[DATA, 0, 4]).tell(S5).end();
    let mut chip = chip(&[ram, function]);
    let stopped = go(&mut chip, 1000 * MS);
    assert!(matches!(stopped, Stopped::Idle { .. }), "{stopped:?}");
}

#[test]
fn fewer_descriptors_than_before_are_begun_anew() {
    let owned = 64 << 16 | 1 << 15;
    let give = |program: Code, descriptor: u32| {
        let at = ETHERNET + 0x400 + 8 * descriptor;
        program.store(at + 4, DATA).store(at, owned)
    };
    let program = Code::at(RAM).store(ETHERNET + 0x20, 4).store(ETHERNET, 0xA002);
    let program = (0..3).fold(program, give).load(S0, ETHERNET).store(ETHERNET + 0x20, 2);
    let program = (0..128).fold(program, |program, descriptor| give(program, descriptor % 128)).end();
    let mut chip = chip(&[program]);
    finish(&mut chip);
    assert!(chip.take_frames().len() >= 3);
}

#[test]
fn no_length_takes_more_memory_than_there_is() {
    for (function, arguments) in [
        ("memset", [DATA, 1, u32::MAX]),
        ("memcpy", [DATA, DATA, u32::MAX]),
        ("memcmp", [DATA, DATA, u32::MAX]),
        ("esp_rom_spiflash_write", [SCRATCH, DATA, u32::MAX - 3]),
    ] {
        let mut chip = chip(&[Code::at(RAM).rom(function, &arguments).end()]);
        let stopped = go(&mut chip, 1000 * MS);
        assert!(
            matches!(stopped, Stopped::Fault { fault: Fault::Nothing { .. }, .. }),
            "{function}: {stopped:?}"
        );
    }
    let program = Code::at(RAM).rom("esp_rom_spiflash_read", &[0, DATA, u32::MAX - 3]).tell(A0).end();
    let mut chip = chip(&[program]);
    finish(&mut chip);
    assert_eq!(told(&mut chip), [1]);
}

/// Whoever lets the time pass until the chip has something to do, as its users do, gets on.
#[test]
fn a_watchdog_without_a_time_stands_in_nobody_s_way() {
    let code = Code::at(FLASH).store(WATCHDOG_KEY, KEY);
    let code = (1..=4).fold(code, |code, stage| code.store(WATCHDOG + 4 * stage, 0));
    let mut chip = chip(&[code.store(WATCHDOG, ON | 1 << 28).end()]);
    for _ in 0..100_000 {
        match chip.run(chip.time() + MS / 16) {
            Stopped::Idle { until } => chip.pass(until.saturating_sub(chip.time())),
            Stopped::TimeUp => {}
            stopped => panic!("{stopped:?}"),
        }
    }
    assert!(chip.time() > 50 * MS, "{:?}", chip.time());
}

#[test]
fn a_run_ends_when_it_is_to_end() {
    let mut chip = chip(&[Code::at(RAM).label("on").addi(S0, S0, 1).addi(S1, S1, 1).j("on")]);
    let _ = chip.run(100 * MS);
    for _ in 0..100 {
        let (before, instructions) = (chip.time(), chip.instructions());
        assert!(matches!(chip.run(before + MS / 16), Stopped::TimeUp));
        // A block is 48 instructions at most.
        assert!(chip.time() - before < MS / 16 + MS / 1000, "{:?}", chip.time() - before);
        assert!(chip.instructions() - instructions < 10_100);
    }
}

/// Starts as its own second start, after it was reset in this way: goes to "again".
fn begin() -> Code {
    Code::at(FLASH).rom("rtc_get_reset_reason", &[]).mv(S0, A0).li(T1, 1).bne(S0, T1, "again")
}

/// How often the ROM has begun.
fn starts(chip: &mut Chip) -> usize {
    String::from_utf8_lossy(&chip.take_console()).matches("ESP-ROM").count()
}

#[test]
fn a_reset_of_the_processor_in_an_erase_finds_the_flash_at_rest() {
    let ram =
        Code::at(RAM).vectors("vectors", "handler").label("handler").rom("software_reset_cpu", &[]).end();
    let code = begin().li(T0, RAM).csrw(MTVEC, T0).route(ALARM0, 7, 1).alarm_after(S0, PERIODS);
    let code = code.rom("esp_rom_spiflash_erase_block", &[SCRATCH >> 16]).label("again").tell(S0).end();
    let mut chip = chip(&[code, ram]);
    finish(&mut chip);
    assert_eq!(told(&mut chip).len(), 1);
}

#[test]
fn the_bootloader_locks_the_watchdog_that_it_arms() {
    let code = begin().store(WATCHDOG_KEY, KEY).rom("software_reset_cpu", &[]);
    let code = code.label("again").load(S1, WATCHDOG_KEY).store(WATCHDOG, 0).load(S2, WATCHDOG).end();
    let [key, config] = results(&[code], [S1, S2]);
    // `bootloader_config_wdt` and `wdt_hal_init` of ESP-IDF 5.5: on, stage 0 resets the system, both signals 3.2 us long,
    // may reset the processor, pauses in sleep.
    assert_eq!((key, config), (0, 0xC007_EA00));
}

#[test]
fn a_watchdog_is_fed_by_its_bit_alone() {
    let code = Code::at(FLASH).store(WATCHDOG_KEY, KEY).label("again").store(WATCHDOG_FEED, 0);
    let code = code.rom("ets_delay_us", &[1_000_000]).j("again");
    let mut chip = chip(&[code]);
    let _ = go(&mut chip, 20_000 * MS);
    assert!(starts(&mut chip) >= 2, "it bites after 9 s");
}

#[test]
fn a_watchdog_resets_the_processor_only_where_it_may() {
    for (may, expected) in [(0, 1), (1 << 11, 2)] {
        let code = begin().store(WATCHDOG_KEY, KEY).store(WATCHDOG + 4, 1000).store(WATCHDOG_FEED, ON);
        let code = code.store(WATCHDOG, ON | 2 << 28 | may).label("hang").j("hang").label("again").end();
        let mut chip = chip(&[code]);
        let _ = go(&mut chip, 500 * MS);
        assert_eq!(starts(&mut chip), expected, "{may:#x}");
    }
}
