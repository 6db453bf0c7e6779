//! Where an image may go on a chip, and what the chain-loader keeps for itself.

use core::ops::Range;

use flashfmt::Chip;

/// Size of the MMU's pages in bytes. The chips that have a choice are used with this one, as ESP-IDF's bootloader
/// does unless an application asks for another.
pub const PAGE_BYTES: u32 = 0x1_0000;

/// Flash pages that an MMU entry can name: 16 MiB (`SOC_MMU_MAX_PADDR_PAGE_NUM` of ESP-IDF's
/// `soc/<chip>/include/soc/ext_mem_defs.h`, the same on every chip here).
pub const FLASH_PAGES: u32 = 256;

/// The memory of a chip as the chain-loader sees it.
#[derive(Debug)]
pub struct MemoryMap {
    /// The chip.
    pub chip: Chip,
    /// RAM that a segment may name. The same RAM may stand here once for each bus.
    pub regions: &'static [Region],
    /// Data bus addresses that no segment may touch: the loader's stub, script and stack, and the ROM's data.
    pub reserved: Range<u32>,
    /// What to add to a data bus address in `reserved` to execute what is there.
    pub to_instruction_bus: u32,
    /// First stack address of the stub. Free below it down to the script; the ROM's data is above it.
    pub stack_addr: u32,
    /// The table that maps flash into the address space.
    pub mmu: Mmu,
}

/// RAM on one bus.
#[derive(Debug)]
pub struct Region {
    /// Its addresses.
    pub range: Range<u32>,
    /// What to subtract from an address to get the data bus address of the same byte.
    pub from_data_bus: u32,
    /// Whether code can run there.
    pub executable: bool,
    /// Whether its content lives on in deep sleep; it is not loaded again at the wake-up.
    pub kept_in_deep_sleep: bool,
}

/// The MMU's table. The entry of a flash-mapped address is `address / PAGE_BYTES % entries`.
#[derive(Debug)]
pub struct Mmu {
    /// Number of entries, a power of two.
    pub entries: u32,
    /// An entry that maps nothing.
    pub invalid: u32,
    /// Bits of an entry that maps a flash page, beside the page's number.
    pub valid: u32,
}

impl MemoryMap {
    /// ESP32-C3.
    ///
    /// Sources: ESP-IDF `soc/esp32c3/include/soc/{soc,ext_mem_defs}.h` (`SOC_IRAM_*`, `SOC_DRAM_*`, `SOC_RTC_*`,
    /// `SOC_MMU_*`); the first 16 KiB of `SOC_IRAM` are the cache (`esp_system/ld/esp32c3/memory.ld.in`).
    ///
    /// `reserved` starts above all that linker scripts of ESP-IDF 4.4 to 6 give to an application (0x3FCD_0000 at
    /// most) and below the ROM's stack, which is from 0x3FCD_C710 to 0x3FCD_E710 and which ESP-IDF's bootloader
    /// uses too (`bootloader/subproject/main/ld/esp32c3/bootloader.memory.ld.in`).
    pub const ESP32C3: Self = Self {
        chip: Chip::Esp32C3,
        regions: &[
            Region {
                range: 0x3FC8_0000..0x3FCE_0000,
                from_data_bus: 0,
                executable: false,
                kept_in_deep_sleep: false,
            },
            Region {
                range: 0x4038_0000..0x403E_0000,
                from_data_bus: 0x70_0000,
                executable: true,
                kept_in_deep_sleep: false,
            },
            Region {
                range: 0x5000_0000..0x5000_2000,
                from_data_bus: 0,
                executable: true,
                kept_in_deep_sleep: true,
            },
        ],
        reserved: 0x3FCD_8000..0x3FCE_0000,
        to_instruction_bus: 0x70_0000,
        stack_addr: 0x3FCD_E700,
        mmu: Mmu { entries: 128, invalid: 0x100, valid: 0 },
    };

    /// ESP32-C6.
    ///
    /// Sources: as for the ESP32-C3, in `esp32c6`. Instructions and data share one bus, for RAM and for flash.
    /// Applications get RAM up to 0x4086_E610; the ROM's stack is from 0x4087_C610 to 0x4087_E610.
    pub const ESP32C6: Self = Self {
        chip: Chip::Esp32C6,
        regions: &[
            Region {
                range: 0x4080_0000..0x4088_0000,
                from_data_bus: 0,
                executable: true,
                kept_in_deep_sleep: false,
            },
            Region {
                range: 0x5000_0000..0x5000_4000,
                from_data_bus: 0,
                executable: true,
                kept_in_deep_sleep: true,
            },
        ],
        reserved: 0x4087_8000..0x4088_0000,
        to_instruction_bus: 0,
        stack_addr: 0x4087_E600,
        mmu: Mmu { entries: 256, invalid: 0, valid: 1 << 9 },
    };

    /// The region that holds all of `addrs`.
    pub(crate) fn region(&self, addrs: &Range<u32>) -> Option<&'static Region> {
        self.regions.iter().find(|region| region.range.start <= addrs.start && addrs.end <= region.range.end)
    }

    /// Addresses through which data in flash is read.
    pub(crate) fn data_window(&self) -> Range<u32> {
        let [data, _] = self.chip.flash_windows();
        data
    }

    /// Addresses through which code in flash runs.
    pub(crate) fn code_window(&self) -> Range<u32> {
        let [_, code] = self.chip.flash_windows();
        code
    }
}

impl Region {
    /// The data bus addresses of the same bytes.
    pub(crate) fn on_data_bus(&self, addrs: &Range<u32>) -> Range<u32> {
        addrs.start - self.from_data_bus..addrs.end - self.from_data_bus
    }
}

impl Mmu {
    /// The entry of a flash-mapped address.
    pub(crate) fn entry_of(&self, addr: u32) -> u32 {
        addr / PAGE_BYTES % self.entries
    }
}

pub(crate) fn overlap(one: &Range<u32>, other: &Range<u32>) -> bool {
    one.start < other.end && other.start < one.end
}

/// The reserved addresses hold the stack, lie at the end of the first region, and nothing of it is kept in deep sleep.
const fn is_sound(map: &MemoryMap) -> bool {
    let ram = &map.regions[0];
    ram.from_data_bus == 0
        && !ram.kept_in_deep_sleep
        && map.reserved.end == ram.range.end
        && map.reserved.start < map.stack_addr
        && map.stack_addr < map.reserved.end
        && map.stack_addr.is_multiple_of(16)
        && map.mmu.entries.is_power_of_two()
}

const _: () = assert!(is_sound(&MemoryMap::ESP32C3) && is_sound(&MemoryMap::ESP32C6));
