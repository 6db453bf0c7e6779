//! Interrupts of the core, and the controller in front of it.

use core::arch::asm;

use crate::chip::INTERRUPT_CONTROLLER;
use crate::register;

/// Makes the controller what a reset of the chip makes it: every source on no line, every line off. esp-hal has set it up
/// before the updater's `main`; ROM and bootloader leave it alone.
///
/// To be called with interrupts off.
pub(crate) fn reset_controller() {
    for registers in INTERRUPT_CONTROLLER {
        // SAFETY: the chip's table names the controller's registers; 0 turns off what each of them is for.
        unsafe { register::fill(registers, 0) };
    }
}

/// `MIE` of `mstatus` (RISC-V Privileged Architecture, 3.1.6).
const MACHINE_INTERRUPTS_ENABLED: u32 = 1 << 3;

/// Runs `action` without interrupts. The chips here have one core, so nothing else runs meanwhile.
pub(crate) fn off<T>(action: impl FnOnce() -> T) -> T {
    let before: u32;
    // SAFETY: turning interrupts off breaks nothing. No `nomem`: memory accesses stay on their side.
    unsafe { asm!("csrrci {before}, mstatus, 8", before = out(reg) before) };
    let result = action();
    if before & MACHINE_INTERRUPTS_ENABLED != 0 {
        // SAFETY: they were on before.
        unsafe { asm!("csrsi mstatus, 8") };
    }
    result
}
