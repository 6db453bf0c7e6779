//! The start: what the firmware asks first, before clocks, heap or radio are set up.
//!
//! It says whose end the reset was, and takes note of this start in the retained register before anything is read: from
//! here on an end that is not announced is a crash of the updater. With the hand-over ticket, at a wake from deep sleep,
//! and after crashes in a row, it hands over at once, from hardware that nobody has touched: with chain-load only, for by
//! otadata the bootloader starts the application. The ticket is spent before it is used.
//!
//! There is no heap: the partition table (3 KiB) and a block of an image are on the stack. Nothing is written to flash but
//! otadata for such a hand-over, and the journal when the reset may hide a crash whose count it has cleared.

use embedded_storage::nor_flash::NorFlash;
use flashfmt::image::{Progress, StreamVerifier, Target, boot};
use flashfmt::partition::{PartitionTable, TABLE_BYTES};
use sha2::Digest;
use sha2::digest::consts::U32;
use updater::policy::{self, Skip};
use updater::{Action, LastRun, Phase, Retained, SlotIndex, Start, Verdict, limits};
use wire::{Reason, ResetCause};

use crate::handover;
use crate::journal;
use crate::map::{JOURNAL_LABEL, Strategy, read_table};
use crate::region::Region;

/// How much of a slot is read at once.
const BLOCK_BYTES: u32 = 1024;

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
    /// The application's, which the bootloader starts: reset the chip.
    ResetToSlot,
    /// A pit stop's: give this to [`crate::shell::pit_stop`].
    PitStop(Start),
    /// Nobody's: write the retained register, wait, and reset the chip. Before clocks, heap and radio are set up, for one of
    /// them may be what crashes the updater.
    Wait {
        /// How long.
        after_ms: u64,
        /// Why.
        reason: Reason,
        /// What to write to the retained register first.
        retained_bits: u32,
    },
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
    /// SHA-256, for slots that the bootloader starts.
    type Sha256: Digest<OutputSize = U32> + Clone;

    /// The chip.
    fn target(&self) -> Target;

    /// Writes the retained register.
    fn retain_bits(&mut self, bits: u32);

    /// Called after each kilobyte or so of a slot that is hashed: it takes longer than the bootloader's watchdog allows.
    fn feed_watchdog(&mut self);

    /// Judges the image in a slot for the chain-loader; `None` refuses it.
    fn check(&mut self, flash: &mut F, slot: Region, depth: Depth) -> Option<Self::Checked>;
}

/// Begins a start, and decides whether it hands over at once and to which slot.
///
/// One slot after the other is looked at until one can be started: first the one that was handed over to last, then the
/// others in the order of the partition table, around its end. When there is none, or the partition table cannot be read, a
/// pit stop finds out why and knows what to do.
pub fn begin<F: NorFlash, B: EarlyBoard<F>>(
    board: &mut B,
    flash: &mut F,
    retained_bits: u32,
    reset_cause: ResetCause,
) -> Begun<B::Checked> {
    let start = Start::new(retained_bits, reset_cause);
    board.retain_bits(start.retained.to_bits());
    // Reading the partition table may be what crashes.
    if start.waits_first() {
        return without_hand_over(start);
    }
    let mut bytes = [0; TABLE_BYTES];
    // What is not one may be one at the next read.
    let read = read_table(flash, &mut bytes).is_ok() || read_table(flash, &mut bytes).is_ok();
    let Some(table) = PartitionTable::parse(&bytes).ok().filter(|_| read) else {
        return Begun::PitStop(start);
    };
    let start = with_hidden_crashes(board, flash, &table, start.with_slots(slot_count(&table)));
    let Some(way) = early_way(&table, &start) else { return without_hand_over(start) };

    let slots = || (0..).map(SlotIndex).zip(table.app_slots());
    let from_last = slots().filter(|(slot, _)| *slot >= start.retained.slot);
    let before = slots().filter(|(slot, _)| *slot < start.retained.slot);
    for (slot, partition) in from_last.chain(before).filter(|(slot, _)| way.includes(*slot, &start)) {
        // Should looking at it crash, the next start knows which one it was.
        board.retain_bits(Retained { slot, phase: Phase::HandingOver, ..start.retained }.to_bits());
        let region = Region::of(&partition);
        let retained = policy::at_hand_over(policy::after_skip(start.retained), slot, false);
        let begun = match way {
            // What reads wrong is read once more.
            Way::ChainLoad(depth) => (0..2).find_map(|_| board.check(flash, region, depth)).map(|checked| {
                let retained_bits = retained.to_bits();
                Begun::HandOver(EarlyHandOver { slot, region, checked, retained_bits })
            }),
            Way::Otadata { otadata, ota_count } => partition
                .slot()
                .filter(|_| (0..2).any(|_| is_startable(board, flash, region)))
                .and_then(|number| handover::start_once(flash, otadata, ota_count, number.get()).ok())
                .map(|()| {
                    board.retain_bits(retained.to_bits());
                    Begun::ResetToSlot
                }),
        };
        if let Some(begun) = begun {
            if start.may_hide_a_crash() {
                let crashes = u32::from(limits::CRASHES) - 2;
                let _ = journal_region(&table).map(|region| journal::set_crashes(flash, region, crashes));
            }
            return begun;
        }
    }
    let start = start.refused();
    board.retain_bits(start.retained.to_bits());
    without_hand_over(start)
}

