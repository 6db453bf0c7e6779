//! Damage in an NVS partition that must not be taken for the leftovers of a power cut.
//!
//! Format: ESP-IDF v5.5, `components/nvs_flash/src/nvs_page.{hpp,cpp}`. A page is a sector: header (32 bytes), two bits of
//! state for each entry (32 bytes), 126 entries of 32 bytes. An item is one entry, and more behind it for its data.

use alloc::vec;

use embedded_storage::nor_flash::NorFlash;
use esp_nvs::platform::software_crc32;
use zeroize::Zeroizing;

use super::VaultError;
use super::guard::read_steadily;
use crate::region::{Region, SECTOR_BYTES};

const STATES_AT: usize = 32;
const ENTRIES_AT: usize = 64;
const ENTRY_BYTES: usize = 32;
const ENTRIES: usize = 126;

const _: () = assert!(ENTRIES_AT + ENTRIES * ENTRY_BYTES == SECTOR_BYTES as usize);

/// State of an entry that holds something: 0b10. Empty is 0b11, erased 0b00.
const WRITTEN: u8 = 0b10;
/// Where a page's header has its checksum, and from where on it covers what is before it: the state is not covered.
const HEADER_CRC_FROM: usize = 4;
const HEADER_CRC_AT: usize = 28;
/// Where an entry says how many it is with its data.
const SPAN_AT: usize = 2;
/// Where an entry has its checksum, which covers the other bytes.
const CRC_AT: usize = 4;
const KEY_AT: usize = 8;
const KEY_BYTES: usize = 16;
/// Data that is taken for the start of an item named by a key has so few bits in another way. Keys differ by more.
const LIKE_A_KEY_BITS: u32 = 6;

/// What is damaged: items with one of these keys that are there and whose checksum is wrong. 0 for nothing, else a number
/// that another damage does not have. A page whose own header is not whole is being erased, and holds nothing.
pub(super) fn fingerprint<F: NorFlash>(
    flash: &mut F,
    region: Region,
    keys: &[&str],
) -> Result<u32, VaultError> {
    let mut page = Zeroizing::new(vec![0; SECTOR_BYTES as usize]);
    let mut fingerprint = 0_u32;
    for offset in (region.offset..region.offset + region.size_bytes).step_by(SECTOR_BYTES as usize) {
        read_steadily(flash, offset, &mut page).map_err(|_| VaultError::Flash)?;
        let header_crc = software_crc32(u32::MAX, &page[HEADER_CRC_FROM..HEADER_CRC_AT]);
        if u32_at(&page, HEADER_CRC_AT) != header_crc {
            continue;
        }
        let mut index = 0;
        while let Some(entry) = entry(&page, index) {
            let written = page[STATES_AT + index / 4] >> (index % 4 * 2) & 0b11 == WRITTEN;
            let span = usize::from(entry[SPAN_AT]);
            let whole = is_whole(entry) && (1..=ENTRIES - index).contains(&span);
            if written && !whole && is_item(entry, keys) {
                fingerprint = software_crc32(fingerprint ^ offset, entry).max(1);
            }
            index += if written && whole { span } else { 1 };
        }
    }
    Ok(fingerprint)
}

fn entry(page: &[u8], index: usize) -> Option<&[u8; ENTRY_BYTES]> {
    page.get(ENTRIES_AT + index * ENTRY_BYTES..)?.first_chunk()
}

fn is_whole(entry: &[u8; ENTRY_BYTES]) -> bool {
    let covered = [&entry[..CRC_AT], &entry[KEY_AT..]];
    u32_at(entry, CRC_AT) == covered.into_iter().fold(u32::MAX, software_crc32)
}

/// Whether the entry is the head of an item and not data behind one, which has no checksum of its own.
fn is_item(entry: &[u8; ENTRY_BYTES], keys: &[&str]) -> bool {
    let found = &entry[KEY_AT..KEY_AT + KEY_BYTES];
    keys.iter().any(|key| {
        let expected = key.bytes().chain(core::iter::repeat(0));
        let bits = found.iter().zip(expected).map(|(found, expected)| (found ^ expected).count_ones());
        bits.sum::<u32>() <= LIKE_A_KEY_BITS
    })
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).copied().map_or(0, u32::from_le_bytes)
}
