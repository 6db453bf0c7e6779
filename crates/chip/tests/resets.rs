//! Resets: what they leave, what the ROM says of them, and who makes them.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod common;

use std::time::Duration;

use chip::{Chip, Fault, Reset, Stopped};
use common::asm::*;
use common::*;
use updater::reset::{Content, Level};

const RTC: u32 = 0x6000_8000;
const GROUP: u32 = 0x6001_F000;
const KEY: u32 = 0x50D8_3AA1;
/// What the program leaves everywhere before a reset.
const MARK: u32 = 0x1234_5678;

/// Tells the cause and what the last start left in STORE0, SRAM, RTC fast memory and the register tp; leaves
/// the mark in all of them; does `after_power_on` after a power on, and else ends.
fn witness(after_power_on: impl Fn(Code) -> Code) -> Code {
    let code = Code::at(FLASH).rom("rtc_get_reset_reason", &[]).mv(S1, A0);
    let code = code.load(S2, STORE0).load(S3, DATA).load(S4, RTC_FAST).mv(S5, TP);
    let code = code.tell(S1).tell(S2).tell(S3).tell(S4).tell(S5);
    let code = code.li(TP, MARK).store_reg(STORE0, TP).store_reg(DATA, TP).store_reg(RTC_FAST, TP);
    let code = code.addi(S1, S1, -1).bne(S1, ZERO, "again");
    after_power_on(code).label("again").end()
}

/// What the witness told after the last reset.
fn report(chip: &mut Chip) -> [u32; 5] {
    let told = told(chip);
    told[..].try_into().unwrap_or_else(|_| panic!("{told:x?}"))
}

/// What the witness tells after the reset that it makes itself.
fn after(reset: impl Fn(Code) -> Code) -> [u32; 5] {
    report(&mut finished(&[witness(reset)]))
}

/// The RTC watchdog with one stage, of so many periods of the slow clock (136 kHz), doubled.
fn rtc_watchdog(code: Code, action: u32, periods: u32) -> Code {
    let code = code.store(RTC + 0xA8, KEY).store(RTC + 0x94, periods).store(RTC + 0xA4, 1 << 31);
    code.store(RTC + 0x90, 1 << 31 | action << 28 | 1 << 11).store(RTC + 0xA8, 0).label("hang").j("hang")
}

/// The watchdog of a timer group with one stage of 10 ms.
fn group_watchdog(code: Code, group: u32, action: u32) -> Code {
    let code = code.store(group + 0x64, KEY).store(group + 0x4C, 80 << 16).store(group + 0x50, 10_000);
    code.store(group + 0x60, 1).store(group + 0x48, 1 << 31 | action << 29).label("hang").j("hang")
}

#[test]
fn resets_by_software_keep_memories_and_registers() {
    let kept = |cause| [cause, MARK, MARK, MARK, MARK];
    assert_eq!(after(|code| code.store(RTC, 1 << 31)), kept(3));
    assert_eq!(after(|code| code.store(RTC, 1 << 5)), kept(12));
    assert_eq!(after(|code| code.rom("software_reset", &[])), kept(3));
    assert_eq!(after(|code| code.rom("software_reset_cpu", &[])), kept(12));
}

#[test]
fn the_rtc_watchdog_keeps_store0_but_with_the_action_that_resets_the_system() {
    assert_eq!(after(|code| rtc_watchdog(code, 2, 1000)), [13, MARK, MARK, MARK, MARK]);
    assert_eq!(after(|code| rtc_watchdog(code, 3, 1000)), [9, MARK, MARK, MARK, MARK]);
    assert_eq!(after(|code| rtc_watchdog(code, 4, 1000)), [16, 0, MARK, MARK, MARK]);
}

#[test]
fn the_watchdog_of_a_timer_group_keeps_store0() {
    assert_eq!(after(|code| group_watchdog(code, GROUP, 3)), [7, MARK, MARK, MARK, MARK]);
    assert_eq!(after(|code| group_watchdog(code, GROUP, 2)), [11, MARK, MARK, MARK, MARK]);
}

#[test]
fn a_locked_watchdog_cannot_be_changed() {
    let program = Code::at(FLASH).load(S0, RTC + 0x90).store(RTC + 0x90, 0).load(S1, RTC + 0x90);
    let program = program.store(RTC + 0xA8, KEY).store(RTC + 0x90, 0).load(S2, RTC + 0x90).end();
    let [before, locked, unlocked] = results(&[program], [S0, S1, S2]);
    assert_eq!(before >> 31, 1, "the bootloader left it on");
    assert_eq!((locked, unlocked), (before, 0));
}

#[test]
fn a_watchdog_bites_after_its_time() {
    let program = witness(|code| rtc_watchdog(code.now(S6), 4, 6800));
    let mut chip = chip(&[program]);
    let stopped = go(&mut chip, 1000 * MS);
    assert!(matches!(stopped, Stopped::Idle { .. }), "{stopped:?}");
    // Two starts of more than 30 ms, and 100 ms of 136 kHz.
    let start = chip_start();
    let waited = chip.time() - 2 * start;
    assert!(waited >= 100 * MS && waited < 102 * MS, "{waited:?}");
}

/// How long ROM and bootloader take for the witness.
fn chip_start() -> Duration {
    finished(&[witness(|code| code)]).time()
}

