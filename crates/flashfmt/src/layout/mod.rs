//! Partition layouts as CSV files, in ESP-IDF's format.
//!
//! Grammar and rules: ESP-IDF `partition_table/gen_esp32part.py` (v5.5), documented under "Partition Tables" in the
//! ESP-IDF programming guide.

mod adopt;
mod csv;
mod error;
mod places;

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write as _;
use core::str::FromStr;

pub use adopt::AdoptError;
pub use error::{LayoutError, LineError};
pub use places::{JOURNAL_LABEL, LayoutProblem, MIN_JOURNAL_BYTES, MIN_VAULT_BYTES, Places, VAULT_LABEL};

use crate::partition::{
    self, AppSubtype, DataSubtype, Partition, PartitionError, PartitionKind, PartitionTable, TABLE_BYTES,
};

/// Pitstop's own layouts: name and CSV text.
pub const BUILTIN: [(&str, &str); 4] = [
    ("4mb", include_str!("../../../../layouts/4mb.csv")),
    ("8mb", include_str!("../../../../layouts/8mb.csv")),
    ("16mb", include_str!("../../../../layouts/16mb.csv")),
    ("8mb-rollback", include_str!("../../../../layouts/8mb-rollback.csv")),
];

/// A checked layout: what a partition table holds, as a plain value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    partitions: Vec<Partition>,
    binary: Vec<u8>,
}

impl Layout {
    /// A layout of these partitions, in this order.
    pub fn new(partitions: Vec<Partition>) -> Result<Self, PartitionError> {
        let mut binary = [0; TABLE_BYTES];
        partition::emit(&partitions, &mut binary)?;
        Ok(Self { partitions, binary: binary.to_vec() })
    }

    /// Reads a CSV file.
    ///
    /// Columns: name, type, subtype, offset (may be empty: the next fitting one), size (with `K`, `M`, or negative:
    /// up to that address), flags (`encrypted`, `readonly`, joined by `:`). Lines that begin with `#` are comments, and so is
    /// what stands behind the sixth column. Lines end in LF, CR LF or CR.
    ///
    /// Off-spec: environment variables are not expanded; names longer than 16 bytes are refused rather than cut off.
    pub fn parse_csv(text: &str) -> Result<Self, LayoutError> {
        Ok(Self::new(csv::parse(text)?)?)
    }

    /// The layout in [`BUILTIN`] with this name, or `None`. The built-in ones all parse, as a test shows.
    pub fn builtin(name: &str) -> Option<Self> {
        let (_, text) = BUILTIN.into_iter().find(|(known, _)| *known == name)?;
        Self::parse_csv(text).ok()
    }

    /// The binary partition table, 0xC00 bytes: what stands at offset 0x8000 of the flash.
    pub fn to_binary(&self) -> Vec<u8> {
        self.binary.clone()
    }

    /// The layout as a CSV file with all offsets written out.
    pub fn to_csv(&self) -> String {
        let mut text = String::from("# Name, Type, SubType, Offset, Size, Flags\n");
        for Partition { label, kind, offset, size, encrypted, readonly } in &self.partitions {
            let flags = match (encrypted, readonly) {
                (false, false) => "",
                (true, false) => ", encrypted",
                (false, true) => ", readonly",
                (true, true) => ", encrypted:readonly",
            };
            // Writing to a String does not fail.
            let _ = writeln!(text, "{label}, {kind}, {offset:#x}, {size:#x}{flags}");
        }
        text
    }

    /// The partitions in the file's order.
    pub fn partitions(&self) -> &[Partition] {
        &self.partitions
    }

    /// First offset after the last partition: the least flash size it fits, in bytes.
    pub fn needed_flash_bytes(&self) -> u32 {
        self.partitions.iter().map(Partition::end).max().unwrap_or(0)
    }

    /// Whether every partition ends within `flash_bytes`.
    pub fn check_fits(&self, flash_bytes: u32) -> Result<(), PartitionError> {
        partition::check_fits(self.iter(), flash_bytes)
    }

    /// The partition with this label.
    pub fn find_label(&self, label: &str) -> Option<Partition> {
        partition::find_label(self.iter(), label)
    }

    /// The slots that hold applications, in order of their numbers; see [`PartitionTable::app_slots`].
    pub fn slots(&self) -> impl Iterator<Item = Partition> + '_ {
        partition::app_slots(self.iter())
    }

    /// The `factory` partition.
    pub fn factory(&self) -> Option<Partition> {
        partition::find_kind(self.iter(), PartitionKind::App(AppSubtype::Factory))
    }

    /// The otadata partition.
    pub fn otadata(&self) -> Option<Partition> {
        partition::find_kind(self.iter(), PartitionKind::Data(DataSubtype::Ota))
    }

    /// Whether this is the classic layout; see [`PartitionTable::hands_over_by_otadata`].
    pub fn hands_over_by_otadata(&self) -> bool {
        partition::hands_over_by_otadata(self.iter())
    }

    /// The updater's own partition: `factory`, or the first `ota_n` where there is none.
    pub fn updater(&self) -> Option<Partition> {
        self.factory().or_else(|| partition::ota_partitions(self.iter()).next())
    }

    fn iter(&self) -> impl Iterator<Item = Partition> + Clone + '_ {
        self.partitions.iter().copied()
    }
}

impl FromStr for Layout {
    type Err = LayoutError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse_csv(text)
    }
}

impl From<PartitionTable<'_>> for Layout {
    fn from(table: PartitionTable<'_>) -> Self {
        let mut binary = table.as_bytes().to_vec();
        binary.resize(TABLE_BYTES, 0xFF);
        Self { partitions: table.iter().collect(), binary }
    }
}
