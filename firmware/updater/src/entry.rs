//! The first instructions of the updater, before those of its runtime (riscv-rt).
//!
//! A reset need not change the processor's registers, and what ran before leaves its own values in them. The runtime sets
//! stack and global pointer; the scheduler (esp-rtos 0.4) takes a thread pointer other than 0 for the current task and
//! stores through it; a trigger of an application's debugger stops whoever comes upon it. So every register is set here.
//!
//! What the bootloader has set is recorded first: it belongs to the application, which gets it back from the
//! chain-loader.

use core::arch::{asm, global_asm};

use chainload::Control;

/// `MPP` of `mstatus` is machine mode, everything else is off (RISC-V Privileged Architecture, 3.1.6).
const MSTATUS: u32 = 0b11 << 11;

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
    .global updater_entry_control
updater_entry_control:
    .zero   {control_bytes}
    .popsection

    .pushsection .init, \"ax\"
    .global updater_entry
updater_entry:
    .option push
    .option norelax
    la      t0, updater_entry_control
    li      t1, {mstatus}
    csrrw   t1, mstatus, t1
    sw      t1, 0(t0)
    csrr    t1, mtvec
    sw      t1, 4(t0)
    ",
    record_mie!(),
    "
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
    control_bytes = const size_of::<Control>(),
    mstatus = const MSTATUS,
    last_trigger = const LAST_TRIGGER,
);

unsafe extern "C" {
    static updater_entry_control: Control;
}

/// What the bootloader has left in the processor's control registers.
pub(crate) fn control() -> Control {
    // SAFETY: written by the first instructions of this program, and by nobody since.
    unsafe { updater_entry_control }
}

/// Lets interrupts in. To be called once the hardware is initialised: esp-hal runs with them on or off as it finds them.
pub(crate) fn enable_interrupts() {
    // SAFETY: esp-hal's trap vector is in place, and nothing is in a critical section.
    unsafe { asm!("csrsi mstatus, 8") };
}