#[test]
fn every_reset_leaves_what_the_table_says_and_has_its_code() {
    let mut chip = chip(&[witness(|code| code)]);
    for reset in Reset::ALL {
        finish(&mut chip);
        chip.take_console();
        chip.reset(reset);
        finish(&mut chip);
        let [cause, store, sram, rtc_fast, tp] = report(&mut chip);
        let entry = reset.on(flashfmt::Chip::Esp32C3).unwrap();
        assert!(entry.codes.contains(&cause), "{reset:?}: {cause:#x}");
        let left = |content, found: u32| match content {
            Content::Kept => found == MARK,
            Content::Cleared => found == 0,
            Content::Undefined => found != MARK,
        };
        assert!(left(entry.remains.rtc, store), "{reset:?}: {store:#x}");
        assert!(left(entry.remains.sram, sram), "{reset:?}: {sram:#x}");
        // The RTC's memory is cleared by no reset; it is lost with the rest of its domain.
        assert_eq!(rtc_fast != MARK, entry.remains.rtc == Content::Undefined, "{reset:?}: {rtc_fast:#x}");
        if reset != Reset::DeepSleep {
            assert_eq!(tp != MARK, entry.level == Level::Chip, "{reset:?}: {tp:#x}");
        }
    }
}

#[test]
fn the_pin_en_looks_like_power_on() {
    let mut chip = finished(&[witness(|code| code)]);
    let first = report(&mut chip);
    chip.reset(Reset::EnPin);
    finish(&mut chip);
    let second = report(&mut chip);
    assert_eq!([first[0], second[0]], [1, 1]);
    for (first, second) in first[1..].iter().zip(&second[1..]) {
        assert!(first != second && *second != MARK && *second != 0, "{first:#x} {second:#x}");
    }
}

/// Sleeps for so many periods of the slow clock.
fn sleep(code: Code, periods: u32) -> Code {
    let code = code.store(RTC + 0x0C, 1 << 31).load(S6, RTC + 0x10).li(T1, periods).add(S6, S6, T1);
    let code = code.store_reg(RTC + 0x04, S6).store(RTC + 0x08, 1 << 16).store(RTC + 0x3C, 8 << 15);
    code.store(RTC + 0x18, 1 << 31).label("asleep").j("asleep")
}

#[test]
fn deep_sleep_ends_with_the_timer_and_keeps_the_rtc_domain() {
    let slept = finished(&[witness(|code| sleep(code, 68_000))]);
    let nap = slept.time() - 2 * chip_start();
    // Half a second of 136 kHz.
    assert!(nap > 499 * MS && nap < 501 * MS, "{nap:?}");
    let mut slept = slept;
    let [cause, store, sram, rtc_fast, _] = report(&mut slept);
    assert_eq!((cause, store, rtc_fast), (5, MARK, MARK));
    assert_ne!(sram, MARK, "the SRAM has no power");
}

#[test]
fn a_wake_says_that_the_timer_did_it() {
    let program = Code::at(FLASH).load(S1, RTC + 0xF8).bne(S1, ZERO, "again");
    let chip = finished(&[sleep(program, 100).label("again").end()]);
    assert_eq!(chip.x(S1 as usize), 8);
}

#[test]
fn sleep_that_nothing_ends_stops_the_run() {
    let program = Code::at(FLASH).store(RTC + 0x18, 1 << 31).label("asleep").j("asleep");
    let (_, stopped, _) = run(flash(&[program]), 1000 * MS);
    assert!(matches!(stopped, Stopped::Fault { fault: Fault::SleepsForEver, .. }), "{stopped:?}");
}

#[test]
fn the_watchdog_of_the_bootloader_resets_a_program_that_never_feeds_it() {
    let program = witness(|code| code.wfi().interrupts_off().label("hang").wfi().j("hang"));
    let mut chip = chip(&[program]);
    assert!(matches!(go(&mut chip, 8900 * MS), Stopped::Idle { .. }));
    assert_eq!(told(&mut chip)[0], 1, "it is not time yet");
    let stopped = go(&mut chip, 9500 * MS);
    assert!(matches!(stopped, Stopped::Idle { .. }), "{stopped:?}");
    assert_eq!(report(&mut chip), [16, 0, MARK, MARK, MARK]);
    let when = chip.time();
    assert!(when > 9000 * MS && when < 9200 * MS, "{when:?}");
}

#[test]
fn a_chip_that_hangs_is_reset_by_the_watchdog_too() {
    let mut chip = finished(&[witness(|code| code)]);
    chip.take_console();
    chip.hang();
    let Stopped::Idle { until } = chip.run(20_000 * MS) else { panic!("it hangs") };
    assert!(until > 9000 * MS && until < 9100 * MS, "{until:?}");
    go(&mut chip, 10_000 * MS);
    assert_eq!(report(&mut chip)[0], 16);
}

#[test]
fn a_program_that_feeds_the_watchdog_of_the_bootloader_lives() {
    // Every 4 seconds, by an alarm.
    let code = Code::at(FLASH).print("start").label("again").store(RTC + 0xA8, KEY);
    let code = code.store(RTC + 0xA4, 1 << 31).interrupts_off().route(ALARM0, 3, 1);
    let code = code.alarm_after(S0, 4 * SYSTIMER_HZ).wfi().alarm_is_seen().j("again");
    let (mut chip, stopped, console) = run(flash(&[code]), 30_000 * MS);
    assert!(matches!(stopped, Stopped::Idle { .. } | Stopped::TimeUp), "{stopped:?}");
    assert_eq!(console.matches("start").count(), 1);
    assert!(chip.time() > 26_000 * MS && chip.take_console().is_empty());
}
