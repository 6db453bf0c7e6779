//! The stub: performs a [`Script`] from RAM that no application uses.
//!
//! While an application is copied to RAM and mapped, the updater's own code and data vanish: its code with the first
//! change of the MMU's table, its data with the first copy. So the last part runs from memory that no image may name
//! ([`MemoryMap::reserved`]), with all it needs beside it.
//!
//! It is assembler and not Rust, because it is copied to another address than it is linked for. A compiler may call
//! `memcpy` for a loop, or keep a constant in `.rodata`, and such code works until the next version of the compiler;
//! here it can be seen that nothing outside is referred to. It stands in `.rodata` as it is never executed in place.

use core::arch::{asm, global_asm};

use crate::found::Registers;
use crate::interrupts;
use crate::memory::MemoryMap;
use crate::script::{CALL, CLEAR, COPY, JUMP, MAP, MAX_STEPS, Script, Words};

/// Size of the stub, at the start of the reserved memory; the script follows.
const STUB_BYTES: u32 = 0x100;

/// What the ROM's functions and the start of an application may use of the stack: the size of the ROM's own
/// (`SOC_ROM_STACK_SIZE` of ESP-IDF's `soc/<chip>/include/soc/soc.h`).
const STACK_BYTES: u32 = 0x2000;

const fn has_room(map: &MemoryMap) -> bool {
    let script_bytes = (MAX_STEPS * size_of::<Words>()) as u32;
    map.reserved.start + STUB_BYTES + script_bytes + STACK_BYTES <= map.stack_addr
}

const _: () = assert!(has_room(&MemoryMap::ESP32C3) && has_room(&MemoryMap::ESP32C6));

// The stub's loop compares with these by counting down.
const _: () = assert!(JUMP == 0 && CALL == 1 && MAP == 2 && CLEAR == 3 && COPY == 4);

/// Writes `a1` to entry `a0` of the MMU's table; may use t1 and t2.
///
/// `mmu_ll_write_entry` of ESP-IDF's `hal/esp32c3/include/hal/mmu_ll.h`: the table at `DR_REG_MMU_TABLE`.
#[cfg(feature = "esp32c3")]
macro_rules! write_mmu_entry {
    () => {
        "
        li      t1, 0x600C5000
        slli    t2, a0, 2
        add     t1, t1, t2
        sw      a1, 0(t1)
        "
    };
}

/// Writes `a1` to entry `a0` of the MMU's table; may use t1 and t2.
///
/// `mmu_ll_write_entry` of ESP-IDF's `hal/esp32c6/include/hal/mmu_ll.h`: the entry's number to
/// `SPI_MEM_MMU_ITEM_INDEX_REG`, then its content to `SPI_MEM_MMU_ITEM_CONTENT_REG`.
#[cfg(feature = "esp32c6")]
macro_rules! write_mmu_entry {
    () => {
        "
        li      t1, 0x60002380
        sw      a0, 0(t1)
        li      t2, 0x6000237C
        sw      a1, 0(t2)
        "
    };
}

/// Sets `mie` to `a2`: this core has no such register.
#[cfg(feature = "esp32c3")]
macro_rules! set_mie {
    () => {
        ""
    };
}

/// Sets `mie` to `a2`.
#[cfg(feature = "esp32c6")]
macro_rules! set_mie {
    () => {
        "
        csrw    mie, a2
        "
    };
}

// In: s2 = the script, sp = the stack, interrupts off. s2 survives the ROM's functions, as the calling convention has
// it; all else is read anew for each step.
global_asm!(
    "
    .pushsection .rodata.chainload_stub, \"a\"
    .option push
    .option norelax
    .balign 4
    .global chainload_stub
chainload_stub:
1:
    lw      t0, 0(s2)
    lw      a0, 4(s2)
    lw      a1, 8(s2)
    lw      a2, 12(s2)
    lw      a3, 16(s2)
    addi    s2, s2, 20
    beqz    t0, 5f
    addi    t0, t0, -1
    beqz    t0, 2f
    addi    t0, t0, -1
    beqz    t0, 3f
    addi    t0, t0, -1
    beqz    t0, 4f
    // copy: a0 = to, a1 = from, a2 = bytes
6:
    lw      t0, 0(a1)
    sw      t0, 0(a0)
    addi    a1, a1, 4
    addi    a0, a0, 4
    addi    a2, a2, -4
    bnez    a2, 6b
    j       1b
2:  // call: a0 = argument, a1 = function
    jalr    a1
    j       1b
3:  // map: a0 = entry, a1 = value, a2 = number of entries, a3 = increment
    ",
    write_mmu_entry!(),
    "
    addi    a0, a0, 1
    add     a1, a1, a3
    addi    a2, a2, -1
    bnez    a2, 3b
    j       1b
4:  // clear: a0 = register, a1 = bits
    lw      t0, 0(a0)
    not     a1, a1
    and     t0, t0, a1
    sw      t0, 0(a0)
    j       1b
5:  // jump: a0 = entry point, a1 = mtvec, a2 = mie, a3 = mstatus
    csrw    mtvec, a1
    ",
    set_mie!(),
    "
    // Last of all: it may turn interrupts on.
    csrw    mstatus, a3
    jr      a0
    // Filled up; the assembler refuses a stub that is longer.
    .org    chainload_stub + {stub_bytes}
    .option pop
    .popsection
    ",
    stub_bytes = const STUB_BYTES,
);

unsafe extern "C" {
    static chainload_stub: [u32; STUB_BYTES as usize / size_of::<u32>()];
}

/// Gives `controller` its contents of `found` back, and performs the script.
///
/// # Safety
/// The script was made for this chip by [`Script::new`], `controller` is the chip's, and nothing that is still in use lies in the reserved memory
/// of `map`: not the caller's stack, and not a buffer that a peripheral writes to.
pub(crate) unsafe fn run(map: &MemoryMap, script: &Script, controller: &[Registers], found: &[u32]) -> ! {
    // SAFETY: an interrupt's handler would find its code and data overwritten. Nothing turns them on again.
    unsafe { asm!("csrci mstatus, 8") };
    // SAFETY: the caller's promise. What it leads to is no code of ours any more, and interrupts are off.
    unsafe { interrupts::restore_controller(controller, found) };

    // SAFETY: above is a symbol of this name, with as many words.
    let stub = unsafe { &chainload_stub };
    let script_addr = map.reserved.start + STUB_BYTES;
    // SAFETY: the reserved memory is RAM and nothing in it is in use, as the caller promises. `has_room` says that
    // stub and script end below the stack.
    unsafe {
        write_words(map.reserved.start, stub.iter().copied());
        write_words(script_addr, script.steps().iter().flat_map(|step| step.words()));
    }
    // SAFETY: the stub was written there just now, and neither chip caches RAM. It gets what it expects (see above),
    // and never returns.
    unsafe {
        asm!(
            "mv sp, {stack}",
            "jr {stub}",
            stack = in(reg) map.stack_addr,
            stub = in(reg) map.reserved.start + map.to_instruction_bus,
            in("s2") script_addr,
            options(noreturn),
        )
    }
}

/// Writes consecutive words.
///
/// # Safety
/// There is RAM from `addr` on for all of them, and no reference to it.
unsafe fn write_words(addr: u32, words: impl Iterator<Item = u32>) {
    let first = core::ptr::with_exposed_provenance_mut::<u32>(addr as usize);
    for (index, word) in words.enumerate() {
        // SAFETY: the caller promises that this word is RAM to write to.
        unsafe { first.add(index).write_volatile(word) };
    }
}
