//! otadata: which slot the second-stage bootloader starts.
//!
//! `esp_ota_select_entry_t` of ESP-IDF `bootloader_support/include/esp_flash_partitions.h`; the rules are those of
//! `bootloader_support/src/bootloader_utility.c` (`bootloader_utility_get_selected_boot_partition`),
//! `bootloader_support/src/bootloader_common.c` and `app_update/esp_ota_ops.c`, all v5.x. The partition is two
//! sectors; each begins with one 32-byte copy. A writer replaces the copy that is not active, so a torn write
//! leaves the other one in force.

use crc::{Algorithm, Crc};

use crate::SECTOR_BYTES;
use crate::bytes::{array_at, put, u32_at};

/// Size of one entry.
pub const OTA_ENTRY_BYTES: usize = 32;

/// Size of an otadata partition: two sectors.
pub const OTADATA_BYTES: u32 = 2 * SECTOR_BYTES;

/// Offsets of the two copies in the partition.
pub const OTA_ENTRY_OFFSETS: [u32; 2] = [0, SECTOR_BYTES];

/// The sequence number of erased flash.
const ERASED_SEQ: u32 = u32::MAX;

/// `esp_rom_crc32_le(UINT32_MAX, ...)`: the ROM inverts the seed, so the register starts at zero, unlike in the
/// usual CRC-32.
const OTA_CRC: Crc<u32> = Crc::<u32>::new(&Algorithm {
    width: 32,
    poly: 0x04C1_1DB7,
    init: 0,
    refin: true,
    refout: true,
    xorout: u32::MAX,
    check: 0xD202_D277,
    residue: 0xDEBB_20E3,
});

/// `esp_ota_img_states_t`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OtaState {
    /// Written, not yet started.
    New,
    /// Started once; goes to [`OtaState::Aborted`] when the next boot finds it unconfirmed.
    PendingVerify,
    /// Confirmed.
    Valid,
    /// Refused by the application itself.
    Invalid,
    /// Did not confirm before the next boot.
    Aborted,
    /// No state kept: rollback is off in the build that wrote it.
    Undefined,
    /// A number ESP-IDF does not define. Bootable, as ESP-IDF treats it.
    Other(u32),
}

impl OtaState {
    /// The state with this number. Every number has one.
    pub const fn from_raw(raw: u32) -> Self {
        match raw {
            0 => OtaState::New,
            1 => OtaState::PendingVerify,
            2 => OtaState::Valid,
            3 => OtaState::Invalid,
            4 => OtaState::Aborted,
            u32::MAX => OtaState::Undefined,
            other => OtaState::Other(other),
        }
    }

    /// Its number on flash.
    pub const fn raw(self) -> u32 {
        match self {
            OtaState::New => 0,
            OtaState::PendingVerify => 1,
            OtaState::Valid => 2,
            OtaState::Invalid => 3,
            OtaState::Aborted => 4,
            OtaState::Undefined => u32::MAX,
            OtaState::Other(other) => other,
        }
    }

    /// Whether an entry in this state can be selected.
    pub const fn is_bootable(self) -> bool {
        match self {
            OtaState::Invalid | OtaState::Aborted => false,
            OtaState::New
            | OtaState::PendingVerify
            | OtaState::Valid
            | OtaState::Undefined
            | OtaState::Other(_) => true,
        }
    }
}

/// One copy of the selection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OtaEntry {
    /// Sequence number; the slot is `(seq - 1) % ota_count`.
    pub seq: u32,
    /// Progress of the application in that slot.
    pub state: OtaState,
    label: [u8; 20],
    crc: u32,
}

impl OtaEntry {
    /// An entry with the right CRC. The CRC covers the sequence number only, so the state may change later.
    pub fn new(seq: u32, state: OtaState) -> Self {
        Self { seq, state, label: [0xFF; 20], crc: crc_of(seq) }
    }

    /// Reads one copy; `None` when its sequence number is that of erased flash.
    pub fn parse(record: &[u8; OTA_ENTRY_BYTES]) -> Option<Self> {
        let seq = u32_at(record, 0);
        (seq != ERASED_SEQ).then(|| Self {
            seq,
            state: OtaState::from_raw(u32_at(record, 24)),
            label: array_at(record, 4),
            crc: u32_at(record, 28),
        })
    }

    /// The 32 bytes as they stand on flash, with the CRC it was read with.
    pub fn emit(&self) -> [u8; OTA_ENTRY_BYTES] {
        let mut record = [0xFF; OTA_ENTRY_BYTES];
        put(&mut record, 0, self.seq.to_le_bytes());
        put(&mut record, 4, self.label);
        put(&mut record, 24, self.state.raw().to_le_bytes());
        put(&mut record, 28, self.crc.to_le_bytes());
        record
    }

    /// Whether the CRC is that of the sequence number; false for a torn write.
    pub fn crc_ok(&self) -> bool {
        self.crc == crc_of(self.seq)
    }

