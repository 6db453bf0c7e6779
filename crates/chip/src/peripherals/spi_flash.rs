//! The flash's controller as programs use it beside the ROM's functions: to ask the flash who it is (`soc/spi_mem_reg.h` of
//! ESP-IDF 5.5). Reads, programs and erases go through the ROM.

const CMD: u32 = 0x00;
const W0: u32 = 0x58;
const W15: u32 = 0x94;
const FLASH_RDID: u32 = 1 << 28;
/// GigaDevice, SPI NOR (GD25Q data sheets, "Read Identification"); the capacity is a power of two.
const GIGADEVICE: u32 = 0x40C8;
const WORDS: usize = 0x40;

/// SPI1.
#[derive(Clone, Debug)]
pub(crate) struct SpiFlash {
    registers: [u32; WORDS],
}

impl Default for SpiFlash {
    fn default() -> Self {
        Self { registers: [0; WORDS] }
    }
}

impl SpiFlash {
    pub(crate) fn read(&self, offset: u32) -> Option<u32> {
        self.registers.get(offset as usize / 4).copied()
    }

    pub(crate) fn write(&mut self, offset: u32, value: u32, flash_bytes: usize) -> Option<()> {
        match offset {
            // It is answered before anybody looks.
            CMD if value == FLASH_RDID => {
                self.registers[W0 as usize / 4] = GIGADEVICE | flash_bytes.ilog2() << 16;
            }
            CMD => return None,
            0x04..=0x3C | W0..=W15 | 0x98..=0xDC => self.registers[offset as usize / 4] = value,
            _ => return None,
        }
        Some(())
    }
}
