//! The ROM's flash driver (`esp_rom/include/esp32c3/rom/spi_flash.h` of ESP-IDF 5.5), over the flash of `sim`: what an
//! operation does, tears and takes is written there.

use embedded_storage::nor_flash::{NorFlash as _, ReadNorFlash as _};
use sim::flash::{BLOCK_BYTES, FlashError, SECTOR_BYTES};

use super::Called;
use crate::bus::Bus;
use crate::time;

/// `ESP_ROM_SPIFLASH_RESULT_OK` and `ESP_ROM_SPIFLASH_RESULT_ERR`.
const OK: u32 = 0;
const ERROR: u32 = 1;

/// Runs a function of this file; `None` if it is none.
pub(super) fn run(name: &str, arguments: &[u32; 8], bus: &mut Bus) -> Option<Called> {
    let [a, b, c, ..] = *arguments;
    Some(match name {
        "esp_rom_spiflash_unlock" | "spi_flash_unlock" => Called::Return(Some(OK)),
        "esp_rom_spiflash_read" => {
            let mut bytes = vec![0; c as usize];
            // The bus is the programs' own while they read: nothing else happens in that time.
            let done = bus.flash.read(a, &mut bytes);
            match bus.write_bytes(b, &bytes) {
                Ok(()) => finish(bus, done),
                Err(fault) => Called::Fault(fault),
            }
        }
        "esp_rom_spiflash_write" => match bus.read_bytes(b, c) {
            Ok(bytes) => {
                let done = bus.flash.write(a, &bytes);
                bus.cache.flash_changed(a..a.saturating_add(c));
                finish(bus, done)
            }
            Err(fault) => Called::Fault(fault),
        },
        "esp_rom_spiflash_erase_sector" => erase(bus, a, SECTOR_BYTES),
        "esp_rom_spiflash_erase_block" => erase(bus, a, BLOCK_BYTES),
        _ => return None,
    })
}

fn erase(bus: &mut Bus, index: u32, unit_bytes: u32) -> Called {
    let from = index.wrapping_mul(unit_bytes);
    let done = bus.flash.erase(from, from.wrapping_add(unit_bytes));
    bus.cache.flash_changed(from..from.saturating_add(unit_bytes));
    finish(bus, done)
}

/// The operation is done in the model at once; the program waits in the ROM for as long as the flash is busy.
fn finish(bus: &mut Bus, done: Result<(), FlashError>) -> Called {
    let result = match done {
        Ok(()) => OK,
        Err(FlashError::PowerLost) => return Called::PowerLost,
        Err(_) => ERROR,
    };
    let until = bus.now + time::ticks(bus.flash_time());
    bus.flash_busy_until = until;
    Called::Later(until, Some(result))
}
