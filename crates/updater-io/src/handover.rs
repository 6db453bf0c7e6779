//! The hand-over at the end of a pit stop, by both strategies (docs/handover.md).
//!
//! With chain-load nothing is left to do: the engine has set the ticket, and after the reset [`crate::early`] starts
//! the application.
//!
//! By otadata the bootloader starts it. The updater keeps an entry of its own in force, VALID. To hand over it writes
//! an entry for the application's slot, NEW, with the next sequence number into the other copy. A bootloader with
//! rollback starts that entry once, as PENDING_VERIFY, and aborts it at the start after that: the updater's entry is
//! in force again. The rules are those of [`flashfmt::otadata`].
//!
//! Power cuts: only the copy that is not in force is ever written here, so that a torn write leaves the other one.

use embedded_storage::nor_flash::{NorFlash, ReadNorFlash};
use flashfmt::otadata::{self, OTA_ENTRY_BYTES, OTA_ENTRY_OFFSETS, OtaEntries, OtaEntry, OtaState, Switch};
use updater::SlotIndex;
use wire::Reason;

use crate::flash::{FlashFault, erase, read, write};
use crate::map::{Map, Strategy};
use crate::region::{Region, SECTOR_BYTES};

/// The bootloader's number of the updater's own partition in a layout without `factory`: `ota_0`.
const UPDATER_OTA_NUMBER: u8 = 0;

/// What otadata tells the updater at its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// Nothing out of the ordinary.
    Usual,
    /// The application has marked itself valid since the last hand-over, so that the bootloader started it at every
    /// reset, and the updater did not run.
    ApplicationConfirmedItself,
}

/// Why a hand-over could not be prepared.
#[derive(Debug, thiserror::Error)]
pub enum HandOverFault {
    /// The flash failed.
    #[error("otadata could not be read or written")]
    Flash(#[source] FlashFault),
    /// What was written does not read back. The other copy is still in force.
    #[error("the otadata entry at {address:#x} does not read back; the flash may be worn out")]
    NotWritten {
        /// Where it is.
        address: u32,
    },
    /// There is no such slot, or no sequence number that selects it.
    #[error("expected slot {} and a sequence number for it in otadata, found none; erase otadata", .slot.0)]
    NoEntry {
        /// The slot.
        slot: SlotIndex,
    },
}

impl HandOverFault {
    /// The code for the server, and for the engine.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::Flash(fault) => fault.reason(),
            Self::NotWritten { .. } => Reason::FlashWrite,
            Self::NoEntry { .. } => Reason::Internal,
        }
    }
}

/// Prepares the start of the application in `slot`, so that a reset of the chip is all that is left to do. By
/// otadata that takes one erasure and one write of 32 bytes; with chain-load nothing is written, for the retained register
/// has the ticket.
///
/// # Errors
/// [`HandOverFault`]; a reset then starts the updater again.
pub fn prepare<F: NorFlash>(flash: &mut F, map: &Map, slot: SlotIndex) -> Result<(), HandOverFault> {
    match map.strategy {
        Strategy::ChainLoad => Ok(()),
        Strategy::OtadataRollback { otadata, ota_count } => {
            let target = map.slots.get(usize::from(slot.0)).ok_or(HandOverFault::NoEntry { slot })?;
            start_once(flash, otadata, ota_count, target.ota_number)
        }
    }
}

/// Has the bootloader start the application in a slot at the next reset, and the updater at the one after it.
///
/// # Errors
/// [`HandOverFault`]; a reset then starts the updater again.
pub(crate) fn start_once<F: NorFlash>(
    flash: &mut F,
    otadata: Region,
    ota_count: u8,
    ota_number: u8,
) -> Result<(), HandOverFault> {
    let entries = entries(flash, otadata)?;
    let switch = otadata::switch_to_slot(&entries, ota_number, ota_count, OtaState::New)
        .ok_or(HandOverFault::NoEntry { slot: SlotIndex(ota_number) })?;
    replace(flash, otadata, switch)
}

/// Makes sure that the bootloader comes back to the updater: its own entry is in force, VALID. Writes only when it is
/// not, as after an application that confirmed itself or selected another partition. With chain-load it does nothing.
///
/// # Errors
/// [`HandOverFault`]
pub(crate) fn keep_place<F: NorFlash>(flash: &mut F, map: &Map) -> Result<Found, HandOverFault> {
    let Strategy::OtadataRollback { otadata, ota_count } = map.strategy else { return Ok(Found::Usual) };
    let entries = entries(flash, otadata)?;
    let in_force = otadata::select(&entries, ota_count);
    if in_force.is_some_and(|active| is_updater(active.slot) && active.entry.state == OtaState::Valid) {
        return Ok(Found::Usual);
    }
    // Whichever copy it is in: an application that selects the updater again leaves its own entry valid.
    let is_confirmed_application = |entry: OtaEntry| {
        let alone = otadata::select(&[Some(entry), None], ota_count);
        alone.is_some_and(|active| !is_updater(active.slot) && active.entry.state == OtaState::Valid)
    };
    let confirmed = entries.into_iter().flatten().any(is_confirmed_application);
    let switch = otadata::switch_to_slot(&entries, UPDATER_OTA_NUMBER, ota_count, OtaState::Valid)
        .ok_or(HandOverFault::NoEntry { slot: SlotIndex(UPDATER_OTA_NUMBER) })?;
    replace(flash, otadata, switch)?;
    Ok(if confirmed { Found::ApplicationConfirmedItself } else { Found::Usual })
}

fn is_updater(ota_number: u8) -> bool {
    ota_number == UPDATER_OTA_NUMBER
}

fn entries<F: ReadNorFlash>(flash: &mut F, otadata: Region) -> Result<OtaEntries, HandOverFault> {
    let mut entries = [None; OTA_ENTRY_OFFSETS.len()];
    for (entry, offset) in entries.iter_mut().zip(OTA_ENTRY_OFFSETS) {
        *entry = OtaEntry::parse(&record_at(flash, otadata.offset + offset)?);
    }
    Ok(entries)
}

/// Writes one copy as ESP-IDF does: its sector is erased, then the copy is written.
fn replace<F: NorFlash>(flash: &mut F, otadata: Region, switch: Switch) -> Result<(), HandOverFault> {
    let address = otadata.offset + OTA_ENTRY_OFFSETS[switch.copy];
    let record = switch.entry.emit();
    erase(flash, Region { offset: address, size_bytes: SECTOR_BYTES })
        .and_then(|()| write(flash, address, &record))
        .map_err(HandOverFault::Flash)?;
    if record_at(flash, address)? != record {
        return Err(HandOverFault::NotWritten { address });
    }
    Ok(())
}

fn record_at<F: ReadNorFlash>(flash: &mut F, address: u32) -> Result<[u8; OTA_ENTRY_BYTES], HandOverFault> {
    let mut record = [0; OTA_ENTRY_BYTES];
    read(flash, address, &mut record).map_err(HandOverFault::Flash)?;
    Ok(record)
}
