//! The steps of a hand-over, in order.
//!
//! [`Script::new`] turns a plan into steps; the stub in RAM performs them one after the other and decides nothing. So
//! everything that has an order is here, where a test can run it on a model of the chip.

use flashfmt::image::MAX_SEGMENTS;
use heapless::Vec;

use crate::memory::{MemoryMap, PAGE_BYTES};
use crate::plan::{LoadPlan, LoadSegment, MapSegment};

/// The most steps a plan can need: one for each mapped segment and for the last entry of the table, two for each
/// loaded segment, and the fixed ones.
pub const MAX_STEPS: usize = (MAX_SEGMENTS + 1) + 2 * MAX_SEGMENTS + FIXED_STEPS;

/// Twice: cache off, empty the table, drop the cached lines, open the buses, cache on. Then the jump.
const FIXED_STEPS: usize = 2 * 5 + 1;

/// How the flash cache is driven: functions in ROM and one register.
#[derive(Clone, Copy, Debug)]
pub struct Cache {
    /// `Cache_Disable_ICache()`.
    pub disable_addr: u32,
    /// `Cache_Enable_ICache(autoload)`.
    pub enable_addr: u32,
    /// `Cache_Invalidate_ICache_All()`.
    pub invalidate_all_addr: u32,
    /// Register that shuts the cache's buses.
    pub bus_register_addr: u32,
    /// Its bits, one for the instruction and one for the data bus.
    pub bus_shut_bits: u32,
}

/// One step of the stub.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Calls a function with one argument.
    Call {
        /// Its argument.
        argument: u32,
        /// Where it is.
        function_addr: u32,
    },
    /// Writes entries of the MMU's table, each `increment` more than the one before.
    Map {
        /// First entry.
        first_entry: u32,
        /// Its value.
        value: u32,
        /// How many entries; not 0.
        entries: u32,
        /// 1 for consecutive flash pages, 0 for the same value in all of them.
        increment: u32,
    },
    /// Clears bits of a register.
    Clear {
        /// The register.
        addr: u32,
        /// The bits.
        bits: u32,
    },
    /// Copies words.
    Copy {
        /// Where to.
        to_addr: u32,
        /// Where from.
        from_addr: u32,
        /// How much, in bytes; a multiple of 4 and not 0.
        len_bytes: u32,
    },
    /// Sets the processor's control registers, and jumps, for good.
    Jump {
        /// Where to.
        entry_addr: u32,
        /// What it finds in the registers.
        control: Control,
    },
}

/// Control registers of the processor as the bootloader left them (RISC-V Privileged Architecture, 3.1). An application
/// may count on them: esp-hal runs with the interrupts on or off that it finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Control {
    /// Interrupts on or off, and the privilege that traps return to.
    pub mstatus: u32,
    /// Where traps go: to the ROM.
    pub mtvec: u32,
    /// Which of the core's own interrupts are on; 0 where the core has no such register (ESP32-C3).
    pub mie: u32,
}

/// A step as the stub reads it: what to do, and up to four numbers.
pub type Words = [u32; 5];

/// First word of [`Step::Jump`].
pub const JUMP: u32 = 0;
/// First word of [`Step::Call`].
pub const CALL: u32 = 1;
/// First word of [`Step::Map`].
pub const MAP: u32 = 2;
/// First word of [`Step::Clear`].
pub const CLEAR: u32 = 3;
/// First word of [`Step::Copy`].
pub const COPY: u32 = 4;

impl Step {
    /// The step as the stub reads it.
    #[must_use]
    pub fn words(self) -> Words {
        match self {
            Self::Call { argument, function_addr } => [CALL, argument, function_addr, 0, 0],
            Self::Map { first_entry, value, entries, increment } => {
                [MAP, first_entry, value, entries, increment]
            }
            Self::Clear { addr, bits } => [CLEAR, addr, bits, 0, 0],
            Self::Copy { to_addr, from_addr, len_bytes } => [COPY, to_addr, from_addr, len_bytes, 0],
            Self::Jump { entry_addr, control: Control { mstatus, mtvec, mie } } => {
                [JUMP, entry_addr, mtvec, mie, mstatus]
            }
        }
    }
}

