//! The journal on NOR flash, with the power cut at every byte.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use proptest::prelude::*;
use support::flash::NorMock;
use updater_io::journal::{Entry, Journal, JournalError, SequenceFloor};
use updater_io::region::{Region, SECTOR_BYTES};

const REGION: Region = Region { offset: SECTOR_BYTES, size_bytes: 2 * SECTOR_BYTES };
const ENTRIES_PER_SECTOR: u32 = 128;

fn flash() -> NorMock {
    NorMock { blank_only: true, ..NorMock::blank(4 * SECTOR_BYTES as usize) }
}

fn entry(number: u32) -> Entry {
    Entry {
        critical_errors: number / 2,
        last_critical_code: number as u16,
        crashes: 1,
        vault_damage: 7,
        sequence_floor: SequenceFloor { settings: !number, sequence: number },
    }
}

#[test]
fn a_new_journal_is_empty_and_opening_writes_nothing() {
    let mut flash = flash();
    assert_eq!(Journal::open(&mut flash, REGION).unwrap().latest(), None);
    assert_eq!((flash.erases, flash.writes), (0, 0));
}

#[test]
fn the_newest_entry_is_found_after_any_number_of_appends() {
    let mut flash = flash();
    let mut journal = Journal::open(&mut flash, REGION).unwrap();
    for number in 0..5 * ENTRIES_PER_SECTOR {
        journal.append(&mut flash, entry(number)).unwrap();
        assert_eq!(journal.latest(), Some(entry(number)));
        assert_eq!(Journal::open(&mut flash, REGION).unwrap().latest(), Some(entry(number)));
    }
    // The first sector was blank; each of the four further ones was erased once.
    assert_eq!((flash.writes, flash.erases), (5 * ENTRIES_PER_SECTOR, 4));
    // The neighbours are untouched.
    assert!(flash.bytes[..SECTOR_BYTES as usize].iter().all(|byte| *byte == 0xff));
    assert!(flash.bytes[3 * SECTOR_BYTES as usize..].iter().all(|byte| *byte == 0xff));
}

/// Before an append into a blank place, and before one that erases: after a cut at any byte the newest entry or
/// the one before it is read, and appending goes on, through a second cut too.
#[test]
fn a_power_cut_at_any_byte_loses_the_entry_being_written_at_most() {
    for appended in [0, 1, 2, ENTRIES_PER_SECTOR - 1, ENTRIES_PER_SECTOR, 2 * ENTRIES_PER_SECTOR, 300] {
        let mut before = flash();
        let mut journal = Journal::open(&mut before, REGION).unwrap();
        (0..appended).for_each(|number| journal.append(&mut before, entry(number)).unwrap());
        let previous = journal.latest();

        let mut whole = before.clone();
        journal.clone().append(&mut whole, entry(appended)).unwrap();
        let erased_bytes = (whole.erases - before.erases) as usize * SECTOR_BYTES as usize;
        for power_bytes in 0..erased_bytes + 32 {
            let mut cut = NorMock { power_bytes: Some(power_bytes), ..before.clone() };
            assert_eq!(journal.clone().append(&mut cut, entry(appended)), Err(JournalError::Flash));

            let mut revived = cut.revived();
            let mut reopened = Journal::open(&mut revived, REGION).unwrap();
            let found = reopened.latest();
            assert!(
                found == previous || found == Some(entry(appended)),
                "{appended} {power_bytes}: {found:?}"
            );
            // Cut the next append as well, then let one through.
            revived.power_bytes = Some(power_bytes % 40);
            let _ = reopened.append(&mut revived, entry(appended + 1));
            let mut revived = revived.revived();
            let mut reopened = Journal::open(&mut revived, REGION).unwrap();
            assert!(reopened.latest().is_some() || previous.is_none());
            reopened.append(&mut revived, entry(appended + 2)).unwrap();
            let latest = Journal::open(&mut revived, REGION).unwrap().latest();
            assert_eq!(latest, Some(entry(appended + 2)), "{appended} {power_bytes}");
        }
    }
}

#[test]
fn an_entry_that_does_not_read_back_is_an_error() {
    let mut flash = flash();
    let mut journal = Journal::open(&mut flash, REGION).unwrap();
    journal.append(&mut flash, entry(1)).unwrap();
    flash.worn_out = true;
    assert_eq!(journal.append(&mut flash, entry(2)), Err(JournalError::NotWritten));
    assert_eq!(journal.latest(), Some(entry(1)));
}

#[test]
fn regions_that_cannot_hold_a_journal_are_refused() {
    let mut flash = flash();
    for (offset, sectors) in [(0, 0), (0, 1), (0, 5), (SECTOR_BYTES, 4), (100, 2), (u32::MAX - 4095, 2)] {
        let size_bytes = sectors * SECTOR_BYTES;
        let opened = Journal::open(&mut flash, Region { offset, size_bytes });
        assert_eq!(opened.map(|_| ()), Err(JournalError::Region { offset, size_bytes }));
    }
}

proptest! {
    #[test]
    fn any_content_is_read_without_a_panic_and_can_be_appended_to(
        seed in proptest::collection::vec(any::<u8>(), 64),
        blank_from in 0usize..8192,
    ) {
        let mut flash = flash();
        for (index, byte) in flash.bytes[4096..12288].iter_mut().enumerate().take(blank_from) {
            *byte = seed[index % seed.len()];
        }
        let mut journal = Journal::open(&mut flash, REGION).unwrap();
        journal.append(&mut flash, entry(7)).unwrap();
        prop_assert_eq!(Journal::open(&mut flash, REGION).unwrap().latest(), Some(entry(7)));
    }
}
