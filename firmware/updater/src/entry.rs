//! The first instructions of the updater, before those of its runtime (riscv-rt).
//!
//! A reset need not change the processor's registers, and what ran before leaves its own values in them. The runtime sets
//! stack and global pointer; the scheduler (esp-rtos 0.4) takes a thread pointer other than 0 for the current task and
//! stores through it; a trigger of an application's debugger stops whoever comes upon it. So every register is set here.
//!
//! What ROM and bootloader have set is recorded first: it belongs to the application, which gets it back from the
//! chain-loader.

use core::arch::{asm, global_asm};

use chainload::found::MOST_CONTROLLER_WORDS;
use chainload::{ChainLoader as _, Found, Registers};

use crate::chip::Loader;

/// The registers of the interrupt controller, which follow those of the processor in [`Found`].
const FIRST: Registers = Loader::CONTROLLER[0];
const SECOND: Registers = Loader::CONTROLLER[1];

const _: () = assert!(FIRST.count + SECOND.count <= MOST_CONTROLLER_WORDS as u32);

/// The number of the last debug trigger (ESP32-C3 TRM, 1.9; chips with fewer keep the lower bits).
const LAST_TRIGGER: u32 = 7;

/// Records `mie` in the third word of `t0`. The core of the ESP32-C3 has no such register.
#[cfg(feature = "esp32c3")]
macro_rules! record_mie {
    () => {
        "
        sw      zero, 8(t0)
        "
    };
}

/// Records `mie` in the third word of `t0`, and turns all of its interrupts off.
#[cfg(feature = "esp32c6")]
macro_rules! record_mie {
    () => {
        "
        csrrw   t1, mie, zero
        sw      t1, 8(t0)
        "
    };
}

// In `.noinit`, because the runtime clears `.bss` after this. Interrupts go off before anything else is changed.
global_asm!(
    "
    .pushsection .noinit.updater_entry, \"aw\", @nobits
    .balign 4
    .global updater_entry_found
updater_entry_found:
    .zero   {found_bytes}
    .popsection

    // Records registers at t0, and moves t0 behind them.
    .macro  record first_addr, count
    li      t2, \\first_addr
    li      t3, \\count
1:  lw      t1, 0(t2)
    sw      t1, 0(t0)
    addi    t2, t2, 4
    addi    t0, t0, 4
    addi    t3, t3, -1
    bnez    t3, 1b
    .endm

    .pushsection .init, \"ax\"
    .global updater_entry
updater_entry:
    .option push
    .option norelax
    la      t0, updater_entry_found
    csrrw   t1, mstatus, zero
    sw      t1, 0(t0)
    csrr    t1, mtvec
    sw      t1, 4(t0)
    ",
    record_mie!(),
    "
    addi    t0, t0, 12
    record  {first_addr}, {first_count}
    record  {second_addr}, {second_count}

    csrw    mscratch, zero
    csrw    mepc, zero
    csrw    mcause, zero
    csrw    mtval, zero

    // No trigger that somebody has set, and none in machine mode: tcontrol.
    li      t0, {last_trigger}
1:  csrw    tselect, t0
    csrw    tdata1, zero
    addi    t0, t0, -1
    bgez    t0, 1b
    csrw    0x7A5, zero

    .irp    number, 1, 2, 3, 4, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31
    li      x\\number, 0
    .endr
    la      t0, _start
    jr      t0
    .option pop
    .popsection
    ",
    found_bytes = const size_of::<Found>(),
    first_addr = const FIRST.first_addr,
    first_count = const FIRST.count,
    second_addr = const SECOND.first_addr,
    second_count = const SECOND.count,
    last_trigger = const LAST_TRIGGER,
);

unsafe extern "C" {
    static updater_entry_found: Found;
}

/// What ROM and bootloader have left.
pub(crate) fn found() -> &'static Found {
    // SAFETY: written by the first instructions of this program, and by nobody since.
    unsafe { &updater_entry_found }
}

/// Lets interrupts in. To be called once the hardware is initialised: esp-hal runs with them on or off as it finds them.
pub(crate) fn enable_interrupts() {
    // SAFETY: esp-hal's trap vector is in place, and nothing is in a critical section.
    unsafe { asm!("csrsi mstatus, 8") };
}