/// A pit stop, or the wait of a start that does nothing else.
fn without_hand_over<T>(start: Start) -> Begun<T> {
    if !start.waits_first() {
        return Begun::PitStop(start);
    }
    match updater::start(start) {
        (state, Action::Finish(Verdict::Restart { after_ms, reason })) => {
            Begun::Wait { after_ms, reason, retained_bits: state.retained().to_bits() }
        }
        _ => Begun::PitStop(start),
    }
}

/// How this start hands over at once.
#[derive(Clone, Copy)]
enum Way {
    /// The updater starts the application, after it has looked that deep.
    ChainLoad(Depth),
    /// The bootloader does.
    Otadata { otadata: Region, ota_count: u8 },
}

impl Way {
    /// Whether to look at this slot. At a wake from deep sleep the application that sleeps is started, and no other one: the
    /// memory that outlives the sleep is its own.
    fn includes(self, slot: SlotIndex, start: &Start) -> bool {
        match self {
            Self::ChainLoad(Depth::Structure) => slot == start.retained.slot,
            Self::ChainLoad(Depth::Full) | Self::Otadata { .. } => Some(slot) != start.suspect(),
        }
    }
}

/// `None` asks for a pit stop. By otadata every start is one, but for crashes: the updater writes otadata at its end.
fn early_way(table: &PartitionTable<'_>, start: &Start) -> Option<Way> {
    match (Strategy::of(table), policy::skip_network(start)?) {
        _ if start.waits_first() => None,
        (Strategy::OtadataRollback { otadata, ota_count }, Skip::Crashes) => {
            Some(Way::Otadata { otadata, ota_count })
        }
        (Strategy::OtadataRollback { .. }, Skip::Ticket | Skip::DeepSleepWake) => None,
        (Strategy::ChainLoad, Skip::Ticket | Skip::Crashes) => Some(Way::ChainLoad(Depth::Full)),
        // Which slot the application sleeps in is known to the register, and else to the vault.
        (Strategy::ChainLoad, Skip::DeepSleepWake) => match start.last_run {
            LastRun::Unknown => None,
            LastRun::Application
            | LastRun::Ticket
            | LastRun::Updater
            | LastRun::HandOver
            | LastRun::Refused
            | LastRun::Stuck => Some(Way::ChainLoad(Depth::Structure)),
        },
    }
}

/// Whether a whole image is in a slot, one that the bootloader of this chip starts.
fn is_startable<F: NorFlash, B: EarlyBoard<F>>(board: &mut B, flash: &mut F, slot: Region) -> bool {
    let mut verifier = StreamVerifier::with_sha256(slot.size_bytes, B::Sha256::new());
    let mut block = [0; BLOCK_BYTES as usize];
    for offset in (0..slot.size_bytes).step_by(BLOCK_BYTES as usize) {
        board.feed_watchdog();
        let read = flash.read(slot.offset + offset, &mut block).map(|()| verifier.update(&block));
        match read {
            Ok(Ok(Progress::NeedMore)) => {}
            Ok(Ok(Progress::Done { .. })) => break,
            Ok(Err(_)) | Err(_) => return false,
        }
    }
    let image = verifier.finish();
    image.is_ok_and(|image| {
        boot::check(&image.header, image.segments.as_slice(), image.app_desc.as_ref(), &board.target())
            .is_ok()
    })
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
            let start = start.with_crashes(crashes, slot_count(table));
            board.retain_bits(start.retained.to_bits());
            start
        }
        Some(Err(_)) | None => start,
    }
}

fn slot_count(table: &PartitionTable<'_>) -> u8 {
    u8::try_from(table.app_slots().count()).unwrap_or(u8::MAX)
}

fn journal_region(table: &PartitionTable<'_>) -> Option<Region> {
    table.find_label(JOURNAL_LABEL).as_ref().map(Region::of)
}