    /// Whether the bootloader may select it (`bootloader_common_ota_select_valid`).
    pub fn is_valid(&self) -> bool {
        self.seq != ERASED_SEQ && self.state.is_bootable() && self.crc_ok()
    }
}

/// Both copies; `None` for one that is erased or could not be read.
pub type OtaEntries = [Option<OtaEntry>; 2];

/// Reads both copies from the bytes of an otadata partition. A copy that is out of reach counts as erased.
pub fn parse(partition: &[u8]) -> OtaEntries {
    OTA_ENTRY_OFFSETS.map(|offset| {
        let copy = partition.get(offset as usize..)?;
        OtaEntry::parse(copy.first_chunk()?)
    })
}

/// The copy in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Active {
    /// Which copy: 0 or 1.
    pub copy: usize,
    /// The copy itself.
    pub entry: OtaEntry,
    /// The slot it selects: 0 for `ota_0`.
    pub slot: u8,
}

/// The copy in force and its slot: the valid one, of two valid ones the higher sequence number, at a tie copy 0.
///
/// `None` when no copy is valid or `ota_count` is 0: the bootloader then starts `factory`, or `ota_0` where there
/// is no factory.
pub fn select(entries: &OtaEntries, ota_count: u8) -> Option<Active> {
    let (copy, entry) = active_copy(entries)?;
    let slot = entry.seq.wrapping_sub(1).checked_rem(u32::from(ota_count))?;
    Some(Active { copy, entry, slot: u8::try_from(slot).ok()? })
}

fn active_copy(entries: &OtaEntries) -> Option<(usize, OtaEntry)> {
    let valid = entries.map(|entry| entry.filter(OtaEntry::is_valid));
    match valid {
        [Some(first), Some(second)] if second.seq > first.seq => Some((1, second)),
        [Some(first), Some(_) | None] => Some((0, first)),
        [None, Some(second)] => Some((1, second)),
        [None, None] => None,
    }
}

/// What a rollback-enabled bootloader does with otadata at one boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BootStep {
    /// Both copies as the boot leaves them.
    pub entries: OtaEntries,
    /// Which copies the bootloader rewrites.
    pub rewritten: [bool; 2],
    /// The selection, with the state it is started in.
    pub active: Option<Active>,
}

/// One boot of a bootloader built with `CONFIG_BOOTLOADER_APP_ROLLBACK_ENABLE`.
///
/// First every PENDING_VERIFY copy becomes ABORTED; then a copy is selected; a NEW one becomes PENDING_VERIFY.
pub fn on_boot(mut entries: OtaEntries, ota_count: u8) -> BootStep {
    let before = entries;
    for entry in entries.iter_mut().flatten() {
        if entry.state == OtaState::PendingVerify {
            entry.state = OtaState::Aborted;
        }
    }
    let mut active = select(&entries, ota_count);
    if let Some(chosen) = active.as_mut().filter(|chosen| chosen.entry.state == OtaState::New) {
        chosen.entry.state = OtaState::PendingVerify;
        entries[chosen.copy] = Some(chosen.entry);
    }
    let rewritten = [before[0] != entries[0], before[1] != entries[1]];
    BootStep { entries, rewritten, active }
}

/// The lowest sequence number that selects `slot` and outranks the copy in force.
///
/// `None` when there is no such slot or the numbers are used up. Off-spec: `esp_rewrite_ota_data` may reuse the
/// number in force when the slot is the active one; then copy 0 would win the tie whatever was written to copy 1.
pub fn next_seq_for_slot(entries: &OtaEntries, slot: u8, ota_count: u8) -> Option<u32> {
    if slot >= ota_count {
        return None;
    }
    let floor = active_copy(entries).map_or(0, |(_, entry)| entry.seq);
    // The numbers that select `slot` are slot + 1, slot + 1 + count, ...
    let (first, count) = (u32::from(slot) + 1, u32::from(ota_count));
    let steps = if floor < first { 0 } else { (floor - first) / count + 1 };
    first.checked_add(steps.checked_mul(count)?).filter(|seq| *seq != ERASED_SEQ)
}

/// A selection to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Switch {
    /// The copy to replace: never the one in force.
    pub copy: usize,
    /// What to write there.
    pub entry: OtaEntry,
}

/// What to write so that the next boot selects `slot`. `None` as in [`next_seq_for_slot`].
pub fn switch_to_slot(entries: &OtaEntries, slot: u8, ota_count: u8, state: OtaState) -> Option<Switch> {
    let seq = next_seq_for_slot(entries, slot, ota_count)?;
    let copy = active_copy(entries).map_or(0, |(active, _)| 1 - active);
    Some(Switch { copy, entry: OtaEntry::new(seq, state) })
}

fn crc_of(seq: u32) -> u32 {
    OTA_CRC.checksum(&seq.to_le_bytes())
}

#[cfg(test)]
mod tests;
