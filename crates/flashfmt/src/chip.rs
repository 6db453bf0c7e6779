//! Chips, by the ids that ESP images carry.

use core::fmt;
use core::ops::Range;
use core::str::FromStr;

/// A chip of the ESP32 family.
///
/// The numbers are `esp_chip_id_t` of ESP-IDF `bootloader_support/include/esp_app_format.h` (v5.5 and master).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u16)]
pub enum Chip {
    /// ESP32.
    Esp32 = 0x0000,
    /// ESP32-S2.
    Esp32S2 = 0x0002,
    /// ESP32-C3.
    Esp32C3 = 0x0005,
    /// ESP32-S3.
    Esp32S3 = 0x0009,
    /// ESP32-C2, also sold as ESP8684.
    Esp32C2 = 0x000C,
    /// ESP32-C6.
    Esp32C6 = 0x000D,
    /// ESP32-H2.
    Esp32H2 = 0x0010,
    /// ESP32-P4.
    Esp32P4 = 0x0012,
    /// ESP32-C61.
    Esp32C61 = 0x0014,
    /// ESP32-C5.
    Esp32C5 = 0x0017,
    /// ESP32-H21.
    Esp32H21 = 0x0019,
    /// ESP32-H4.
    Esp32H4 = 0x001C,
    /// ESP32-S31.
    Esp32S31 = 0x0020,
}

impl Chip {
    /// Every chip this crate knows.
    pub const ALL: [Chip; 13] = [
        Chip::Esp32,
        Chip::Esp32S2,
        Chip::Esp32C3,
        Chip::Esp32S3,
        Chip::Esp32C2,
        Chip::Esp32C6,
        Chip::Esp32H2,
        Chip::Esp32P4,
        Chip::Esp32C61,
        Chip::Esp32C5,
        Chip::Esp32H21,
        Chip::Esp32H4,
        Chip::Esp32S31,
    ];

    /// The chip with this `esp_chip_id_t`, or `None` when it is unknown here.
    pub fn from_id(id: u16) -> Option<Chip> {
        Chip::ALL.into_iter().find(|chip| chip.id() == id)
    }

    /// Its `esp_chip_id_t`.
    pub const fn id(self) -> u16 {
        self as u16
    }

