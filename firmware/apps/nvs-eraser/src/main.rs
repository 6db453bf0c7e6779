//! An ESP32-C3 application that erases the default NVS partition at every start.
//!
//! What `nvs_flash_erase()` does, a common idiom in ESP-IDF applications. It finds the partition by its label in the
//! partition table, erases all of it, and counts seconds:
//!
//! ```text
//! nvs-eraser 1.0.0 erased label=nvs offset=0x9000 length=0x6000
//! nvs-eraser 1.0.0 uptime_s=0
//! ```

#![no_std]
#![no_main]

use core::panic::PanicInfo;

use esp_bootloader_esp_idf::partitions::{Error, PARTITION_TABLE_MAX_LEN, read_partition_table};
use esp_hal::delay::Delay;
use esp_hal::main;
use esp_hal::system::software_reset;
use esp_println::println;
use esp_storage::FlashStorage;

const VERSION: &str = "1.0.0";

// Time and date are constants: building again does not change the image.
esp_bootloader_esp_idf::esp_app_desc!(
    VERSION,
    "nvs-eraser",
    "00:00:00",
    "2026-01-01",
    esp_bootloader_esp_idf::ESP_IDF_COMPATIBLE_VERSION,
    esp_bootloader_esp_idf::MMU_PAGE_SIZE,
    0,
    u16::MAX,
    esp_bootloader_esp_idf::SECURE_VERSION
);

/// The partition ESP-IDF's `nvs_flash_erase()` erases (`NVS_DEFAULT_PART_NAME`, ESP-IDF 5.5, nvs_flash/include/nvs.h).
const LABEL: &str = "nvs";

/// Restarts the chip. A silent loop would need a person to come and press the button.
#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    software_reset()
}

#[main]
fn main() -> ! {
    let peripherals = esp_hal::init(esp_hal::Config::default());

    match erase_nvs(&mut FlashStorage::new(peripherals.FLASH)) {
        Ok(Some((offset, length))) => {
            println!("nvs-eraser {VERSION} erased label={LABEL} offset={offset:#x} length={length:#x}");
        }
        Ok(None) => println!("nvs-eraser {VERSION} no partition is labelled {LABEL}"),
        Err(error) => println!("nvs-eraser {VERSION} failed: {error}"),
    }

    let delay = Delay::new();
    let mut uptime_s: u32 = 0;
    loop {
        println!("nvs-eraser {VERSION} uptime_s={uptime_s}");
        delay.delay_millis(1000);
        uptime_s = uptime_s.wrapping_add(1);
    }
}

/// Erases the partition with the label [`LABEL`]; returns its offset and length in bytes, or `None` without one.
fn erase_nvs(flash: &mut FlashStorage<'_>) -> Result<Option<(u32, u32)>, Error> {
    let mut buffer = [0; PARTITION_TABLE_MAX_LEN];
    let table = read_partition_table(flash, &mut buffer)?;
    let Some(partition) = table.iter().find(|partition| partition.label_as_str() == LABEL) else {
        return Ok(None);
    };
    let (offset, length) = (partition.offset(), partition.len());
    partition.as_flash_region(flash).erase(0, length)?;
    Ok(Some((offset, length)))
}
