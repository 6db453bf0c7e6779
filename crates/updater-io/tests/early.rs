//! The early hand-over: which slot it starts, how it is checked, and what it leaves in the retained register.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use flashfmt::layout::Layout;
use flashfmt::partition::TABLE_OFFSET;
use support::flash::NorMock;
use updater::{Retained, SlotIndex};
use updater_io::early::{Depth, hand_over};
use updater_io::region::Region;
use wire::ResetCause;

const OTA_0: u32 = 0x11_0000;
const OTA_1: u32 = 0x48_0000;

fn flash(layout: &str) -> NorMock {
    let layout = Layout::builtin(layout).unwrap();
    let mut flash = NorMock::blank(layout.needed_flash_bytes().next_power_of_two() as usize);
    let table = layout.to_binary();
    flash.bytes[TABLE_OFFSET as usize..][..table.len()].copy_from_slice(&table);
    flash
}

fn ticket(slot: u8) -> u32 {
    let (starts, failures) = (7, 3);
    Retained { ticket: true, slot: SlotIndex(slot), starts, failures, ..Retained::default() }.to_bits()
}

/// Slot and retained register after an early hand-over.
type Decided = Option<(u8, Retained)>;

/// The decision when only `good` slots are accepted, with everything that was asked.
fn decide(layout: &str, bits: u32, cause: ResetCause, good: &[u32]) -> (Decided, Vec<(u32, Depth)>) {
    let mut asked = Vec::new();
    let mut flash = flash(layout);
    let decided = hand_over(&mut flash, bits, cause, |_, region: Region, depth| {
        asked.push((region.offset, depth));
        good.contains(&region.offset).then_some(region)
    });
    assert_eq!((flash.erases, flash.writes), (0, 0));
    let decided = decided.map(|early| {
        assert_eq!(early.checked, early.region);
        (early.slot.0, Retained::from_bits(early.retained_bits))
    });
    (decided, asked)
}

#[test]
fn a_ticket_starts_the_slot_that_was_handed_over_to() {
    let (decided, asked) = decide("8mb", ticket(1), ResetCause::Software, &[OTA_0, OTA_1]);
    let retained = Retained { slot: SlotIndex(1), starts: 8, ..Retained::default() };
    assert_eq!(decided, Some((1, retained)), "ticket and failures are cleared, the start is counted");
    assert_eq!(asked, [(OTA_1, Depth::Full)]);
}

#[test]
fn another_slot_is_started_when_that_one_is_refused() {
    let (decided, asked) = decide("8mb", ticket(1), ResetCause::Software, &[OTA_0]);
    assert_eq!(decided.map(|(slot, retained)| (slot, retained.slot)), Some((0, SlotIndex(0))));
    assert_eq!(asked, [(OTA_1, Depth::Full), (OTA_0, Depth::Full)]);
    // A number that is no slot of this table names none.
    let (decided, asked) = decide("8mb", ticket(9), ResetCause::Software, &[OTA_1]);
    assert_eq!(decided.map(|(slot, _)| slot), Some(1));
    assert_eq!(asked, [(OTA_0, Depth::Full), (OTA_1, Depth::Full)]);
}

#[test]
fn a_wake_from_deep_sleep_looks_at_headers() {
    let bits = Retained { slot: SlotIndex(1), ..Retained::default() }.to_bits();
    let (decided, asked) = decide("8mb", bits, ResetCause::DeepSleep, &[OTA_0]);
    assert_eq!(decided.map(|(slot, _)| slot), Some(0));
    assert_eq!(asked, [(OTA_1, Depth::Structure), (OTA_0, Depth::Structure)]);
    // What is in the register after a loss of power says nothing, and the first slot comes first.
    let (_, asked) = decide("8mb", 0, ResetCause::DeepSleep, &[OTA_0]);
    assert_eq!(asked, [(OTA_0, Depth::Structure)]);
    // The ticket asks for the whole image even then.
    let (_, asked) = decide("8mb", ticket(0), ResetCause::DeepSleep, &[OTA_0]);
    assert_eq!(asked, [(OTA_0, Depth::Full)]);
}

#[test]
fn nothing_is_decided_without_a_reason() {
    let deaths = Retained { deaths: 3, ..Retained::default() }.to_bits();
    for bits in [0, Retained::default().to_bits(), deaths] {
        let (decided, asked) = decide("8mb", bits, ResetCause::Software, &[OTA_0, OTA_1]);
        assert_eq!((decided, asked), (None, vec![]));
    }
    assert_eq!(decide("8mb", ticket(0), ResetCause::Software, &[]).0, None, "no slot is accepted");
    // By otadata the bootloader starts the application.
    let (decided, asked) = decide("8mb-rollback", ticket(0), ResetCause::DeepSleep, &[OTA_0]);
    assert_eq!((decided, asked), (None, vec![]));
    // No partition table.
    let mut blank = NorMock::blank(0x40_0000);
    assert!(hand_over(&mut blank, ticket(0), ResetCause::Software, |_, _, _| Some(())).is_none());
}
