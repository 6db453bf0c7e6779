//! The early hand-over: which slot it starts, how it is checked, and what it leaves in the retained register.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use flashfmt::Chip;
use flashfmt::image::Target;
use flashfmt::layout::Layout;
use flashfmt::partition::TABLE_OFFSET;
use support::flash::NorMock;
use updater::{LastRun, Phase, Retained, SlotIndex, Start};
use updater_io::early::{Begun, Depth, EarlyBoard, begin};
use updater_io::journal::{Entry, Journal};
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
    let phase = Phase::Ticket;
    Retained { phase, slot: SlotIndex(slot), starts, failures, ..Retained::default() }.to_bits()
}

/// The chip before anything is initialised; only `good` slots are accepted.
struct Early<'a> {
    good: &'a [u32],
    register: u32,
    /// What was asked, with what the register said meanwhile.
    asked: Vec<(u32, Depth)>,
    meanwhile: Vec<Retained>,
    /// How often the watchdog was fed.
    fed: usize,
}

impl EarlyBoard<NorMock> for Early<'_> {
    type Checked = Region;
    type Sha256 = sha2::Sha256;

    fn target(&self) -> Target {
        Target { chip: Chip::Esp32C3, revision: None, efuse_blocks: None }
    }

    fn retain_bits(&mut self, bits: u32) {
        self.register = bits;
    }

    fn feed_watchdog(&mut self) {
        self.fed += 1;
    }

    fn check(&mut self, _: &mut NorMock, slot: Region, depth: Depth) -> Option<Region> {
        self.asked.push((slot.offset, depth));
        self.meanwhile.push(Retained::from_bits(self.register).unwrap());
        self.good.contains(&slot.offset).then_some(slot)
    }
}

/// Slot and retained register after an early hand-over; else what the pit stop begins with.
type Decided = Result<(u8, Retained), Start>;

fn begin_on(flash: &mut NorMock, bits: u32, cause: ResetCause, good: &[u32]) -> (Decided, Vec<(u32, Depth)>) {
    let mut early = Early { good, register: bits, asked: Vec::new(), meanwhile: Vec::new(), fed: 0 };
    let decided = match begin(&mut early, flash, bits, cause) {
        Begun::HandOver(hand_over) => {
            assert_eq!(hand_over.checked, hand_over.region);
            Ok((hand_over.slot.0, Retained::from_bits(hand_over.retained_bits).unwrap()))
        }
        Begun::ResetToSlot => panic!("there is no image for it"),
        Begun::PitStop(start) => {
            assert_eq!(early.register, start.retained.to_bits(), "the start is noted");
            assert_eq!(start.retained.phase, Phase::Updater, "an end from here on is a crash");
            Err(start)
        }
        Begun::Wait { .. } => panic!("nothing has crashed so often"),
    };
    let handing_over = |retained: &Retained| retained.phase == Phase::HandingOver;
    assert!(early.meanwhile.iter().all(handing_over), "the ticket is spent before it is used");
    (decided, early.asked)
}

/// The decision when only `good` slots are accepted, with everything that was asked.
fn decide(layout: &str, bits: u32, cause: ResetCause, good: &[u32]) -> (Decided, Vec<(u32, Depth)>) {
    let mut flash = flash(layout);
    let decided = begin_on(&mut flash, bits, cause, good);
    assert_eq!((flash.erases, flash.writes), (0, 0));
    decided
}

#[test]
fn a_ticket_starts_the_slot_that_was_handed_over_to() {
    let (decided, asked) = decide("8mb", ticket(1), ResetCause::Software, &[OTA_0, OTA_1]);
    let retained = Retained { slot: SlotIndex(1), starts: 8, ..Retained::default() };
    assert_eq!(decided, Ok((1, retained)), "ticket and failures are cleared, the start is counted");
    assert_eq!(asked, [(OTA_1, Depth::Full)]);
}

#[test]
fn another_slot_is_started_when_that_one_is_refused() {
    let (decided, asked) = decide("8mb", ticket(1), ResetCause::Software, &[OTA_0]);
    assert_eq!(decided.map(|(slot, retained)| (slot, retained.slot)), Ok((0, SlotIndex(0))));
    assert_eq!(asked, [(OTA_1, Depth::Full), (OTA_1, Depth::Full), (OTA_0, Depth::Full)], "read twice");
    // A number that is no slot of this table names none.
    let (decided, asked) = decide("8mb", ticket(9), ResetCause::Software, &[OTA_1]);
    assert_eq!(decided.map(|(slot, _)| slot), Ok(1));
    assert_eq!(asked, [(OTA_0, Depth::Full), (OTA_0, Depth::Full), (OTA_1, Depth::Full)]);
}

#[test]
fn a_wake_from_deep_sleep_looks_at_headers() {
    let bits = Retained { slot: SlotIndex(1), ..Retained::default() }.to_bits();
    let (decided, asked) = decide("8mb", bits, ResetCause::DeepSleep, &[OTA_0]);
    // Another application would find the first one's memory.
    assert_eq!(decided.unwrap_err().last_run, LastRun::Application);
    assert_eq!(asked, [(OTA_1, Depth::Structure), (OTA_1, Depth::Structure)], "read twice");
    let (decided, asked) = decide("8mb", bits, ResetCause::DeepSleep, &[OTA_0, OTA_1]);
    assert_eq!((decided.map(|(slot, _)| slot), asked), (Ok(1), vec![(OTA_1, Depth::Structure)]));
    // A register that did not survive names no slot: the pit stop looks into the vault, and nothing is started unhashed.
    let (decided, asked) = decide("8mb", 0, ResetCause::DeepSleep, &[OTA_0]);
    assert_eq!((decided.unwrap_err().last_run, asked), (LastRun::Unknown, vec![]));
    // The ticket asks for the whole image even then.
    let (_, asked) = decide("8mb", ticket(0), ResetCause::DeepSleep, &[OTA_0]);
    assert_eq!(asked, [(OTA_0, Depth::Full)]);
}

