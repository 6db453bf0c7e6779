//! Formats on an ESP32's flash: partition table, ESP image, otadata, app descriptor.
//!
//! Every format is a pair: a checked parser over bytes and a plain value that can be emitted again. Nothing here
//! reads or writes a device, nothing needs a heap to parse or to verify, and no input makes it panic. The feature
//! `alloc` adds what needs one: partition CSV (`layout`) and composing images (`image::compose`).
//!
//! | module | format | source of its rules |
//! | --- | --- | --- |
//! | [`chip`] | chip ids | ESP-IDF `bootloader_support/include/esp_app_format.h` |
//! | [`partition`] | binary partition table | ESP-IDF `partition_table/gen_esp32part.py` |
//! | `layout` | partition CSV | ESP-IDF `partition_table/gen_esp32part.py` |
//! | [`image`] | application image | ESP-IDF `bootloader_support/src/esp_image_format.c` |
//! | [`app_desc`] | app descriptor | ESP-IDF `esp_app_format/include/esp_app_desc.h` |
//! | [`otadata`] | boot selection | ESP-IDF `bootloader_support/src/bootloader_utility.c` |
//!
//! All of them refer to ESP-IDF 5.x. All integers on flash are little-endian.

#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

#[cfg(feature = "alloc")]
extern crate alloc;

pub mod app_desc;
pub mod chip;
pub mod image;
#[cfg(feature = "alloc")]
pub mod layout;
pub mod otadata;
pub mod partition;
pub mod text;

mod bytes;

pub use app_desc::AppDescriptor;
pub use chip::Chip;
pub use image::{ImageError, ImageHeader, ImageSummary, Progress, StreamVerifier};
#[cfg(feature = "alloc")]
pub use layout::Layout;
pub use partition::{Partition, PartitionError, PartitionKind, PartitionTable};
pub use text::Text;

/// Smallest erase unit of the flash, in bytes.
pub const SECTOR_BYTES: u32 = 0x1000;
