//! Cache and its MMU: which pages of the flash are where in the two windows (ESP32-C3 TRM v1.1, section 3.3.3; `soc/
//! extmem_reg.h` and `hal/mmu_ll.h` of ESP-IDF 5.5).
//!
//! A read finds what the flash holds, and decoded code is dropped with every change of the table. Which lines a cache may hold
//! is kept, so that a read of one whose flash was changed meanwhile is found out.

use std::collections::HashMap;
use std::ops::Range;

use crate::registers;

const EXTMEM: u32 = 0x600C_4000;
const MMU_TABLE: u32 = 0x600C_5000;
pub(crate) const ENTRIES: usize = 128;
pub(crate) const LAST_ENTRY: usize = ENTRIES - 1;
pub(crate) const PAGE_SHIFT: u32 = 16;

const CTRL: u32 = EXTMEM;
const CTRL1: u32 = EXTMEM + 0x04;
const SYNC_CTRL: u32 = EXTMEM + 0x28;
const PRELOAD_CTRL: u32 = EXTMEM + 0x34;
const AUTOLOAD_CTRL: u32 = EXTMEM + 0x40;
const CACHE_STATE: u32 = EXTMEM + 0xB0;
const FREEZE: u32 = EXTMEM + 0xCC;

const ENABLE: u32 = 1;
const SHUT_INSTRUCTION_BUS: u32 = 1;
const SHUT_DATA_BUS: u32 = 2;
const SYNC_INVALIDATE: u32 = 1;
const SYNC_DONE: u32 = 2;
const PRELOAD_DONE: u32 = 2;
const AUTOLOAD_DONE: u32 = 8;
/// An entry that maps nothing (`SOC_MMU_INVALID`).
const INVALID: u32 = 1 << 8;

/// A line has 32 bytes (`SOC_CACHE_...`, `CONFIG_ESP32C3_INSTRUCTION_CACHE_LINE_32B` of ESP-IDF 5.5 is the only choice).
const LINE_SHIFT: u32 = 5;

/// Registers that hold what was written.
const PLAIN: [u32; 20] = [
    0x08, 0x0C, 0x10, 0x14, 0x18, 0x2C, 0x30, 0x38, 0x3C, 0x44, 0x48, 0x4C, 0x50, 0x78, 0x7C, 0x84, 0x88,
    0xAC, 0xC8, 0x100,
];

/// The cache.
#[derive(Clone, Debug)]
pub(crate) struct Cache {
    ctrl: u32,
    shut: u32,
    freeze: u32,
    table: [u32; ENTRIES],
    plain: HashMap<u32, u32>,
    version: u64,
    lines: Lines,
}

/// Which lines of the flash were read through the cache since it was invalidated, and which of them were changed after that.
#[derive(Clone, Debug, Default)]
struct Lines {
    /// How often it was invalidated.
    age: u32,
    /// By line: the age at which it was read last, and the one at which it was changed after a read; counted from 1.
    read: Vec<u32>,
    changed: Vec<u32>,
}

impl Lines {
    /// A read; whether the cache may still hold what was there before a change.
    #[inline]
    fn read(&mut self, flash_addr: u32) -> bool {
        let (line, now) = ((flash_addr >> LINE_SHIFT) as usize, self.age + 1);
        if line >= self.read.len() {
            self.grow(line);
        }
        self.read[line] = now;
        self.changed[line] == now
    }

    #[cold]
    fn grow(&mut self, line: usize) {
        let count = (line + 1).next_power_of_two();
        self.read.resize(count, 0);
        self.changed.resize(count, 0);
    }

    /// A change in the flash; whether a line was read before it.
    fn change(&mut self, range: Range<u32>) -> bool {
        let lines = range.start >> LINE_SHIFT..range.end.div_ceil(1 << LINE_SHIFT);
        let now = self.age + 1;
        let mut any = false;
        for line in lines {
            if self.read.get(line as usize) == Some(&now) {
                self.changed[line as usize] = now;
                any = true;
            }
        }
        any
    }
}

