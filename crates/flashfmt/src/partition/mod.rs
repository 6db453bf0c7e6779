//! The binary partition table.
//!
//! Format and rules: ESP-IDF `partition_table/gen_esp32part.py` (v5.5) and
//! `bootloader_support/include/esp_flash_partitions.h`. A table is a row of 32-byte entries, an MD5 entry over
//! them, and an entry of 0xFF bytes as the end; it stands at offset 0x8000 of the flash.

mod error;
mod kind;

use core::fmt;

use md5::{Digest, Md5};

use crate::bytes::{array_at, put, u32_at};
use crate::text::Text;

pub use error::{LabelError, PartitionError};
pub use kind::{AppSubtype, DataSubtype, OtaIndex, PartitionKind};
#[cfg(feature = "alloc")]
pub(crate) use kind::{TYPE_BOOTLOADER, TYPE_NAMES, TYPE_PARTITION_TABLE};

/// Where the table stands in flash (`CONFIG_PARTITION_TABLE_OFFSET`, by default).
pub const TABLE_OFFSET: u32 = 0x8000;

/// Size of the binary table (`MAX_PARTITION_LENGTH`); the rest of its sector holds a signature, if any.
pub const TABLE_BYTES: usize = 0xC00;

/// First offset partitions may use: the table has a sector to itself.
pub const FIRST_PARTITION_OFFSET: u32 = TABLE_OFFSET + crate::SECTOR_BYTES;

/// Size of one entry.
pub const ENTRY_BYTES: usize = 32;

/// Most partitions a table holds: one entry is for the MD5, one for the end mark.
pub const MAX_PARTITIONS: usize = TABLE_BYTES / ENTRY_BYTES - 2;

/// Bytes in a label's field.
pub const LABEL_BYTES: usize = 16;

const ENTRY_MAGIC: [u8; 2] = [0xAA, 0x50];
const MD5_MAGIC: [u8; 16] = {
    let mut magic = [0xFF; 16];
    magic[0] = 0xEB;
    magic[1] = 0xEB;
    magic
};
const END_MARK: [u8; ENTRY_BYTES] = [0xFF; ENTRY_BYTES];

const FLAG_ENCRYPTED: u32 = 1 << 0;
const FLAG_READONLY: u32 = 1 << 1;

const _: () = assert!(TABLE_BYTES.is_multiple_of(ENTRY_BYTES) && TABLE_BYTES < crate::SECTOR_BYTES as usize);

/// A partition's name: at most 16 bytes of UTF-8.
///
/// 16 bytes fill the field with no NUL left, which ESP-IDF reads correctly (`esp_partition_t.label` has 17).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Label(Text<LABEL_BYTES>);

impl Label {
    /// A label of 1 to 16 bytes without NUL.
    pub fn new(text: &str) -> Result<Self, LabelError> {
        if text.is_empty() {
            return Err(LabelError::Empty);
        }
        if text.len() > LABEL_BYTES {
            return Err(LabelError::TooLong { found_bytes: text.len() });
        }
        if text.contains('\0') {
            return Err(LabelError::Nul);
        }
        Ok(Self(Text::truncated(text)))
    }

    /// The label's text.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Partition {
    /// Name, unique in its table.
    pub label: Label,
    /// Type and subtype.
    pub kind: PartitionKind,
    /// Where it begins in flash, in bytes.
    pub offset: u32,
    /// Its size in bytes.
    pub size: u32,
    /// Whether flash encryption covers it.
    pub encrypted: bool,
    /// Whether ESP-IDF refuses to write to it.
    pub readonly: bool,
}

impl Partition {
    /// First offset after the partition. Does not overflow in a checked table.
    pub const fn end(&self) -> u32 {
        self.offset.saturating_add(self.size)
    }

    /// The slot number, when this is a slot.
    pub const fn slot(&self) -> Option<OtaIndex> {
        match self.kind {
            PartitionKind::App(AppSubtype::Ota(index)) => Some(index),
            PartitionKind::App(_) | PartitionKind::Data(_) | PartitionKind::Custom { .. } => None,
        }
    }

    /// Reads an entry whose magic was checked. Bytes of the label that are not UTF-8 are for `check` to refuse.
    fn decode(entry: &[u8; ENTRY_BYTES]) -> Self {
        let flags = u32_at(entry, 28);
        Self {
            kind: PartitionKind::from_bytes(entry[2], entry[3]),
            offset: u32_at(entry, 4),
            size: u32_at(entry, 8),
            label: Label(Text::from_field(array_at(entry, 12))),
            encrypted: flags & FLAG_ENCRYPTED != 0,
            readonly: flags & FLAG_READONLY != 0,
        }
    }

