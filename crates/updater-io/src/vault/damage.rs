//! What an NVS partition hides when it reads wrong, without esp-nvs seeing it: its repairs show the rest.
//!
//! Format: ESP-IDF v5.5, `components/nvs_flash/src/nvs_page.{hpp,cpp}`. A page is a sector: header (32 bytes), two bits of
//! state for each entry (32 bytes), 126 entries of 32 bytes. An item is one entry, and more behind it for its data.
//!
//! Nothing in a vault is deleted: a new value takes the place of an old one. So an item that reads as erased has another of
//! its name, and where it has not, its state was read wrong. Of a blob, which is two items or more, esp-nvs sees it: what is
//! left does not add up.

use alloc::vec;
use alloc::vec::Vec;

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

/// State of an entry that holds something. Empty is 0b11, erased 0b00: the bit that is set here says which of the two.
const WRITTEN: u8 = 0b10;
/// States of a page that holds something: active, full, and about to be erased.
const PAGE_STATES: [u32; 3] = [0xffff_fffe, 0xffff_fffc, 0xffff_fff8];
/// Where a page's header has its checksum, and from where on it covers what is before it: the state is not covered.
const HEADER_CRC_FROM: usize = 4;
const HEADER_CRC_AT: usize = 28;
/// Where an entry says how many it is with its data.
const SPAN_AT: usize = 2;
/// Where an entry has its checksum, which covers the other bytes.
const CRC_AT: usize = 4;
const TYPE_AT: usize = 1;
/// Types of the items of a blob: in one page, its data, its index.
const BLOBS: [u8; 3] = [0x41, 0x42, 0x48];
/// Types of items with data behind their heads: strings, blobs in one page, data of blobs.
const WITH_DATA: [u8; 3] = [0x21, 0x41, 0x42];
/// Where their heads say how long it is, and its checksum.
const SIZE_AT: usize = 24;
const DATA_CRC_AT: usize = 28;
const KEY_AT: usize = 8;
const KEY_BYTES: usize = 16;

pub(super) type Name = [u8; KEY_BYTES];

/// What is hidden in a vault.
pub(super) struct Hidden {
    /// Addresses of pages that are not blank and whose header is not whole: esp-nvs erases them when it needs room.
    pub(super) pages: Vec<u32>,
    /// Stands for items that read as erased while no other has their name, and for those whose data is not whole; 0 for none.
    pub(super) items: u32,
    /// Names of items whose data is not whole: esp-nvs does not find strings among them, and moves them all as they are read
    /// when it makes room.
    pub(super) damaged: Vec<Name>,
}

/// Looks for what is hidden.
pub(super) fn hidden<F: NorFlash>(flash: &mut F, region: Region) -> Result<Hidden, VaultError> {
    let mut page = Zeroizing::new(vec![0; SECTOR_BYTES as usize]);
    let mut pages = Vec::new();
    let mut items = Items::default();
    for offset in (region.offset..region.offset + region.size_bytes).step_by(SECTOR_BYTES as usize) {
        read_steadily(flash, offset, &mut page).map_err(|_| VaultError::Flash)?;
        if is_page(&page) {
            items.look_at(&page);
        } else if page.iter().any(|byte| *byte != 0xff) {
            pages.push(offset);
        }
    }
    let Items { there, erased, damaged } = items;
    let lost = erased.iter().filter(|name| !there.contains(name)).chain(&damaged);
    let items = lost.fold(0, |items, name| software_crc32(items, name).max(1));
    Ok(Hidden { pages, items, damaged })
}

fn is_page(page: &[u8]) -> bool {
    let crc = software_crc32(u32::MAX, &page[HEADER_CRC_FROM..HEADER_CRC_AT]);
    PAGE_STATES.contains(&u32_at(page, 0)) && u32_at(page, HEADER_CRC_AT) == crc
}

/// Names of items, each once.
#[derive(Default)]
struct Items {
    /// Those that are no blobs: of blobs esp-nvs sees it when something is missing.
    there: Vec<Name>,
    erased: Vec<Name>,
    damaged: Vec<Name>,
}

impl Items {
    fn look_at(&mut self, page: &[u8]) {
        let mut index = 0;
        while let Some(entry) = entry(page, index) {
            let span = usize::from(entry[SPAN_AT]);
            if !is_whole(entry) || !(1..=ENTRIES - index).contains(&span) {
                index += 1;
                continue;
            }
            let state = page[STATES_AT + index / 4] >> (index % 4 * 2) & 0b11;
            let data = &page[ENTRIES_AT + (index + 1) * ENTRY_BYTES..][..(span - 1) * ENTRY_BYTES];
            index += span;
            let Some(name) = entry[KEY_AT..].first_chunk() else { continue };
            if state == WRITTEN && !has_whole_data(entry, data) {
                add(&mut self.damaged, name);
            }
            if !BLOBS.contains(&entry[TYPE_AT]) {
                add(if state & WRITTEN == 0 { &mut self.erased } else { &mut self.there }, name);
            }
        }
    }
}

fn add(names: &mut Vec<Name>, name: &Name) {
    if !names.contains(name) {
        names.push(*name);
    }
}

/// Whether the data behind the head of an item is what its checksum says.
fn has_whole_data(entry: &[u8; ENTRY_BYTES], data: &[u8]) -> bool {
    if !WITH_DATA.contains(&entry[TYPE_AT]) {
        return true;
    }
    let size = usize::from(entry[SIZE_AT]) | usize::from(entry[SIZE_AT + 1]) << 8;
    data.get(..size).is_some_and(|data| software_crc32(u32::MAX, data) == u32_at(entry, DATA_CRC_AT))
}

fn entry(page: &[u8], index: usize) -> Option<&[u8; ENTRY_BYTES]> {
    page.get(ENTRIES_AT + index * ENTRY_BYTES..)?.first_chunk()
}

fn is_whole(entry: &[u8; ENTRY_BYTES]) -> bool {
    let covered = [&entry[..CRC_AT], &entry[KEY_AT..]];
    u32_at(entry, CRC_AT) == covered.into_iter().fold(u32::MAX, software_crc32)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).copied().map_or(0, u32::from_le_bytes)
}
