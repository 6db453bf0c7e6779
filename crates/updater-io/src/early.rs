//! The start: what the firmware asks first, before clocks, heap or radio are set up.
//!
//! It says whose end the reset was, and takes note of this start in the retained register before anything is read: from
//! here on an end that is not announced is a crash of the updater. With the hand-over ticket, at a wake from deep sleep,
//! and after crashes in a row, it hands over at once, from hardware that nobody has touched: with chain-load only, for by
//! otadata the bootloader starts the application. The ticket is spent before it is used.
//!
//! There is no heap: the partition table (3 KiB) is on the stack. Nothing is written to flash, unless the reset may hide
//! a crash of the updater whose count it has cleared: then the journal counts it.

use embedded_storage::nor_flash::NorFlash;
use flashfmt::partition::{PartitionTable, TABLE_BYTES};
use updater::policy::{self, Skip};
use updater::{LastRun, Phase, Retained, SlotIndex, Start, limits};
use wire::ResetCause;

use crate::journal;
use crate::map::{JOURNAL_LABEL, Strategy, read_table};
use crate::region::Region;

/// How much of the image in a slot is looked at before it is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Everything, the appended SHA-256 included.
    Full,
    /// The headers. For a wake from deep sleep: the application ran from this slot before, nothing has written
    /// there since, and hashing a slot at every wake would cost more than the application's own work.
    Structure,
}

/// What a start is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begun<T> {
    /// The application's. Write [`EarlyHandOver::retained_bits`] to the retained register, and start it.
    HandOver(EarlyHandOver<T>),
    /// A pit stop's: give this to [`crate::shell::pit_stop`].
    PitStop(Start),
}

/// A hand-over that needs no pit stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EarlyHandOver<T> {
    /// The slot to start.
    pub slot: SlotIndex,
    /// Where it is.
    pub region: Region,
    /// What the check made of it.
    pub checked: T,
    /// What to write to the retained register before the application starts.
    pub retained_bits: u32,
}

/// What of a chip the start needs beside its flash.
pub trait EarlyBoard<F> {
    /// What a check makes of a slot that can be started.
    type Checked;

    /// Writes the retained register.
    fn retain_bits(&mut self, bits: u32);

    /// Judges the image in a slot; `None` refuses it.
    fn check(&mut self, flash: &mut F, slot: Region, depth: Depth) -> Option<Self::Checked>;
}

/// Begins a start, and decides whether it hands over at once and to which slot.
///
/// [`EarlyBoard::check`] is asked for one slot after the other until it accepts one: first the slot that was handed over
/// to last, then the others in the order of the partition table. When none is accepted, or the partition table cannot be
/// read, a pit stop finds out why and knows what to do.
pub fn begin<F: NorFlash, B: EarlyBoard<F>>(
    board: &mut B,
    flash: &mut F,
    retained_bits: u32,
    reset_cause: ResetCause,
) -> Begun<B::Checked> {
    let start = Start::new(retained_bits, reset_cause);
    board.retain_bits(start.retained.to_bits());
    let mut bytes = [0; TABLE_BYTES];
    // What is not one may be one at the next read.
    let read = read_table(flash, &mut bytes).is_ok() || read_table(flash, &mut bytes).is_ok();
    let Some(table) = PartitionTable::parse(&bytes).ok().filter(|_| read) else {
        return Begun::PitStop(start);
    };
    let start = with_hidden_crashes(board, flash, &table, start);
    let Some(depth) = early_depth(&table, &start) else { return Begun::PitStop(start) };

    let slots = || (0..).map(SlotIndex).zip(table.app_slots().map(|slot| Region::of(&slot)));
    let last = slots().filter(|(slot, _)| *slot == start.retained.slot);
    let others = slots().filter(|(slot, _)| *slot != start.retained.slot);
    for (slot, region) in last.chain(others) {
        // Should looking at it crash, the next start knows which one it was.
        board.retain_bits(Retained { slot, phase: Phase::HandingOver, ..start.retained }.to_bits());
        if let Some(checked) = board.check(flash, region, depth) {
            let retained = policy::at_hand_over(policy::after_skip(start.retained), slot, false);
            if start.may_hide_a_crash() {
                let crashes = u32::from(limits::CRASHES) - 2;
                let _ = journal_region(&table).map(|region| journal::set_crashes(flash, region, crashes));
            }
            return Begun::HandOver(EarlyHandOver {
                slot,
                region,
                checked,
                retained_bits: retained.to_bits(),
            });
        }
    }
    let start = start.refused();
    board.retain_bits(start.retained.to_bits());
    Begun::PitStop(start)
}

/// How deep to look at a slot before it is handed over to at once; `None` asks for a pit stop.
fn early_depth(table: &PartitionTable<'_>, start: &Start) -> Option<Depth> {
    match (Strategy::of(table), policy::skip_network(start)?) {
        // The bootloader starts the application there, and the updater writes otadata for it at each pit stop.
        (Strategy::OtadataRollback { .. }, _) => None,
        (Strategy::ChainLoad, Skip::Ticket | Skip::Crashes) => Some(Depth::Full),
        // Which slot the application sleeps in is known to the register, and else to the vault.
        (Strategy::ChainLoad, Skip::DeepSleepWake) => match start.last_run {
            LastRun::Unknown => None,
            LastRun::Application
            | LastRun::Ticket
            | LastRun::Updater
            | LastRun::HandOver
            | LastRun::Refused => Some(Depth::Structure),
        },
    }
}

/// Counts this start in the journal when its reset may hide a crash, and goes by that count. A layout without a journal
/// counts nothing.
fn with_hidden_crashes<F: NorFlash, B: EarlyBoard<F>>(
    board: &mut B,
    flash: &mut F,
    table: &PartitionTable<'_>,
    start: Start,
) -> Start {
    let region = journal_region(table).filter(|_| start.may_hide_a_crash());
    match region.map(|region| journal::count_crash(flash, region)) {
        Some(Ok(crashes)) => {
            let start = start.with_crashes(crashes);
            board.retain_bits(start.retained.to_bits());
            start
        }
        Some(Err(_)) | None => start,
    }
}

fn journal_region(table: &PartitionTable<'_>) -> Option<Region> {
    table.find_label(JOURNAL_LABEL).as_ref().map(Region::of)
}
