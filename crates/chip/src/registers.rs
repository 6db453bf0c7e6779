//! Names of registers and of the ROM's functions, for messages.

use std::collections::HashMap;
use std::sync::LazyLock;

/// Registers by address, as `ADDRESS PERIPHERAL.REGISTER RESET`, ascending (Espressif's SVD, by way of the crate esp32c3
/// 0.34).
const REGISTERS: &str = include_str!("../data/registers.txt");
/// Functions by address, as `ADDRESS NAME`, ascending (the linker scripts of esp-rom-sys 0.1.5, which are ESP-IDF's).
const ROM: &str = include_str!("../data/rom.txt");

fn entries(text: &'static str) -> impl Iterator<Item = (u32, &'static str)> {
    text.lines().filter_map(|line| {
        let (addr, name) = line.split_once(' ')?;
        Some((u32::from_str_radix(addr, 16).ok()?, name))
    })
}

/// The register at an address, or the one that begins before it and how far.
pub(crate) fn name_of(addr: u32) -> String {
    let before = entries(REGISTERS).take_while(|(at, _)| *at <= addr).last();
    match before.map(|(at, row)| (at, row.split(' ').next().unwrap_or(row))) {
        Some((at, name)) if at == addr => name.to_owned(),
        Some((at, name)) => format!("{name}+{:#x}", addr - at),
        None => "without a name".to_owned(),
    }
}

/// What a register holds after a reset; of an address between registers 0, as on the chip.
pub(crate) fn at_reset(addr: u32) -> u32 {
    static VALUES: LazyLock<HashMap<u32, u32>> = LazyLock::new(|| {
        let value = |row: &str| u32::from_str_radix(row.split(' ').nth(1)?, 16).ok();
        entries(REGISTERS).filter_map(|(addr, row)| Some((addr, value(row)?))).collect()
    });
    VALUES.get(&addr).copied().unwrap_or(0)
}

/// The function that begins at an address. Programs call them in loops.
pub(crate) fn rom_function(addr: u32) -> Option<&'static str> {
    static FUNCTIONS: LazyLock<HashMap<u32, &str>> = LazyLock::new(|| entries(ROM).collect());
    FUNCTIONS.get(&addr).copied()
}

/// Where a function of the ROM is, by its name in the ROM's linker scripts.
pub fn rom_addr(name: &str) -> Option<u32> {
    entries(ROM).find(|(_, found)| *found == name).map(|(addr, _)| addr)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registers_and_functions_have_names() {
        assert_eq!(name_of(0x6000_8038), "RTC_CNTL.reset_state");
        assert_eq!(name_of(0x600C_2004), "INTERRUPT_CORE0.core_0_intr_map[1]");
        assert_eq!(rom_function(0x4000_0050), Some("ets_delay_us"));
        assert_eq!(rom_function(0x4000_0051), None);
        assert_eq!((rom_addr("ets_delay_us"), rom_addr("ets_delay")), (Some(0x4000_0050), None));
    }

    #[test]
    fn the_tables_ascend() {
        for text in [REGISTERS, ROM] {
            let addrs: Vec<u32> = entries(text).map(|(addr, _)| addr).collect();
            assert_eq!(addrs.len(), text.lines().count());
            assert!(addrs.is_sorted());
        }
    }
}
