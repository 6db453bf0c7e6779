//! Interrupts of the core, and the controller in front of it.

use core::arch::asm;

use crate::found::Registers;
use crate::register::Register;

/// Gives the controller's registers the values of `found`. To be called with interrupts off.
///
/// # Safety
/// `registers` are the chip's interrupt controller's.
pub(crate) unsafe fn restore_controller(registers: &[Registers], found: &[u32]) {
    let addrs = registers.iter().flat_map(|run| (run.first_addr..).step_by(4).take(run.count as usize));
    for (addr, value) in addrs.zip(found) {
        // SAFETY: registers of 32 bits, as the caller promises; interrupts are not for DMA.
        unsafe { Register::at(addr) }.write(*value);
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