    /// Its name as Espressif's tools write it, such as `esp32c3`.
    pub const fn name(self) -> &'static str {
        match self {
            Chip::Esp32 => "esp32",
            Chip::Esp32S2 => "esp32s2",
            Chip::Esp32C3 => "esp32c3",
            Chip::Esp32S3 => "esp32s3",
            Chip::Esp32C2 => "esp32c2",
            Chip::Esp32C6 => "esp32c6",
            Chip::Esp32H2 => "esp32h2",
            Chip::Esp32P4 => "esp32p4",
            Chip::Esp32C61 => "esp32c61",
            Chip::Esp32C5 => "esp32c5",
            Chip::Esp32H21 => "esp32h21",
            Chip::Esp32H4 => "esp32h4",
            Chip::Esp32S31 => "esp32s31",
        }
    }

    /// Where the ROM looks for the second-stage bootloader, in bytes from the start of the flash.
    ///
    /// Source: `BOOTLOADER_FLASH_OFFSET` of esptool 5, `esptool/targets/`.
    pub const fn bootloader_offset(self) -> u32 {
        match self {
            Chip::Esp32 | Chip::Esp32S2 => 0x1000,
            Chip::Esp32S3
            | Chip::Esp32C2
            | Chip::Esp32C3
            | Chip::Esp32C6
            | Chip::Esp32C61
            | Chip::Esp32H2
            | Chip::Esp32H21 => 0,
            // What is before it is kept for keys.
            Chip::Esp32P4 | Chip::Esp32C5 | Chip::Esp32H4 | Chip::Esp32S31 => 0x2000,
        }
    }

    /// Virtual addresses through which the chip reads flash: data (DROM), then instructions (IROM).
    ///
    /// The two are equal on chips with one window for both. Source: `soc/<chip>/include/soc/soc.h` of ESP-IDF and
    /// `DROM_MAP_*`, `IROM_MAP_*` of esptool 5. On ESP32-P4 and ESP32-S31 the window includes PSRAM, because their
    /// bootloaders hold segments there to the same rule.
    pub const fn flash_windows(self) -> [Range<u32>; 2] {
        match self {
            Chip::Esp32 => [0x3F40_0000..0x3F80_0000, 0x400D_0000..0x4040_0000],
            Chip::Esp32S2 => [0x3F00_0000..0x3F3F_0000, 0x4008_0000..0x40B8_0000],
            Chip::Esp32C3 => [0x3C00_0000..0x3C80_0000, 0x4200_0000..0x4280_0000],
            Chip::Esp32S3 => [0x3C00_0000..0x3E00_0000, 0x4200_0000..0x4400_0000],
            Chip::Esp32C2 => [0x3C00_0000..0x3C40_0000, 0x4200_0000..0x4240_0000],
            Chip::Esp32C6 | Chip::Esp32H2 | Chip::Esp32H21 => {
                [0x4200_0000..0x4300_0000, 0x4200_0000..0x4300_0000]
            }
            Chip::Esp32C61 | Chip::Esp32C5 | Chip::Esp32H4 => {
                [0x4200_0000..0x4400_0000, 0x4200_0000..0x4400_0000]
            }
            Chip::Esp32P4 => [0x4000_0000..0x4C00_0000, 0x4000_0000..0x4C00_0000],
            Chip::Esp32S31 => [0x4000_0000..0x5400_0000, 0x4000_0000..0x5400_0000],
        }
    }

    /// Whether a segment at this address stays in flash and is read through the MMU.
    pub fn is_flash_mapped(self, addr: u32) -> bool {
        self.flash_windows().iter().any(|window| window.contains(&addr))
    }

    /// The smallest MMU page the chip can be built for, in bytes. Most chips have 64 KiB pages only.
    pub const fn min_mmu_page_bytes(self) -> u32 {
        match self {
            Chip::Esp32
            | Chip::Esp32S2
            | Chip::Esp32C3
            | Chip::Esp32S3
            | Chip::Esp32P4
            | Chip::Esp32C5
            | Chip::Esp32S31 => 0x1_0000,
            Chip::Esp32C2 => 0x4000,
            Chip::Esp32C6 | Chip::Esp32H2 | Chip::Esp32C61 | Chip::Esp32H21 | Chip::Esp32H4 => 0x2000,
        }
    }
}

impl fmt::Display for Chip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that is no chip's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown chip name; known are {KnownChips}")]
pub struct UnknownChipName;

impl FromStr for Chip {
    type Err = UnknownChipName;

    /// Reads `esp32c3`, and also `ESP32-C3`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let same = |name: &str| {
            let given = text.bytes().filter(|byte| *byte != b'-').map(|byte| byte.to_ascii_lowercase());
            given.eq(name.bytes())
        };
        Chip::ALL.into_iter().find(|chip| same(chip.name())).ok_or(UnknownChipName)
    }
}

/// Displays the names of all chips.
pub(crate) struct KnownChips;

impl fmt::Display for KnownChips {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, chip) in Chip::ALL.iter().enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            write!(f, "{separator}{chip}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_names_lead_back_to_the_chip() {
        for chip in Chip::ALL {
            assert_eq!(Chip::from_id(chip.id()), Some(chip));
            assert_eq!(chip.name().parse(), Ok(chip));
        }
        assert_eq!("ESP32-C3".parse(), Ok(Chip::Esp32C3));
        assert_eq!("esp8266".parse::<Chip>(), Err(UnknownChipName));
        assert_eq!(Chip::from_id(0xFFFF), None);
    }

    #[test]
    fn flash_windows_of_the_esp32c3() {
        assert!(Chip::Esp32C3.is_flash_mapped(0x3C00_0020));
        assert!(Chip::Esp32C3.is_flash_mapped(0x4200_0020));
        assert!(!Chip::Esp32C3.is_flash_mapped(0x4038_0000));
        assert!(!Chip::Esp32C3.is_flash_mapped(0));
    }
}