    fn encode(&self) -> [u8; ENTRY_BYTES] {
        let (type_, subtype) = self.kind.to_bytes();
        let encrypted = if self.encrypted { FLAG_ENCRYPTED } else { 0 };
        let readonly = if self.readonly { FLAG_READONLY } else { 0 };
        let mut entry = [0; ENTRY_BYTES];
        put(&mut entry, 0, ENTRY_MAGIC);
        put(&mut entry, 2, [type_, subtype]);
        put(&mut entry, 4, self.offset.to_le_bytes());
        put(&mut entry, 8, self.size.to_le_bytes());
        put(&mut entry, 12, self.label.0.to_field());
        put(&mut entry, 28, (encrypted | readonly).to_le_bytes());
        entry
    }
}

/// A checked view over a binary partition table.
#[derive(Clone, Copy, Debug)]
pub struct PartitionTable<'a> {
    /// The partitions and, last, the MD5 entry.
    rows: &'a [[u8; ENTRY_BYTES]],
}

impl<'a> PartitionTable<'a> {
    /// Checks the table at the start of `bytes`, which may go on after it (0xC00 bytes are enough for any table).
    ///
    /// Checked: entry magic, MD5, end mark, labels (UTF-8, unique), alignment, overlap, sizes, and that no two
    /// partitions claim the same role. Whether it fits the flash is [`PartitionTable::check_fits`].
    ///
    /// Off-spec: ESP-IDF takes a table without MD5 and does not check for two `factory` or two `ota_0`; both are
    /// refused here.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, PartitionError> {
        let (rows, _) = bytes[..bytes.len().min(TABLE_BYTES)].as_chunks::<ENTRY_BYTES>();
        let mut count = 0;
        while rows.get(count).is_some_and(|row| row.starts_with(&ENTRY_MAGIC)) {
            count += 1;
        }
        let entries = &rows[..count];
        let found_bytes = bytes.len();
        let digest_row = rows.get(count).ok_or(PartitionError::Truncated { found_bytes })?;
        if count == 0 && *digest_row == END_MARK {
            return Err(PartitionError::Erased);
        }
        if *digest_row == END_MARK {
            return Err(PartitionError::NoMd5);
        }
        if !digest_row.starts_with(&MD5_MAGIC) {
            return Err(PartitionError::BadMagic { index: count, found: array_at(digest_row, 0) });
        }
        let (expected, found) = (md5_of(entries), array_at(digest_row, 16));
        if expected != found {
            return Err(PartitionError::Md5Mismatch { expected, found });
        }
        let end = rows.get(count + 1).ok_or(PartitionError::Truncated { found_bytes })?;
        if *end != END_MARK {
            return Err(PartitionError::NoEndMark { index: count + 1 });
        }
        let table = Self { rows: &rows[..=count] };
        check(table.iter())?;
        Ok(table)
    }

    /// The partitions in the table's order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Partition> + Clone + use<'a> {
        self.rows[..self.rows.len().saturating_sub(1)].iter().map(Partition::decode)
    }

    /// The bytes of the table: entries and MD5 entry, without the end mark.
    pub fn as_bytes(&self) -> &'a [u8] {
        self.rows.as_flattened()
    }

    /// Whether every partition ends within `flash_bytes`.
    pub fn check_fits(&self, flash_bytes: u32) -> Result<(), PartitionError> {
        check_fits(self.iter(), flash_bytes)
    }

    /// The partition with this label.
    pub fn find_label(&self, label: &str) -> Option<Partition> {
        find_label(self.iter(), label)
    }

    /// What the bootloader counts with: `ota_0`, `ota_1`, ... in order of their numbers.
    pub fn ota_partitions(&self) -> impl Iterator<Item = Partition> + use<'a> {
        ota_partitions(self.iter())
    }

    /// The slots that hold applications, in order of their numbers: all `ota_n` where the updater is in `factory`;
    /// without `factory` (the classic layout) the first one is the updater's.
    pub fn app_slots(&self) -> impl Iterator<Item = Partition> + use<'a> {
        app_slots(self.iter())
    }

    /// The `factory` partition.
    pub fn factory(&self) -> Option<Partition> {
        find_kind(self.iter(), PartitionKind::App(AppSubtype::Factory))
    }

    /// The otadata partition.
    pub fn otadata(&self) -> Option<Partition> {
        find_kind(self.iter(), PartitionKind::Data(DataSubtype::Ota))
    }

    /// Whether this is the classic layout, in which the bootloader starts applications by otadata: it has otadata,
    /// and no `factory` that the bootloader would fall back to.
    pub fn hands_over_by_otadata(&self) -> bool {
        hands_over_by_otadata(self.iter())
    }
}

