//! The journal: a small append-only ring in flash for crash counters, and for what the vault must not be alone with.
//!
//! Entries of 32 bytes are appended one after the other; each holds everything, so that the newest valid one is
//! all there is to know. When a sector is full, the next one is erased: never the one with the newest entry.
//! Whatever a power cut leaves behind, the newest entry is then the one before the cut or the one being written.
//!
//! Wear: two sectors take 2 x 128 entries per erasure of both. At 100,000 erasures of a sector, which SPI flash
//! endures, that is 25 million entries.

use embedded_storage::nor_flash::NorFlash;
use esp_nvs::platform::software_crc32;

use updater::limits;

use crate::region::{Region, SECTOR_BYTES};

/// The smallest journal, in sectors: one to keep while the other is erased.
pub const MIN_SECTORS: u32 = 2;

/// Length of an entry in flash, in bytes.
const ENTRY_BYTES: u32 = 32;

/// Says what an entry is ("PJ") and in which version of the format (1).
const MAGIC: [u8; 4] = *b"PJ\x01\x00";

/// Length of what the checksum covers.
const CHECKED_BYTES: usize = 28;

const _: () = assert!(SECTOR_BYTES.is_multiple_of(ENTRY_BYTES), "an entry lies in one sector");
const _: () = assert!(CHECKED_BYTES + size_of::<u32>() == ENTRY_BYTES as usize);

type RawEntry = [u8; ENTRY_BYTES as usize];

/// What the journal says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// Critical errors so far.
    pub critical_errors: u32,
    /// Code of the last critical error; 0 for none.
    pub last_critical_code: u16,
    /// Starts in a row that may hide a crash of the updater.
    pub crashes: u16,
    /// What the last start found damaged in the vault that looked, below how many in a row have found something; 0 for
    /// nothing. See [`crate::vault`].
    pub vault_damage: u32,
    /// Under which number nothing is installed when the vault has lost what it knows of it.
    pub sequence_floor: SequenceFloor,
}

/// A sequence number, and which settings it is for: a device that is given another product or other publisher keys begins
/// anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SequenceFloor {
    /// Stands for the product and its publisher keys.
    pub settings: u32,
    /// The number; those that do not fit stay at the end.
    pub sequence: u32,
}

/// Why the journal could not be read or written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JournalError {
    /// Flash: an operation failed.
    #[error("the flash failed under the journal")]
    Flash,
    /// Flash: what was written does not read back. The entry before it is still valid.
    #[error("an entry of the journal does not read back; the flash may be worn out")]
    NotWritten,
    /// Layout: the region cannot be a journal.
    #[error(
        "expected a journal of at least {} sectors of 4 KiB inside the flash, found {size_bytes} bytes at {offset:#x}; correct the partition table",
        MIN_SECTORS
    )]
    Region {
        /// Where it starts.
        offset: u32,
        /// How long it is.
        size_bytes: u32,
    },
    /// Layout: this flash writes or reads in units that an entry is not made of.
    #[error("expected a flash with read and write units that divide 32 bytes")]
    Units,
}

/// A journal whose newest entry is known. It does not borrow the flash; give it the same flash each time.
#[derive(Clone, Debug)]
pub struct Journal {
    region: Region,
    newest: Option<Newest>,
}

#[derive(Clone, Copy, Debug)]
struct Newest {
    /// Place in flash.
    address: u32,
    /// Number of the entry. It takes 4 billion entries to wrap, more than the flash endures.
    sequence: u32,
    entry: Entry,
}