impl Cache {
    pub(crate) fn at_reset() -> Self {
        Self {
            ctrl: 0,
            shut: SHUT_INSTRUCTION_BUS | SHUT_DATA_BUS,
            freeze: 0,
            table: [INVALID; ENTRIES],
            plain: PLAIN
                .iter()
                .map(|offset| (EXTMEM + offset, registers::at_reset(EXTMEM + offset)))
                .collect(),
            version: 0,
            lines: Lines::default(),
        }
    }

    /// A reset. What was decoded before it is none of what is mapped after it.
    pub(crate) fn reset(&mut self) {
        *self = Self { version: self.version + 1, ..Self::at_reset() };
    }

    pub(crate) fn read(&self, addr: u32) -> Option<u32> {
        Some(match addr {
            CTRL => self.ctrl,
            CTRL1 => self.shut,
            SYNC_CTRL => SYNC_DONE,
            PRELOAD_CTRL => PRELOAD_DONE,
            AUTOLOAD_CTRL => AUTOLOAD_DONE,
            // Idle.
            CACHE_STATE => 1,
            FREEZE => self.freeze,
            MMU_TABLE.. => *self.table.get((addr - MMU_TABLE) as usize / 4)?,
            _ => *self.plain.get(&addr)?,
        })
    }

    pub(crate) fn write(&mut self, addr: u32, value: u32) -> Option<()> {
        match addr {
            CTRL => self.ctrl = value,
            CTRL1 => self.shut = value & (SHUT_INSTRUCTION_BUS | SHUT_DATA_BUS),
            SYNC_CTRL if value & SYNC_INVALIDATE != 0 => self.invalidate(),
            SYNC_CTRL | PRELOAD_CTRL | AUTOLOAD_CTRL => {}
            // Frozen and thawed at once: bit 2 says so.
            FREEZE => self.freeze = value & 3 | (value & 1) << 2,
            MMU_TABLE.. => *self.table.get_mut((addr - MMU_TABLE) as usize / 4)? = value,
            _ => *self.plain.get_mut(&addr)? = value,
        }
        if addr >= MMU_TABLE || matches!(addr, CTRL | CTRL1) {
            self.version += 1;
        }
        Some(())
    }

    /// Switches the cache on or off, as functions of the ROM do.
    pub(crate) fn enable(&mut self, is_on: bool) {
        self.ctrl = if is_on { ENABLE } else { 0 };
        self.version += 1;
    }

    pub(crate) fn is_on(&self) -> bool {
        self.ctrl & ENABLE != 0
    }

    /// Opens both buses.
    pub(crate) fn open_buses(&mut self) {
        self.shut = 0;
    }

    pub(crate) fn invalidate(&mut self) {
        self.version += 1;
        self.lines.age += 1;
    }

    /// The flash was changed.
    pub(crate) fn flash_changed(&mut self, range: Range<u32>) {
        if self.lines.change(range) {
            // Decoded code is looked at again.
            self.version += 1;
        }
    }

    /// Something is read; whether the cache may still hold what was there before a change.
    #[inline]
    pub(crate) fn is_old(&mut self, flash_addr: u32) -> bool {
        self.lines.read(flash_addr)
    }

    pub(crate) fn map(&mut self, entry: usize, page: Option<u32>) {
        if let Some(slot) = self.table.get_mut(entry) {
            *slot = page.unwrap_or(INVALID);
        }
        self.version += 1;
    }

    /// Where in the flash an address of a window is.
    #[inline]
    pub(crate) fn flash_addr(&self, addr: u32, is_code: bool) -> Option<u32> {
        let shut = if is_code { SHUT_INSTRUCTION_BUS } else { SHUT_DATA_BUS };
        if self.ctrl & ENABLE == 0 || self.shut & shut != 0 {
            return None;
        }
        self.page_addr(addr)
    }

    /// The same, whether or not the cache is on and the bus open.
    pub(crate) fn page_addr(&self, addr: u32) -> Option<u32> {
        let entry = self.table[(addr >> PAGE_SHIFT) as usize % ENTRIES];
        (entry & INVALID == 0).then_some((entry & 0xFF) << PAGE_SHIFT | addr & 0xFFFF)
    }

    /// Changes when code in the window may have.
    #[inline]
    pub(crate) fn version(&self) -> u64 {
        self.version
    }
}
