//! Registers that hold what was written and do nothing that a program here could notice: clocks, power, pads, permissions.
//! Each is on this list; one that is not stops the run.

use std::collections::HashMap;

use crate::registers;

/// Registers that hold what was written: first address, number of words. After a reset they hold what Espressif's SVD says
/// ([`registers::at_reset`]).
const WRITABLE: &[(u32, u32)] = &[
    // SPI0, by which the cache reads the flash: its clock gate.
    (0x6000_30DC, 1),
    // GPIO_SD, FE2, FE, NRX, BB: clock gate, and power of the radio's parts.
    (0x6000_4F20, 1),
    (0x6000_50F0, 1),
    (0x6000_6090, 1),
    (0x6001_CCD4, 1),
    (0x6001_D054, 1),
    // I2C_ANA_MST: the bus to the analog parts.
    (0x6000_E040, 2),
    // APB_CTRL: dividers, power of memories.
    (0x6002_6000, 1),
    (0x6002_609C, 1),
    (0x6002_60AC, 1),
    // APB_SARADC: the converter, which gives the random numbers their noise.
    (0x6004_0000, 2),
    (0x6004_000C, 1),
    (0x6004_0018, 2),
    (0x6004_0050, 2),
    // SYSTEM: clocks and resets of the peripherals, the processor's clock.
    (0x600C_0000, 8),
    (0x600C_0024, 1),
    (0x600C_0058, 1),
];

/// Registers that can be read and hold what they hold after a reset; to write them is nothing that the model knows.
const READABLE: &[(u32, u32)] = &[
    (0x6000_3000, 64),
    (0x6000_4000, 32),
    (0x6000_8000, 75),
    (0x6000_9000, 24),
    // UART 1, which nobody uses: nothing waits to be sent.
    (0x6001_001C, 1),
    (0x6001_006C, 1),
    (0x6001_F000, 33),
    (0x6002_0000, 33),
    (0x6002_6000, 44),
    (0x6003_F000, 32),
    // USB_DEVICE: nobody is at the other end, and no frame was ever started.
    (0x6004_3008, 1),
    (0x600C_0000, 32),
    (0x600C_1000, 100),
    (0x600C_2000, 102),
    (0x600C_4000, 64),
    // ASSIST_DEBUG: no debugger is there.
    (0x600C_E000, 39),
];

pub(crate) fn at_reset() -> HashMap<u32, u32> {
    words(WRITABLE).map(|addr| (addr, registers::at_reset(addr))).collect()
}

/// A register that is not modelled and may be read all the same.
pub(crate) fn read(addr: u32) -> Option<u32> {
    let is_readable = READABLE.iter().any(|&(first, count)| (first..first + 4 * count).contains(&addr));
    is_readable.then(|| registers::at_reset(addr))
}

fn words(ranges: &[(u32, u32)]) -> impl Iterator<Item = u32> {
    ranges.iter().flat_map(|&(first, count)| (0..count).map(move |index| first + 4 * index))
}
