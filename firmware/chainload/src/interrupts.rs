//! Interrupts of the core.

use core::arch::asm;

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
