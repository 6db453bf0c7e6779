//! Timers, and the way of their interrupts to the processor.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod common;

use std::time::Duration;

use chip::Stopped;
use common::asm::*;
use common::*;

/// Periods of the system timer by which a time may be off: interrupts are taken, and the time is told, with
/// the precision of a block of up to 48 instructions, of 0.4 periods each.
const SOON: u32 = 40;
const PENDING: u32 = MATRIX + 0x110;
const THRESHOLD: u32 = MATRIX + 0x194;
const TYPE: u32 = MATRIX + 0x108;
const CLEAR: u32 = MATRIX + 0x10C;

fn with_handler(main: Code, handler: impl Fn(Code) -> Code) -> Code {
    handler(main.handler()).leave()
}

fn start() -> Code {
    Code::at(FLASH).traps_to("vectors").li(S7, 0)
}

#[test]
fn a_single_alarm_goes_off_once_and_at_its_time() {
    for periods in [1000, 16_000, 16_001] {
        let main = start().route(ALARM0, 3, 1).alarm_after(S0, periods).label("wait").now(T2).sub(T2, T2, S0);
        // Until long after it.
        let main = main.srli(T3, T2, 31).bne(T3, ZERO, "wait").li(T3, 3 * periods).bltu(T2, T3, "wait");
        let program = with_handler(main.tell(S0).tell(S1).tell(S7).end(), |code| {
            code.now(S1).addi(S7, S7, 1).alarm_is_seen()
        });
        let told = telling(&[program]);
        let [alarm, taken, count] = told[..] else { panic!("{told:?}") };
        assert!(taken >= alarm && taken - alarm < SOON, "{periods}: {} late", taken.wrapping_sub(alarm));
        assert_eq!(count, 1);
    }
}

#[test]
fn a_periodic_alarm_goes_off_every_period() {
    const PERIOD: u32 = 5000;
    const COUNT: u32 = 60;
    let main = start().route(ALARM0 + 1, 3, 1).li(S3, COUNT);
    let main = main.store(SYSTIMER + 0x38, 1 << 30 | PERIOD).store(SYSTIMER, 0x4680_0000);
    let main = main.store(SYSTIMER + 0x54, 1).now(S0).store(SYSTIMER + 0x64, 2);
    // In long blocks alarms are seen a little late.
    let main = (0..44).fold(main.label("wait"), |code, _| code.mv(S9, S9));
    let main = main.bltu(S7, S3, "wait").interrupts_off();
    let main = main.store(SYSTIMER + 0x64, 0).store(SYSTIMER, 0x4600_0000).tell(S0).end();
    let program = with_handler(main, |code| code.now(S1).tell(S1).addi(S7, S7, 1).store(SYSTIMER + 0x6C, 2));
    let mut times = telling(&[program]);
    let began = times.pop().unwrap();
    assert_eq!(times.len(), COUNT as usize);
    for (count, time) in (1..).zip(times) {
        // It does not drift.
        let due = count * PERIOD;
        assert!((time - began).abs_diff(due) < SOON, "{count}: {} instead of {due}", time - began);
    }
}

#[test]
fn an_alarm_without_its_interrupt_enabled_shows_in_the_raw_register_only() {
    let code = Code::at(FLASH).alarm_after(S0, 500).store(SYSTIMER + 0x64, 0).label("wait");
    let code = code.load(S1, SYSTIMER + 0x68).beq(S1, ZERO, "wait").load(S2, SYSTIMER + 0x70);
    let code = code.alarm_is_seen().load(S3, SYSTIMER + 0x68).end();
    assert_eq!(results(&[code], [S1, S2, S3]), [1, 0, 0]);
}

