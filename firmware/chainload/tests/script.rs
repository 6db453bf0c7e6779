//! The script, performed on a model of the chip: afterwards memory and MMU are as the application wants them.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::collections::BTreeMap;

use chainload::memory::PAGE_BYTES;
use chainload::script::{Cache, JUMP, MAX_STEPS, Step};
use chainload::{Check, Control, LoadPlan, MemoryMap, Script, Slot, plan};
use common::*;
use flashfmt::Chip;
use flashfmt::image::compose::Composer;
use sha2::Sha256;

/// Recognisable addresses; the real ones are proven where the chip is.
const CACHE: Cache = Cache {
    disable_addr: 0x4000_0001,
    enable_addr: 0x4000_0002,
    invalidate_all_addr: 0x4000_0003,
    bus_register_addr: 0x600C_4004,
    bus_shut_bits: 0b11,
};

/// What the bootloader left on an ESP32-C3: interrupts on, traps to the ROM.
const CONTROL: Control = Control { mstatus: 0x8, mtvec: 0x4000_1D01, mie: 0 };

/// A chip that complains about what silicon would answer with rubbish.
struct Machine<'a> {
    map: &'a MemoryMap,
    flash: &'a [u8],
    entries: Vec<u32>,
    cache_on: bool,
    /// Entries were written since the cached lines were dropped.
    stale: bool,
    bus_register: u32,
    ram: BTreeMap<u32, u32>,
}

impl<'a> Machine<'a> {
    /// As the updater leaves it: cache on, its own pages mapped, RAM full of its data.
    fn new(map: &'a MemoryMap, flash: &'a [u8]) -> Self {
        let entries = (0..map.mmu.entries).map(|entry| map.mmu.valid | (entry % 16)).collect();
        Self { map, flash, entries, cache_on: true, stale: false, bus_register: 0xF0F3, ram: BTreeMap::new() }
    }

    fn run(&mut self, script: &Script) -> u32 {
        for (number, step) in script.steps().iter().enumerate() {
            match *step {
                Step::Call { argument, function_addr } => self.call(argument, function_addr),
                Step::Map { first_entry, value, entries, increment } => {
                    assert!(!self.cache_on, "step {number} changes the table under the cache");
                    assert_ne!(entries, 0);
                    for index in 0..entries {
                        self.entries[(first_entry + index) as usize] = value + index * increment;
                    }
                    self.stale = true;
                }
                Step::Clear { addr, bits } => {
                    assert_eq!(addr, CACHE.bus_register_addr);
                    self.bus_register &= !bits;
                }
                Step::Copy { to_addr, from_addr, len_bytes } => {
                    assert!(len_bytes.is_multiple_of(4) && len_bytes > 0);
                    for offset in (0..len_bytes).step_by(4) {
                        let word = self.read_mapped(from_addr + offset);
                        self.ram.insert(to_addr + offset, word);
                    }
                }
                Step::Jump { entry_addr, control } => {
                    assert_eq!(number + 1, script.steps().len());
                    assert_eq!(control, CONTROL, "not what the bootloader left");
                    return entry_addr;
                }
            }
        }
        panic!("no jump");
    }

    fn call(&mut self, argument: u32, function_addr: u32) {
        assert_eq!(argument, 0);
        match function_addr {
            addr if addr == CACHE.disable_addr => self.cache_on = false,
            addr if addr == CACHE.invalidate_all_addr => self.stale = false,
            addr if addr == CACHE.enable_addr => {
                assert!(!self.stale, "cached lines of the old mapping");
                self.cache_on = true;
            }
            other => panic!("call of {other:#x}"),
        }
    }

    fn read_mapped(&self, addr: u32) -> u32 {
        let [data, code] = self.map.chip.flash_windows();
        assert!(data.contains(&addr) || code.contains(&addr), "{addr:#x} is not mapped flash");
        assert!(self.cache_on && self.bus_register & CACHE.bus_shut_bits == 0);
        let entry = self.entries[(addr / PAGE_BYTES % self.map.mmu.entries) as usize];
        assert_ne!(entry, self.map.mmu.invalid, "{addr:#x} is not mapped");
        let page = entry & 0xFF;
        let at = (page * PAGE_BYTES + addr % PAGE_BYTES) as usize;
        u32::from_le_bytes(self.flash[at..at + 4].try_into().unwrap())
    }

    fn bytes(&self, addr: u32, len: usize, read: impl Fn(&Self, u32) -> u32) -> Vec<u8> {
        let words = (addr..).step_by(4).take(len.div_ceil(4)).map(|addr| read(self, addr));
        words.flat_map(u32::to_le_bytes).take(len).collect()
    }

    fn loaded(&self, addr: u32, len: usize) -> Vec<u8> {
        self.bytes(addr, len, |machine, addr| machine.ram[&addr])
    }

    fn mapped(&self, addr: u32, len: usize) -> Vec<u8> {
        self.bytes(addr, len, Self::read_mapped)
    }
}

fn plan_in(map: &MemoryMap, slot: Slot, flash: &[u8]) -> LoadPlan {
    let mut flash = Flash { bytes: flash.to_vec(), broken_addr: None };
    plan::<Sha256, _>(map, slot, Check::Full, &mut flash).unwrap()
}

