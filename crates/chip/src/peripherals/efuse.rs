//! Fuses of a chip that nobody has burnt, but for what the factory burns (ESP32-C3 TRM v1.1, chapter 4).

/// The first and the last data register that can be read (`EFUSE_RD_WR_DIS_REG` to `EFUSE_RD_SYS_PART2_DATA7_REG`).
const FIRST: u32 = 0x2C;
const LAST: u32 = 0x178;
const MAC_LOW: u32 = 0x44;
const MAC_HIGH: u32 = 0x48;
/// `EFUSE_RD_MAC_SPI_SYS_3_REG`: the wafer's minor version is in bits 18 to 20.
const MAC_SPI_SYS_3: u32 = 0x50;
/// 60:55:f9:01:02:03, of a range of Espressif's.
const MAC: [u8; 6] = [0x60, 0x55, 0xF9, 0x01, 0x02, 0x03];
/// Revision v0.3.
const WAFER_MINOR: u32 = 3;

pub(crate) fn read(offset: u32) -> Option<u32> {
    let [a, b, c, d, e, f] = MAC;
    Some(match offset {
        MAC_LOW => u32::from_be_bytes([c, d, e, f]),
        MAC_HIGH => u32::from_be_bytes([0, 0, a, b]),
        MAC_SPI_SYS_3 => WAFER_MINOR << 18,
        FIRST..=LAST => 0,
        _ => return None,
    })
}