/// Raises two software interrupts on lines with some priorities while interrupts are off, and turns them on:
/// the lines in the order in which they are taken, as digits.
fn order(first: (u32, u32), second: (u32, u32), more: impl Fn(Code) -> Code) -> u32 {
    let main = start().interrupts_off().li(S0, 0).route(50, first.0, first.1).route(51, second.0, second.1);
    let main = more(main.store(FROM_CPU0, 1).store(FROM_CPU0 + 4, 1));
    let program = with_handler(main.interrupts_on().end(), |code| {
        let code = code.csrr(T2, MCAUSE).andi(T2, T2, 31).slli(S0, S0, 4).or(S0, S0, T2);
        let code = code.li(T3, first.0).beq(T2, T3, "first").store(FROM_CPU0 + 4, 0).leave();
        code.label("first").store(FROM_CPU0, 0)
    });
    results(&[program], [S0])[0]
}

#[test]
fn priority_decides_which_line_is_taken_first() {
    assert_eq!(order((5, 3), (9, 7), |code| code), 0x95);
    assert_eq!(order((5, 7), (9, 3), |code| code), 0x59);
    assert_eq!(order((9, 2), (5, 2), |code| code), 0x59, "of equals, the lower line");
}

#[test]
fn threshold_and_enable_decide_which_lines_are_taken_at_all() {
    assert_eq!(order((5, 3), (9, 7), |code| code.store(THRESHOLD, 4)), 0x9);
    assert_eq!(order((5, 3), (9, 7), |code| code.store(THRESHOLD, 3)), 0x95, "as high is high enough");
    assert_eq!(order((5, 3), (9, 7), |code| code.store(THRESHOLD, 8)), 0);
    assert_eq!(order((5, 3), (9, 0), |code| code), 0x5, "priority 0 is never");
    assert_eq!(order((5, 3), (9, 7), |code| code.store(ENABLE, 1 << 5)), 0x5);
    assert_eq!(order((5, 3), (9, 7), |code| code.store(MATRIX + 4 * 51, 0)), 0x5, "line 0 is none");
}

#[test]
fn a_pending_interrupt_is_taken_as_soon_as_interrupts_are_turned_on() {
    let main = start().interrupts_off().route(50, 4, 1).store(FROM_CPU0, 1).fence_i();
    let main = main.load(S0, PENDING).mv(S1, S7);
    let main = main.interrupts_on().label("on").mv(S2, S7).la(S4, "on").end();
    let program = with_handler(main, |code| code.csrr(S3, MEPC).addi(S7, S7, 1).store(FROM_CPU0, 0));
    let [pending, before, after, from, on] = results(&[program], [S0, S1, S2, S3, S4]);
    assert_eq!((pending, before, after), (1 << 4, 0, 1));
    assert_eq!(from, on, "not one instruction came between");
}

#[test]
fn interrupts_are_off_in_a_handler_and_on_again_after_it() {
    let main = start().route(50, 4, 1).store(FROM_CPU0, 1).csrr(S2, MSTATUS).end();
    let program = with_handler(main, |code| code.csrr(S1, MSTATUS).store(FROM_CPU0, 0));
    assert_eq!(results(&[program], [S1, S2]).map(|mstatus| mstatus & MIE), [0, MIE]);
}

/// What a short pulse leaves pending: on a line of levels, on one of edges, and there after it was cleared.
/// Between what is done to a register and what another says of it there is `between`.
fn pulses(between: impl Fn(Code) -> Code) -> [u32; 3] {
    let pulse = |code: Code| {
        let code = between(between(code.store(FROM_CPU0, 1)).store(FROM_CPU0, 0));
        code.load(S0, PENDING)
    };
    let level = pulse(Code::at(FLASH).interrupts_off().route(50, 4, 1)).mv(S1, S0);
    let edge = pulse(level.store(TYPE, 1 << 4)).mv(S2, S0);
    results(&[edge.store(CLEAR, 1 << 4).load(S3, PENDING).end()], [S1, S2, S3])
}

#[test]
fn a_line_of_edges_keeps_what_it_has_seen_until_it_is_cleared() {
    assert_eq!(pulses(Code::fence_i), [0, 1 << 4, 0]);
}

#[test]
fn a_line_of_edges_sees_the_shortest_pulse() {
    assert_eq!(pulses(|code| code), [0, 1 << 4, 0]);
}