impl Journal {
    /// Looks for the newest valid entry. It reads the whole region, 32 bytes at a time, and writes nothing.
    ///
    /// # Errors
    /// [`JournalError::Region`], [`JournalError::Units`] and [`JournalError::Flash`]. Damaged entries are no error.
    pub fn open<F: NorFlash>(flash: &mut F, region: Region) -> Result<Self, JournalError> {
        if !region.is_usable(MIN_SECTORS, flash.capacity()) {
            return Err(JournalError::Region { offset: region.offset, size_bytes: region.size_bytes });
        }
        let divides = |unit: usize, bytes: u32| unit > 0 && (bytes as usize).is_multiple_of(unit);
        let units_fit = divides(F::READ_SIZE, ENTRY_BYTES)
            && divides(F::WRITE_SIZE, ENTRY_BYTES)
            && divides(F::ERASE_SIZE, SECTOR_BYTES);
        if !units_fit {
            return Err(JournalError::Units);
        }
        let mut newest: Option<Newest> = None;
        for index in 0..region.size_bytes / ENTRY_BYTES {
            let address = region.offset + index * ENTRY_BYTES;
            if let Some((sequence, entry)) = parse(&read(flash, address)?)
                && newest.is_none_or(|newest| sequence > newest.sequence)
            {
                newest = Some(Newest { address, sequence, entry });
            }
        }
        Ok(Self { region, newest })
    }

    /// The newest entry; nothing in a new journal.
    #[must_use]
    pub fn latest(&self) -> Option<Entry> {
        self.newest.map(|newest| newest.entry)
    }

    /// Appends an entry: one write, and an erasure before it when a sector is full.
    ///
    /// # Errors
    /// [`JournalError::Flash`] and [`JournalError::NotWritten`]; the newest entry is then the one before.
    pub fn append<F: NorFlash>(&mut self, flash: &mut F, entry: Entry) -> Result<(), JournalError> {
        let sequence = self.newest.map_or(0, |newest| newest.sequence.wrapping_add(1));
        let address = match self.free_place(flash)? {
            Some(address) => address,
            None => {
                let sector = self.next_sector();
                flash.erase(sector, sector + SECTOR_BYTES).map_err(|_| JournalError::Flash)?;
                sector
            }
        };
        let raw = emit(sequence, entry);
        flash.write(address, &raw).map_err(|_| JournalError::Flash)?;
        if read(flash, address)? != raw {
            return Err(JournalError::NotWritten);
        }
        self.newest = Some(Newest { address, sequence, entry });
        Ok(())
    }

    /// The first blank place behind the newest entry in its sector. A place that a torn write has touched is not
    /// blank: writing there again could only clear bits.
    fn free_place<F: NorFlash>(&self, flash: &mut F) -> Result<Option<u32>, JournalError> {
        let (first, end) = match self.newest {
            Some(Newest { address, .. }) => (address + ENTRY_BYTES, self.sector_of(address) + SECTOR_BYTES),
            None => (self.region.offset, self.region.offset + SECTOR_BYTES),
        };
        for address in (first..end).step_by(ENTRY_BYTES as usize) {
            if is_blank(&read(flash, address)?) {
                return Ok(Some(address));
            }
        }
        Ok(None)
    }

    /// The sector to erase: the one behind the newest entry's, around the end. With two sectors or more it is
    /// another one.
    fn next_sector(&self) -> u32 {
        let end = self.region.offset + self.region.size_bytes;
        match self.newest {
            Some(Newest { address, .. }) if self.sector_of(address) + SECTOR_BYTES < end => {
                self.sector_of(address) + SECTOR_BYTES
            }
            Some(_) | None => self.region.offset,
        }
    }

    /// Regions start at the start of a sector.
    fn sector_of(&self, address: u32) -> u32 {
        address - address % SECTOR_BYTES
    }
}

/// Counts a start that may hide a crash of the updater; returns how many there were in a row.
///
/// # Errors
/// As [`Journal::open`] and [`Journal::append`].
pub fn count_crash<F: NorFlash>(flash: &mut F, region: Region) -> Result<u32, JournalError> {
    let mut journal = Journal::open(flash, region)?;
    let last = journal.latest().unwrap_or_default();
    // What is done about them goes in circles, which go on.
    let crashes = last.crashes.checked_add(1).unwrap_or(limits::CRASHES.into());
    journal.append(flash, Entry { crashes, ..last })?;
    Ok(crashes.into())
}

