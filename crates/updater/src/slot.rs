//! The place of an application.

use manifest::CHUNK_BYTES;
use minicbor::{Decode, Encode};

/// Number of an application slot, in the order of the partition table (`ota_0` is 0 in the default layouts).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Encode, Decode)]
#[cbor(transparent)]
pub struct SlotIndex(#[n(0)] pub u8);

/// Size of a flash sector, the smallest erasable part (ESP32 series: 4 KiB). The image header is in the first.
pub const SECTOR_BYTES: u32 = 4096;

const _: () = assert!(CHUNK_BYTES.is_multiple_of(SECTOR_BYTES));
