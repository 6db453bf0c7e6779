//! Heap and stack: what the linker leaves of the RAM, and the RAM that the bootloader no longer needs.

use core::ptr;

use esp_hal::ram;

use crate::console::line;

/// Heap in the updater's own RAM.
const MAIN_BYTES: usize = 112 * 1024;
/// Heap in the RAM that held the bootloader.
const RECLAIMED_BYTES: usize = 64 * 1024;

/// What an unused word of the stack holds.
const PAINT: u32 = 0x5AC3_5AC3;
/// Stays clear of the frame that paints.
const PAINT_GAP_BYTES: usize = 256;

unsafe extern "C" {
    // Of esp-hal's linker script; the stack grows from start to end, towards lower addresses.
    static _stack_start_cpu0: u32;
    static _stack_end_cpu0: u32;
}

/// Makes the heap usable and marks the unused stack. To be called once, before anything allocates.
pub(crate) fn init() {
    esp_alloc::heap_allocator!(#[ram(reclaimed)] size: RECLAIMED_BYTES);
    esp_alloc::heap_allocator!(size: MAIN_BYTES);
    let here = 0_u32;
    let top = (&raw const here as usize).saturating_sub(PAINT_GAP_BYTES);
    for address in words(top) {
        // SAFETY: between the end of the stack and this frame nothing lives.
        unsafe { ptr::without_provenance_mut::<u32>(address).write_volatile(PAINT) };
    }
}

/// Free heap in bytes.
pub(crate) fn free_heap_bytes() -> u32 {
    u32::try_from(esp_alloc::HEAP.free()).unwrap_or(u32::MAX)
}

/// Says how much of heap and stack was in use at the worst moment.
pub(crate) fn report() {
    let stats = esp_alloc::HEAP.stats();
    let lowest_free = stats.size.saturating_sub(stats.max_usage);
    line!("heap: {} bytes used at most of {}, {lowest_free} were free", stats.max_usage, stats.size);
    let (start, end) = (&raw const _stack_start_cpu0 as usize, &raw const _stack_end_cpu0 as usize);
    // SAFETY: reads the stack's own words.
    let is_painted = |address| unsafe { ptr::without_provenance::<u32>(address).read_volatile() } == PAINT;
    let free_words = words(start).take_while(|address| is_painted(*address)).count();
    let free_bytes = free_words * size_of::<u32>() + GUARD_BYTES;
    line!(
        "stack: {} bytes used at most of {}, {free_bytes} were free",
        start - end - free_bytes,
        start - end
    );
}

/// The words of the stack from its end up to `top`, without the guard at its end.
fn words(top: usize) -> impl Iterator<Item = usize> {
    (&raw const _stack_end_cpu0 as usize + GUARD_BYTES..top).step_by(size_of::<u32>())
}

/// The scheduler guards the end of the stack with a word within the first of these (esp-rtos 0.4).
const GUARD_BYTES: usize = 4096;