#[test]
fn nothing_is_decided_without_a_reason() {
    for bits in [0, Retained::default().to_bits()] {
        let (decided, asked) = decide("8mb", bits, ResetCause::Software, &[OTA_0, OTA_1]);
        assert!(decided.is_err());
        assert_eq!(asked, []);
    }
    // By otadata the bootloader starts the application.
    let (decided, asked) = decide("8mb-rollback", ticket(0), ResetCause::DeepSleep, &[OTA_0]);
    assert!(decided.is_err());
    assert_eq!(asked, []);
    // No partition table.
    let mut blank = NorMock::blank(0x40_0000);
    assert!(begin_on(&mut blank, ticket(0), ResetCause::Software, &[OTA_0]).0.is_err());
}

/// The start that no slot was accepted at knows it, and the next one does not try the same again.
#[test]
fn a_ticket_is_spent_before_it_is_used() {
    let start = decide("8mb", ticket(1), ResetCause::Software, &[]).0.unwrap_err();
    assert_eq!((start.last_run, start.suspect()), (LastRun::Refused, Some(SlotIndex(1))));
    assert_eq!(start.retained.failures, 4, "counted");
    // The check crashes: the register says where.
    let crashed = Retained { phase: Phase::HandingOver, slot: SlotIndex(1), ..Retained::default() };
    let (decided, asked) = decide("8mb", crashed.to_bits(), ResetCause::Watchdog, &[OTA_0, OTA_1]);
    assert_eq!((decided.unwrap_err().last_run, asked), (LastRun::HandOver, vec![]));
}

/// Wherever it crashes, and without a look at the vault.
#[test]
fn after_three_crashes_the_application_is_started_at_once() {
    let crashed = |crashes| Retained { phase: Phase::Updater, crashes, ..Retained::default() }.to_bits();
    assert!(decide("8mb", crashed(1), ResetCause::Panic, &[OTA_0]).0.is_err());
    let (decided, asked) = decide("8mb", crashed(2), ResetCause::Panic, &[OTA_0]);
    let (slot, retained) = decided.unwrap();
    assert_eq!((slot, asked), (0, vec![(OTA_0, Depth::Full)]));
    assert_eq!((retained.crashes, retained.phase), (2, Phase::Application), "one more crash skips again");
}

/// A brownout clears the register that counts: the journal does instead, and only at such starts.
#[test]
fn resets_that_clear_the_register_are_counted_in_the_journal() {
    let mut flash = flash("8mb");
    let journal = Layout::builtin("8mb").unwrap().find_label("journal").unwrap();
    let region = Region { offset: journal.offset, size_bytes: journal.size };
    let counted = |flash: &mut NorMock| {
        let latest = Journal::open(flash, region).unwrap().latest();
        latest.map_or(0, |entry: Entry| entry.crashes)
    };
    for cause in [ResetCause::PowerOn, ResetCause::External, ResetCause::Software] {
        assert!(begin_on(&mut flash, 0, cause, &[OTA_0]).0.is_err());
    }
    assert_eq!(flash.writes, 0, "a healthy start writes nothing");
    for crashes in 1..=2 {
        let start = begin_on(&mut flash, 0, ResetCause::Brownout, &[OTA_0]).0.unwrap_err();
        assert_eq!((u16::from(start.retained.crashes), counted(&mut flash)), (crashes, crashes));
    }
    let (decided, _) = begin_on(&mut flash, 0, ResetCause::Brownout, &[OTA_0]);
    assert_eq!(decided.map(|(slot, _)| slot), Ok(0), "the fourth start in a row, the first one included");
    // Then every second one tries again: whose end a brownout was is not known.
    assert_eq!(counted(&mut flash), 1);
    assert!(begin_on(&mut flash, 0, ResetCause::Brownout, &[OTA_0]).0.is_err());
    assert!(begin_on(&mut flash, 0, ResetCause::Brownout, &[OTA_0]).0.is_ok());
}

/// A start that comes after so many waits before anything is set up: there the crash may be.
#[test]
fn when_nothing_helps_the_start_waits_at_once() {
    let crashed = Retained { phase: Phase::Updater, crashes: 3, failures: 2, ..Retained::default() };
    let mut early = Early { good: &[], register: 0, asked: Vec::new(), meanwhile: Vec::new(), fed: 0 };
    // Nothing is read either: it may be the flash that crashes.
    let mut flash = NorMock::blank(0);
    let begun = begin(&mut early, &mut flash, crashed.to_bits(), ResetCause::Panic);
    let Begun::Wait { after_ms, retained_bits, .. } = begun else { panic!("{begun:?}") };
    assert!(after_ms >= 10_000, "{after_ms}");
    let retained = Retained::from_bits(retained_bits).unwrap();
    assert_eq!(
        (retained.phase, retained.crashes),
        (Phase::Application, 2),
        "one more crash tries the slots again"
    );
    assert_eq!(early.asked, []);
}

/// The bootloader's watchdog bites after 9 s, and a slot of 7 MB is hashed for as long.
#[test]
fn the_watchdog_is_fed_while_a_slot_is_hashed() {
    let mut flash = flash("8mb-rollback");
    let mut early = Early { good: &[], register: 0, asked: Vec::new(), meanwhile: Vec::new(), fed: 0 };
    let crashed = Retained { crashes: 2, phase: Phase::Updater, ..Retained::default() };
    let _ = begin(&mut early, &mut flash, crashed.to_bits(), ResetCause::Panic);
    assert!(early.fed > 0);
}
