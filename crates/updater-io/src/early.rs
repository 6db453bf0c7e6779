//! The early hand-over: what the firmware asks first, before clocks, heap or radio are set up.
//!
//! It is for chain-load. A pit stop ends with the hand-over ticket and a reset of the chip; the start after that
//! finds the ticket here and gives the application hardware that nobody has touched. A wake from deep sleep comes
//! the same way. Nothing is written to flash, and there is no heap: the partition table (3 KiB) is on the stack.

use embedded_storage::nor_flash::ReadNorFlash;
use flashfmt::partition::TABLE_BYTES;
use updater::policy::{self, Skip};
use updater::{Retained, SlotIndex};
use wire::ResetCause;

use crate::map::{Strategy, read_table};
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

/// Decides whether this start hands over at once, and to which slot: with the ticket, or at a wake from deep sleep.
///
/// `check` is asked for one slot after the other until it accepts one: first the slot that was handed over to last,
/// then the others in the order of the partition table.
///
/// `None` asks for a pit stop, also when no slot was accepted or the partition table cannot be read: the pit stop
/// finds out and knows what to do. The retained register is then left as it is.
pub fn hand_over<F: ReadNorFlash, T>(
    flash: &mut F,
    retained_bits: u32,
    reset_cause: ResetCause,
    mut check: impl FnMut(&mut F, Region, Depth) -> Option<T>,
) -> Option<EarlyHandOver<T>> {
    let retained = Retained::from_bits(retained_bits);
    let depth = match policy::skip_network(retained, reset_cause)? {
        Skip::Ticket => Depth::Full,
        Skip::DeepSleepWake => Depth::Structure,
        // The pit stop keeps that count.
        Skip::Deaths => return None,
    };
    let mut bytes = [0; TABLE_BYTES];
    let table = read_table(flash, &mut bytes).ok()?;
    match Strategy::of(&table) {
        Strategy::ChainLoad => {}
        // The bootloader starts the application there, and the updater writes otadata for it at each pit stop.
        Strategy::OtadataRollback { .. } => return None,
    }
    let slots = || (0..).map(SlotIndex).zip(table.app_slots().map(|slot| Region::of(&slot)));
    let last = slots().filter(|(slot, _)| *slot == retained.slot);
    let others = slots().filter(|(slot, _)| *slot != retained.slot);
    let (slot, region, checked) =
        last.chain(others).find_map(|(slot, region)| Some((slot, region, check(flash, region, depth)?)))?;
    let retained = policy::at_hand_over(policy::at_start(retained, reset_cause), slot, false);
    Some(EarlyHandOver { slot, region, checked, retained_bits: retained.to_bits() })
}