/// The steps of a hand-over. The last one is the jump.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Script {
    steps: Vec<Step, MAX_STEPS>,
}

impl Script {
    /// The steps for `plan`, which was made for `map`.
    ///
    /// First the data of all segments for RAM is mapped, one segment after the other from the first entry on, and
    /// copied; then what the application needs is mapped, as `set_cache_and_start_app` of ESP-IDF's
    /// `bootloader_utility.c` does.
    ///
    /// `entry_bits` are set in every entry that maps a page, beside those of the memory map; `control` is what the
    /// bootloader left to the updater.
    #[must_use]
    pub fn new(plan: &LoadPlan, map: &MemoryMap, cache: &Cache, entry_bits: u32, control: Control) -> Self {
        let mut script = Self { steps: Vec::new() };
        let entry_bits = map.mmu.valid | entry_bits;

        let sources = || {
            plan.loaded().iter().scan(0, |next_entry, segment| {
                let source = pages_of(segment, *next_entry);
                *next_entry += source.pages;
                Some((segment, source))
            })
        };
        script.remap(map, cache, entry_bits, sources().map(|(_, source)| source));
        for (segment, source) in sources() {
            let in_window = source.first_entry * PAGE_BYTES + segment.flash_addr % PAGE_BYTES;
            script.push(Step::Copy {
                to_addr: segment.load_addr,
                from_addr: map.data_window().start + in_window,
                len_bytes: segment.len_bytes,
            });
        }
        script.remap(map, cache, entry_bits, plan.mapped().iter().copied());
        script.push(Step::Jump { entry_addr: plan.entry_addr(), control });
        script
    }

    /// The steps.
    #[must_use]
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// Lets the cache see `pages` and nothing else.
    fn remap(
        &mut self,
        map: &MemoryMap,
        cache: &Cache,
        entry_bits: u32,
        pages: impl Iterator<Item = MapSegment>,
    ) {
        self.push(Step::Call { argument: 0, function_addr: cache.disable_addr });
        self.push(Step::Map {
            first_entry: 0,
            value: map.mmu.invalid,
            entries: map.mmu.entries,
            increment: 0,
        });
        for MapSegment { first_entry, first_page, pages } in pages {
            self.push(Step::Map {
                first_entry,
                value: first_page | entry_bits,
                entries: pages,
                increment: 1,
            });
        }
        self.push(Step::Call { argument: 0, function_addr: cache.invalidate_all_addr });
        self.push(Step::Clear { addr: cache.bus_register_addr, bits: cache.bus_shut_bits });
        // Without autoload, as in the bootloader.
        self.push(Step::Call { argument: 0, function_addr: cache.enable_addr });
    }

    fn push(&mut self, step: Step) {
        // Cannot be full, see `MAX_STEPS`.
        let _ = self.steps.push(step);
    }
}

/// The pages that hold the segment's data, to be mapped from `first_entry` on.
fn pages_of(segment: &LoadSegment, first_entry: u32) -> MapSegment {
    let first_page = segment.flash_addr / PAGE_BYTES;
    let end_page = (segment.flash_addr + segment.len_bytes).div_ceil(PAGE_BYTES);
    MapSegment { first_entry, first_page, pages: end_page - first_page }
}

/// The data of the segments for RAM always fits the table: all of RAM, and for each segment the parts of two pages
/// that are not its own.
const fn fits_the_table(map: &MemoryMap) -> bool {
    let mut ram_bytes = 0;
    let mut index = 0;
    while index < map.regions.len() {
        ram_bytes += map.regions[index].range.end - map.regions[index].range.start;
        index += 1;
    }
    ram_bytes / PAGE_BYTES + 2 * MAX_SEGMENTS as u32 <= map.mmu.entries
}

const _: () = assert!(fits_the_table(&MemoryMap::ESP32C3) && fits_the_table(&MemoryMap::ESP32C6));
