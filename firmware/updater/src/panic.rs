//! What happens when the updater itself breaks: one line on the console, and a restart that counts as a crash.

use core::panic::PanicInfo;

use crate::chip;
use crate::console::line;

/// Called by builds that keep the text of panics; `cargo xtask firmware` makes each an illegal instruction instead.
#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    line!("breaks: {info}");
    restart()
}

/// Called by esp-hal for every exception of the processor (RISC-V Privileged Architecture, section 3.1.15).
#[cfg(target_arch = "riscv32")]
#[unsafe(no_mangle)]
extern "C" fn ExceptionHandler(_registers: *mut core::ffi::c_void) -> ! {
    let (cause, address): (u32, u32);
    // SAFETY: reads two registers of this core.
    unsafe {
        core::arch::asm!("csrr {0}, mcause", "csrr {1}, mepc", out(reg) cause, out(reg) address);
    }
    line!("breaks: exception {:#x} at {address:#010x}", cause);
    restart()
}

fn restart() -> ! {
    chip::remember_panic();
    chip::reset()
}
