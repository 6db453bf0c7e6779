//! Atomic operations for chips without the A extension (ESP32-C3).
//!
//! `alloc::sync::Arc` needs compare-and-swap. The target of this build promises it (`"atomic-cas": true`), and LLVM then
//! calls these functions by their names (GCC manual, "Legacy __sync Built-in Functions"). There is one core, so an
//! operation is atomic when no interrupt comes between its load and its store. The code lies in RAM: it runs at every
//! clone of an `Arc`, also while the flash cache is off.
//!
//! The narrow forms take and return a whole register. Their argument has to be truncated and their result to be
//! sign-extended (RISC-V psABI, "Integer Calling Convention"), which is why no signature here says `u8`.

#![cfg(not(target_feature = "a"))]

use core::arch::asm;

/// Bit MIE of `mstatus` (RISC-V Privileged Architecture, section 3.1.6.1).
const MSTATUS_MIE: u32 = 1 << 3;

/// Runs `operate` with interrupts masked.
#[inline(always)]
fn undisturbed<T>(operate: impl FnOnce() -> T) -> T {
    let mstatus: u32;
    // SAFETY: reads and clears the interrupt enable of this core. Not `nomem`: no access to memory may move across it.
    unsafe { asm!("csrrci {0}, mstatus, 8", out(reg) mstatus) };
    let result = operate();
    if mstatus & MSTATUS_MIE != 0 {
        // SAFETY: sets what was set before.
        unsafe { asm!("csrsi mstatus, 8") };
    }
    result
}

const _: () = assert!(MSTATUS_MIE == 8, "the immediate in both instructions");

/// `name(address, operand)` stores `operation(old, operand)` and returns the old value.
macro_rules! fetch_and {
    ($($name:ident: $int:ty, $operation:expr;)*) => {$(
        /// # Safety
        /// `address` is aligned and valid for reads and writes.
        #[unsafe(no_mangle)]
        #[esp_hal::ram]
        unsafe extern "C" fn $name(address: *mut $int, operand: i32) -> i32 {
            undisturbed(|| {
                // SAFETY: the caller's promise.
                let old = unsafe { address.read_volatile() };
                let operation: fn($int, $int) -> $int = $operation;
                // SAFETY: as above.
                unsafe { address.write_volatile(operation(old, operand as $int)) };
                i32::from(old)
            })
        }
    )*};
}

/// `name(address, expected, new)` stores `new` when the old value is the expected one, and returns the old value.
macro_rules! compare_and_swap {
    ($($name:ident: $int:ty;)*) => {$(
        /// # Safety
        /// `address` is aligned and valid for reads and writes.
        #[unsafe(no_mangle)]
        #[esp_hal::ram]
        unsafe extern "C" fn $name(address: *mut $int, expected: i32, new: i32) -> i32 {
            undisturbed(|| {
                // SAFETY: the caller's promise.
                let old = unsafe { address.read_volatile() };
                if old == expected as $int {
                    // SAFETY: as above.
                    unsafe { address.write_volatile(new as $int) };
                }
                i32::from(old)
            })
        }
    )*};
}

macro_rules! unsigned {
    ($int:ty, $unsigned:ty, $choose:path) => {
        |old: $int, operand: $int| $choose(old as $unsigned, operand as $unsigned) as $int
    };
}

fetch_and! {
    __sync_fetch_and_add_1: i8, |old, operand| old.wrapping_add(operand);
    __sync_fetch_and_add_2: i16, |old, operand| old.wrapping_add(operand);
    __sync_fetch_and_add_4: i32, |old, operand| old.wrapping_add(operand);
    __sync_fetch_and_sub_1: i8, |old, operand| old.wrapping_sub(operand);
    __sync_fetch_and_sub_2: i16, |old, operand| old.wrapping_sub(operand);
    __sync_fetch_and_sub_4: i32, |old, operand| old.wrapping_sub(operand);
    __sync_fetch_and_and_1: i8, |old, operand| old & operand;
    __sync_fetch_and_and_2: i16, |old, operand| old & operand;
    __sync_fetch_and_and_4: i32, |old, operand| old & operand;
    __sync_fetch_and_or_1: i8, |old, operand| old | operand;
    __sync_fetch_and_or_2: i16, |old, operand| old | operand;
    __sync_fetch_and_or_4: i32, |old, operand| old | operand;
    __sync_fetch_and_xor_1: i8, |old, operand| old ^ operand;
    __sync_fetch_and_xor_2: i16, |old, operand| old ^ operand;
    __sync_fetch_and_xor_4: i32, |old, operand| old ^ operand;
    __sync_fetch_and_nand_1: i8, |old, operand| !(old & operand);
    __sync_fetch_and_nand_2: i16, |old, operand| !(old & operand);
    __sync_fetch_and_nand_4: i32, |old, operand| !(old & operand);
    __sync_fetch_and_max_1: i8, core::cmp::max;
    __sync_fetch_and_max_2: i16, core::cmp::max;
    __sync_fetch_and_max_4: i32, core::cmp::max;
    __sync_fetch_and_min_1: i8, core::cmp::min;
    __sync_fetch_and_min_2: i16, core::cmp::min;
    __sync_fetch_and_min_4: i32, core::cmp::min;
    __sync_fetch_and_umax_1: i8, unsigned!(i8, u8, core::cmp::max);
    __sync_fetch_and_umax_2: i16, unsigned!(i16, u16, core::cmp::max);
    __sync_fetch_and_umax_4: i32, unsigned!(i32, u32, core::cmp::max);
    __sync_fetch_and_umin_1: i8, unsigned!(i8, u8, core::cmp::min);
    __sync_fetch_and_umin_2: i16, unsigned!(i16, u16, core::cmp::min);
    __sync_fetch_and_umin_4: i32, unsigned!(i32, u32, core::cmp::min);
    __sync_lock_test_and_set_1: i8, |_, operand| operand;
    __sync_lock_test_and_set_2: i16, |_, operand| operand;
    __sync_lock_test_and_set_4: i32, |_, operand| operand;
}

compare_and_swap! {
    __sync_val_compare_and_swap_1: i8;
    __sync_val_compare_and_swap_2: i16;
    __sync_val_compare_and_swap_4: i32;
}
