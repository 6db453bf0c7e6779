//! The ROM's flash driver (`esp_rom/include/esp32c3/rom/spi_flash.h` of ESP-IDF 5.5), over the flash of `sim`: what an
//! operation does, tears and takes is written there.

use embedded_storage::nor_flash::{NorFlash as _, ReadNorFlash as _};
use sim::flash::{BLOCK_BYTES, FlashError, SECTOR_BYTES};

use super::Called;
use crate::bus::Bus;
use crate::fault::Fault;
use crate::time;

/// `ESP_ROM_SPIFLASH_RESULT_OK` and `ESP_ROM_SPIFLASH_RESULT_ERR`.
const OK: u32 = 0;
const ERROR: u32 = 1;

/// Runs a function of this file; `None` if it is none.
pub(super) fn run(name: &str, arguments: &[u32; 8], bus: &mut Bus) -> Option<Called> {
    let [a, b, c, ..] = *arguments;
    let operation: fn(&mut Bus, [u32; 3]) -> Called = match name {
        "esp_rom_spiflash_unlock" | "spi_flash_unlock" => return Some(Called::Return(Some(OK))),
        "esp_rom_spiflash_read" => read,
        "esp_rom_spiflash_write" => write,
        "esp_rom_spiflash_erase_sector" => |bus, [index, ..]| erase(bus, index, SECTOR_BYTES),
        "esp_rom_spiflash_erase_block" => |bus, [index, ..]| erase(bus, index, BLOCK_BYTES),
        _ => return None,
    };
    // Somebody interrupted the operation before, and did not wait for its end.
    if bus.now < bus.flash_busy_until {
        return Some(Called::Fault(Fault::FlashInUse));
    }
    Some(operation(bus, [a, b, c]))
}

fn read(bus: &mut Bus, [from, to, count]: [u32; 3]) -> Called {
    if count as usize > bus.flash.bytes().len() {
        return Called::Return(Some(ERROR));
    }
    let mut bytes = vec![0; count as usize];
    // The bus is the programs' own while they read: nothing else happens in that time.
    let done = bus.flash.read(from, &mut bytes);
    match done.is_ok().then(|| bus.write_bytes(to, &bytes)) {
        Some(Err(fault)) => Called::Fault(fault),
        Some(Ok(())) | None => finish(bus, done),
    }
}

fn write(bus: &mut Bus, [to, from, count]: [u32; 3]) -> Called {
    match bus.read_bytes(from, count) {
        Ok(bytes) => {
            let done = bus.flash.write(to, &bytes);
            changed(bus, to, count, done)
        }
        Err(fault) => Called::Fault(fault),
    }
}

fn erase(bus: &mut Bus, index: u32, unit_bytes: u32) -> Called {
    let range = index.checked_mul(unit_bytes).and_then(|from| Some((from, from.checked_add(unit_bytes)?)));
    let Some((from, to)) = range else { return Called::Return(Some(ERROR)) };
    let done = bus.flash.erase(from, to);
    changed(bus, from, unit_bytes, done)
}

/// What the cache has read of it is old, unless the flash refused at once.
fn changed(bus: &mut Bus, from: u32, count: u32, done: Result<(), FlashError>) -> Called {
    match done {
        Err(FlashError::OutOfBounds { .. } | FlashError::NotAligned { .. }) => {}
        Ok(()) | Err(_) => bus.cache.flash_changed(from..from.saturating_add(count)),
    }
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