/// Says how many crashes were counted. Writes nothing when the journal says so already.
///
/// # Errors
/// As [`Journal::open`] and [`Journal::append`].
pub fn set_crashes<F: NorFlash>(flash: &mut F, region: Region, crashes: u32) -> Result<(), JournalError> {
    let mut journal = Journal::open(flash, region)?;
    let last = journal.latest().unwrap_or_default();
    let crashes = u16::try_from(crashes).unwrap_or(u16::MAX);
    if last.crashes == crashes { Ok(()) } else { journal.append(flash, Entry { crashes, ..last }) }
}

/// Says what is damaged in the vault. Writes nothing when the journal says so already.
///
/// # Errors
/// As [`Journal::open`] and [`Journal::append`].
pub fn set_vault_damage<F: NorFlash>(
    flash: &mut F,
    region: Region,
    vault_damage: u32,
) -> Result<(), JournalError> {
    let mut journal = Journal::open(flash, region)?;
    let last = journal.latest().unwrap_or_default();
    if last.vault_damage == vault_damage {
        Ok(())
    } else {
        journal.append(flash, Entry { vault_damage, ..last })
    }
}

fn read<F: NorFlash>(flash: &mut F, address: u32) -> Result<RawEntry, JournalError> {
    let mut raw = [0; ENTRY_BYTES as usize];
    flash.read(address, &mut raw).map_err(|_| JournalError::Flash)?;
    Ok(raw)
}

fn is_blank(raw: &RawEntry) -> bool {
    raw.iter().all(|byte| *byte == 0xff)
}

/// ```text
///  0 magic              4 sequence u32      8 floor's settings u32   12 critical_errors u32
/// 16 last_critical_code u16    18 crashes u16    20 vault_damage u32    24 floor's sequence u32
/// 28 CRC-32 of bytes 0 to 27
/// ```
/// Numbers are little-endian.
fn emit(sequence: u32, entry: Entry) -> RawEntry {
    let Entry { critical_errors, last_critical_code, crashes, vault_damage, sequence_floor } = entry;
    let mut raw = [0; ENTRY_BYTES as usize];
    raw[..4].copy_from_slice(&MAGIC);
    raw[4..8].copy_from_slice(&sequence.to_le_bytes());
    raw[8..12].copy_from_slice(&sequence_floor.settings.to_le_bytes());
    raw[12..16].copy_from_slice(&critical_errors.to_le_bytes());
    raw[16..18].copy_from_slice(&last_critical_code.to_le_bytes());
    raw[18..20].copy_from_slice(&crashes.to_le_bytes());
    raw[20..24].copy_from_slice(&vault_damage.to_le_bytes());
    raw[24..28].copy_from_slice(&sequence_floor.sequence.to_le_bytes());
    let checksum = software_crc32(0, &raw[..CHECKED_BYTES]);
    raw[CHECKED_BYTES..].copy_from_slice(&checksum.to_le_bytes());
    raw
}

/// Number and content of an entry that is whole; nothing otherwise.
fn parse(raw: &RawEntry) -> Option<(u32, Entry)> {
    let u32_at = |offset: usize| raw[offset..].first_chunk().copied().map(u32::from_le_bytes);
    let u16_at = |offset: usize| raw[offset..].first_chunk().copied().map(u16::from_le_bytes);
    if !raw.starts_with(&MAGIC) || u32_at(CHECKED_BYTES)? != software_crc32(0, &raw[..CHECKED_BYTES]) {
        return None;
    }
    let entry = Entry {
        critical_errors: u32_at(12)?,
        last_critical_code: u16_at(16)?,
        crashes: u16_at(18)?,
        vault_damage: u32_at(20)?,
        sequence_floor: SequenceFloor { settings: u32_at(8)?, sequence: u32_at(24)? },
    };
    Some((u32_at(4)?, entry))
}