#[test]
fn the_application_finds_everything_in_its_place() {
    let map = &MemoryMap::ESP32C3;
    let flash = Flash::with(SLOT, &program().build().unwrap()).bytes;
    let plan = plan_in(map, SLOT, &flash);
    let mut machine = Machine::new(map, &flash);
    assert_eq!(machine.run(&Script::new(&plan, map, &CACHE, 0, CONTROL)), IRAM + 4);

    assert_eq!(machine.mapped(DROM, 0x300), pattern(0x300, 1));
    assert_eq!(machine.loaded(IRAM, 0x1000), pattern(0x1000, 2));
    assert_eq!(machine.loaded(DRAM, 0x804), pattern(0x804, 3));
    assert_eq!(machine.loaded(RTC, 0x20), pattern(0x20, 4));
    assert_eq!(machine.mapped(IROM, 0x1_8000), pattern(0x1_8000, 5));
    assert_eq!(machine.ram.len() * 4, 0x1000 + 0x804 + 0x20);

    // The whole table, as `set_cache_and_start_app` leaves it.
    let mut expected = vec![0x100; 128];
    expected[..3].copy_from_slice(&[0x12, 0x13, 0x11]);
    expected[127] = 0x11;
    assert_eq!(machine.entries, expected);
    assert!(machine.cache_on);
    assert_eq!(machine.bus_register, 0xF0F0);
}

#[test]
fn the_steps_come_in_the_order_of_the_bootloader() {
    let map = &MemoryMap::ESP32C3;
    let image = Composer::new(Chip::Esp32C3, IROM)
        .segment(DROM, &pattern(0x100, 1))
        .segment(DRAM, &pattern(0x100, 2))
        .segment(IROM, &pattern(0x100, 3));
    let flash = Flash::with(SLOT, &image.build().unwrap()).bytes;
    let script = Script::new(&plan_in(map, SLOT, &flash), map, &CACHE, 0, CONTROL);
    let call = |function_addr| Step::Call { argument: 0, function_addr };
    let empty = Step::Map { first_entry: 0, value: 0x100, entries: 128, increment: 0 };
    let entry = |first_entry, value| Step::Map { first_entry, value, entries: 1, increment: 1 };
    let open = Step::Clear { addr: 0x600C_4004, bits: 3 };
    assert_eq!(
        script.steps(),
        [
            call(CACHE.disable_addr),
            empty,
            entry(0, 0x11),
            call(CACHE.invalidate_all_addr),
            open,
            call(CACHE.enable_addr),
            Step::Copy { to_addr: DRAM, from_addr: 0x3C00_0128, len_bytes: 0x100 },
            call(CACHE.disable_addr),
            empty,
            entry(127, 0x11),
            entry(2, 0x11),
            entry(0, 0x12),
            call(CACHE.invalidate_all_addr),
            open,
            call(CACHE.enable_addr),
            Step::Jump { entry_addr: IROM, control: CONTROL },
        ]
    );
}

#[test]
fn the_stub_reads_the_registers_in_their_order() {
    let control = Control { mstatus: 2, mtvec: 3, mie: 4 };
    assert_eq!(Step::Jump { entry_addr: 1, control }.words(), [JUMP, 1, 3, 4, 2]);
}

#[test]
fn segments_across_pages_are_copied_whole() {
    let map = &MemoryMap::ESP32C3;
    // All of RAM below the loader, in two pieces that begin and end within pages of flash.
    let image = Composer::new(Chip::Esp32C3, IRAM)
        .segment(IRAM, &pattern(0x2_F000, 1))
        .segment(0x3FCA_F000, &pattern(0x2_9000, 2))
        .segment(IROM, &pattern(0x2_0000, 3));
    let slot = Slot { offset: 0x20_0000, size_bytes: 0x20_0000 };
    let flash = Flash::with(slot, &image.build().unwrap()).bytes;
    let mut machine = Machine::new(map, &flash);
    machine.run(&Script::new(&plan_in(map, slot, &flash), map, &CACHE, 0, CONTROL));
    assert_eq!(machine.loaded(IRAM, 0x2_F000), pattern(0x2_F000, 1));
    assert_eq!(machine.loaded(0x3FCA_F000, 0x2_9000), pattern(0x2_9000, 2));
    assert_eq!(machine.mapped(IROM, 0x2_0000), pattern(0x2_0000, 3));
}

#[test]
fn the_largest_number_of_segments_fits() {
    let map = &MemoryMap::ESP32C3;
    let loads = (0..16).fold(Composer::new(Chip::Esp32C3, IRAM), |image, index| {
        image.segment(IRAM + 0x100 * index, &pattern(0x100, index as u8))
    });
    let flash = Flash::with(SLOT, &loads.build().unwrap()).bytes;
    let script = Script::new(&plan_in(map, SLOT, &flash), map, &CACHE, 0, CONTROL);
    assert_eq!(Machine::new(map, &flash).run(&script), IRAM);
    assert!(script.steps().len() <= MAX_STEPS);
}

#[test]
fn entries_of_the_esp32c6_carry_their_bits() {
    let map = &MemoryMap::ESP32C6;
    let image = Composer::new(Chip::Esp32C6, 0x4080_0000)
        .segment(0x4202_0020, &pattern(0x100, 1))
        .segment(0x4080_0000, &pattern(0x100, 2))
        .segment(0x4200_0020, &pattern(0x1_8000, 3));
    let flash = Flash::with(SLOT, &image.build().unwrap()).bytes;
    let plan = plan_in(map, SLOT, &flash);
    for (entry_bits, expected) in [(0, 0x200), (0x400, 0x600)] {
        let mut machine = Machine::new(map, &flash);
        machine.run(&Script::new(&plan, map, &CACHE, entry_bits, CONTROL));
        assert_eq!(machine.entries[..4], [expected | 0x12, expected | 0x13, expected | 0x11, 0]);
        assert_eq!(machine.entries[255], expected | 0x11);
        assert_eq!(machine.loaded(0x4080_0000, 0x100), pattern(0x100, 2));
    }
}
