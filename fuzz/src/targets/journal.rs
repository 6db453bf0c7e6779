//! Any content of the journal's partition, with good entries anywhere in it, and what is appended to it.

use crate::flash::NorMock;
use arbitrary::Arbitrary;
use esp_nvs::platform::software_crc32;
use updater_io::journal::{Entry, Journal, SequenceFloor};
use updater_io::region::Region;

const REGION: Region = Region { offset: 0, size_bytes: 2 * 4096 };
const ENTRY_BYTES: usize = 32;

#[derive(Arbitrary, Debug)]
pub struct Input<'a> {
    filled: u8,
    good: Vec<(u8, u32, [u8; 20])>,
    bytes: Vec<(u16, &'a [u8])>,
    append: Vec<(u32, u32, u32, u16, u16, u32)>,
}

pub fn run(input: Input<'_>) {
    let mut flash = NorMock::new(vec![input.filled; REGION.size_bytes as usize]);
    for (place, sequence, content) in &input.good {
        let mut entry = *b"PJ\x01\x00____________________________";
        entry[4..8].copy_from_slice(&sequence.to_le_bytes());
        entry[8..28].copy_from_slice(content);
        let checksum = software_crc32(0, &entry[..28]);
        entry[28..].copy_from_slice(&checksum.to_le_bytes());
        let at = usize::from(*place) * ENTRY_BYTES;
        flash.bytes[at..at + ENTRY_BYTES].copy_from_slice(&entry);
    }
    for (place, bytes) in &input.bytes {
        for (at, byte) in (usize::from(*place)..REGION.size_bytes as usize).zip(*bytes) {
            flash.bytes[at] = *byte;
        }
    }
    // What is whole, by its checksum, and of that the newest.
    let (entries, _) = flash.bytes.as_chunks::<ENTRY_BYTES>();
    let is_whole = |entry: &&[u8; ENTRY_BYTES]| {
        entry.starts_with(b"PJ\x01\x00") && entry[28..] == software_crc32(0, &entry[..28]).to_le_bytes()
    };
    let number = |entry: &[u8; ENTRY_BYTES], at: usize| {
        u32::from_le_bytes([entry[at], entry[at + 1], entry[at + 2], entry[at + 3]])
    };
    let newest = entries.iter().filter(is_whole).map(|entry| number(entry, 4)).max();
    let settings = |settings: u32| {
        entries
            .iter()
            .filter(is_whole)
            .any(|entry| Some(number(entry, 4)) == newest && number(entry, 8) == settings)
    };
    let latest = Journal::open(&mut flash.clone(), REGION).unwrap().latest();
    assert_eq!(latest.is_some(), newest.is_some());
    assert!(
        latest.is_none_or(|latest| settings(latest.sequence_floor.settings)),
        "{latest:?} is not the newest"
    );

    let mut journal = Journal::open(&mut flash, REGION).unwrap();
    assert_eq!((flash.erases, flash.writes), (0, 0), "reading writes nothing");
    for (settings, sequence, critical_errors, last_critical_code, crashes, vault_damage) in
        input.append.into_iter().take(8)
    {
        let sequence_floor = SequenceFloor { settings, sequence };
        let entry = Entry { critical_errors, last_critical_code, crashes, vault_damage, sequence_floor };
        journal.append(&mut flash, entry).unwrap();
        assert_eq!(journal.latest(), Some(entry));
        // The last number is followed by none: more entries than the flash endures.
        if newest < Some(u32::MAX - 8) {
            assert_eq!(Journal::open(&mut flash, REGION).unwrap().latest(), Some(entry));
        }
    }
}