/// Timer group 0 from 80 MHz by 80: a period is a microsecond. `more` are bits of its configuration.
fn group_alarm(code: Code, more: u32, alarm: u32) -> Code {
    const GROUP: u32 = 0x6001_F000;
    code.store(GROUP + 0x10, alarm)
        .store(GROUP + 0x14, 0)
        .store(GROUP + 0x18, 0)
        .store(GROUP + 0x1C, 0)
        .store(GROUP + 0x70, 1)
        .store(GROUP, 3 << 30 | more | 80 << 13 | 1 << 10)
        .store(GROUP + 0x20, 1)
}

#[test]
fn the_alarm_of_a_timer_group_goes_off_at_its_time() {
    let main = group_alarm(start().route(32, 6, 1), 0, 700).now(S0).li(S3, 2 * 700 * 16);
    let main = main.label("wait").now(T2).sub(T2, T2, S0).bltu(T2, S3, "wait").end();
    let program = with_handler(main, |code| code.now(S1).addi(S7, S7, 1).store(0x6001_F07C, 1));
    let [began, taken, count] = results(&[program], [S0, S1, S7]);
    assert!((taken - began).abs_diff(700 * 16) < SOON, "{}", taken - began);
    assert_eq!(count, 1, "the alarm is off after it went off");
}

#[test]
fn a_timer_group_that_reloads_begins_again() {
    let main = group_alarm(start().route(32, 6, 1), 1 << 29, 300).now(S0).li(S3, 4);
    let main = main.label("wait").bltu(S7, S3, "wait").sub(S2, S1, S0).store(0x6001_F070, 0).end();
    let program = with_handler(main, |code| {
        let code = code.now(S1).addi(S7, S7, 1).store(0x6001_F07C, 1);
        code.store(0x6001_F000, 7 << 29 | 80 << 13 | 1 << 10)
    });
    let [took] = results(&[program], [S2]);
    assert!(took.abs_diff(4 * 300 * 16) < 2 * SOON, "{took}");
}

#[test]
fn waiting_is_idle_until_the_next_event() {
    let main = start().route(ALARM0, 3, 1).alarm_after(S0, 3 * SYSTIMER_HZ / 1000).label("wait").wfi();
    let program = with_handler(main.now(S2).end(), |code| code.now(S1).alarm_is_seen());
    let mut chip = chip(&[program]);
    let Stopped::Idle { until } = chip.run(1000 * MS) else { panic!("it waits") };
    let left = until - chip.time();
    // The alarm is three milliseconds after it was set, which was a little earlier.
    assert!(left <= 3 * MS && left > 3 * MS - Duration::from_micros(20), "{left:?}");
    assert!(matches!(chip.run(1000 * MS), Stopped::Idle { .. }), "nothing changes without time");
    chip.pass(left - Duration::from_micros(10));
    assert!(matches!(chip.run(1000 * MS), Stopped::Idle { .. }), "it is too early");
    assert_eq!(chip.instructions(), {
        chip.run(1000 * MS);
        chip.instructions()
    });
    chip.pass(Duration::from_micros(10));
    finish(&mut chip);
    let [alarm, taken] = [S0, S1].map(|reg| chip.x(reg as usize));
    assert!(taken - alarm < SOON, "{}", taken - alarm);
}

#[test]
fn a_wait_ends_with_interrupts_off_too_and_none_is_taken() {
    let main =
        start().interrupts_off().route(ALARM0, 3, 1).alarm_after(S0, 1600).wfi().now(S1).alarm_is_seen();
    let main = main.end();
    let [alarm, woke, count] = results(&[with_handler(main, |code| code.addi(S7, S7, 1))], [S0, S1, S7]);
    assert!(woke - alarm < SOON, "{}", woke - alarm);
    assert_eq!(count, 0);
}

#[test]
fn a_wait_for_what_is_pending_already_is_none() {
    let main = start().interrupts_off().route(50, 3, 1).store(FROM_CPU0, 1).now(S0).wfi().now(S1);
    let main = main.store(FROM_CPU0, 0).end();
    let [before, after] = results(&[with_handler(main, |code| code)], [S0, S1]);
    assert!(after - before < SOON, "{}", after - before);
}