/// Writes a table with its MD5 and end mark into `out`, after the checks of [`PartitionTable::parse`].
pub fn emit(partitions: &[Partition], out: &mut [u8; TABLE_BYTES]) -> Result<(), PartitionError> {
    if partitions.len() > MAX_PARTITIONS {
        return Err(PartitionError::TooMany { found: partitions.len() });
    }
    check(partitions.iter().copied())?;
    out.fill(0xFF);
    let (rows, _) = out.as_chunks_mut::<ENTRY_BYTES>();
    for (row, partition) in rows.iter_mut().zip(partitions) {
        *row = partition.encode();
    }
    let digest = md5_of(&rows[..partitions.len()]);
    let digest_row = &mut rows[partitions.len()];
    put(digest_row, 0, MD5_MAGIC);
    put(digest_row, 16, digest);
    Ok(())
}

fn md5_of(entries: &[[u8; ENTRY_BYTES]]) -> [u8; 16] {
    Md5::digest(entries.as_flattened()).into()
}

/// The rules between and within partitions, whatever their order.
///
/// `PartitionDefinition.verify` and `PartitionTable.verify` of `gen_esp32part.py`.
pub(crate) fn check(partitions: impl Iterator<Item = Partition> + Clone) -> Result<(), PartitionError> {
    if partitions.clone().next().is_none() {
        return Err(PartitionError::Empty);
    }
    for (index, partition) in partitions.clone().enumerate() {
        check_one(index, &partition)?;
        for earlier in partitions.clone().take(index) {
            check_two(&earlier, &partition)?;
        }
    }
    Ok(())
}

fn check_one(index: usize, partition: &Partition) -> Result<(), PartitionError> {
    let Partition { label, kind, offset, size, .. } = *partition;
    if !label.0.is_utf8() {
        return Err(PartitionError::LabelNotUtf8 { index });
    }
    let alignment_bytes = kind.offset_alignment_bytes();
    if !offset.is_multiple_of(alignment_bytes) {
        return Err(PartitionError::MisalignedOffset { label, offset, alignment_bytes });
    }
    let alignment_bytes = kind.size_alignment_bytes();
    if size == 0 || !size.is_multiple_of(alignment_bytes) {
        return Err(PartitionError::BadSize { label, size, alignment_bytes });
    }
    if offset.checked_add(size).is_none() {
        return Err(PartitionError::AddressOverflow { label, offset, size });
    }
    if offset < FIRST_PARTITION_OFFSET && !kind.may_precede_table() {
        return Err(PartitionError::OverTable { label, offset });
    }
    let is_otadata = kind == PartitionKind::Data(DataSubtype::Ota);
    if is_otadata && size != crate::otadata::OTADATA_BYTES {
        return Err(PartitionError::OtadataSize { label, size });
    }
    Ok(())
}

fn check_two(earlier: &Partition, later: &Partition) -> Result<(), PartitionError> {
    if earlier.label == later.label {
        return Err(PartitionError::DuplicateLabel { label: later.label });
    }
    if earlier.kind == later.kind && later.kind.is_unique() {
        let (first, second) = (earlier.label, later.label);
        return Err(PartitionError::DuplicateKind { kind: later.kind, first, second });
    }
    if earlier.offset < later.end() && later.offset < earlier.end() {
        return Err(PartitionError::Overlap { first: earlier.label, second: later.label });
    }
    Ok(())
}

pub(crate) fn check_fits(
    mut partitions: impl Iterator<Item = Partition>,
    flash_bytes: u32,
) -> Result<(), PartitionError> {
    match partitions.find(|partition| partition.end() > flash_bytes) {
        None => Ok(()),
        Some(partition) => {
            Err(PartitionError::BeyondFlash { label: partition.label, end: partition.end(), flash_bytes })
        }
    }
}

pub(crate) fn find_label(mut partitions: impl Iterator<Item = Partition>, label: &str) -> Option<Partition> {
    partitions.find(|partition| partition.label.as_str() == label)
}

pub(crate) fn find_kind(
    mut partitions: impl Iterator<Item = Partition>,
    kind: PartitionKind,
) -> Option<Partition> {
    partitions.find(|partition| partition.kind == kind)
}

pub(crate) fn app_slots<'a>(
    partitions: impl Iterator<Item = Partition> + Clone + 'a,
) -> impl Iterator<Item = Partition> + 'a {
    let has_factory = find_kind(partitions.clone(), PartitionKind::App(AppSubtype::Factory)).is_some();
    ota_partitions(partitions).skip(usize::from(!has_factory))
}

pub(crate) fn hands_over_by_otadata(partitions: impl Iterator<Item = Partition> + Clone) -> bool {
    find_kind(partitions.clone(), PartitionKind::Data(DataSubtype::Ota)).is_some()
        && find_kind(partitions, PartitionKind::App(AppSubtype::Factory)).is_none()
}

pub(crate) fn ota_partitions(
    partitions: impl Iterator<Item = Partition> + Clone,
) -> impl Iterator<Item = Partition> {
    (0..OtaIndex::COUNT)
        .filter_map(OtaIndex::new)
        .filter_map(move |index| find_kind(partitions.clone(), PartitionKind::App(AppSubtype::Ota(index))))
}
