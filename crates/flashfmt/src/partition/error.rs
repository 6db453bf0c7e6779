//! Why a partition table is refused.

use super::{
    ENTRY_BYTES, FIRST_PARTITION_OFFSET, LABEL_BYTES, Label, MAX_PARTITIONS, PartitionKind, TABLE_BYTES,
};

/// Why a text is no label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LabelError {
    /// No text.
    #[error("a partition needs a label")]
    Empty,
    /// More bytes than the field has.
    #[error("a label has at most {LABEL_BYTES} bytes, found {found_bytes}")]
    TooLong {
        /// Bytes given.
        found_bytes: usize,
    },
    /// A NUL, which ends a label on flash.
    #[error("a label must not contain NUL")]
    Nul,
}

/// Why a partition table is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PartitionError {
    /// The bytes end before the table does.
    #[error(
        "partition table is cut off: no end mark in {found_bytes} bytes; read {TABLE_BYTES} bytes at its offset"
    )]
    Truncated {
        /// Bytes given.
        found_bytes: usize,
    },
    /// Erased flash where the table should be.
    #[error("no partition table: the flash is erased there; flash a table")]
    Erased,
    /// A table without partitions.
    #[error("the partition table has no partitions")]
    Empty,
    /// An entry that begins with neither magic.
    #[error(
        "partition table entry {index} begins with {found:02x?}, expected [aa, 50], or [eb, eb] for the MD5"
    )]
    BadMagic {
        /// Which entry, from 0.
        index: usize,
        /// Its first bytes.
        found: [u8; 2],
    },
    /// A table that ends without MD5 entry.
    #[error("partition table has no MD5 entry; generate it without --disable-md5sum")]
    NoMd5,
    /// Changed entries.
    #[error("partition table MD5 is {found:02x?}, its entries give {expected:02x?}")]
    Md5Mismatch {
        /// Computed from the entries.
        expected: [u8; 16],
        /// Stored in the table.
        found: [u8; 16],
    },
    /// Something else after the MD5 entry.
    #[error("partition table entry {index} should be the end mark, {ENTRY_BYTES} bytes of 0xFF")]
    NoEndMark {
        /// Which entry, from 0.
        index: usize,
    },
    /// More partitions than fit.
    #[error("{found} partitions, at most {MAX_PARTITIONS} fit a table")]
    TooMany {
        /// Partitions given.
        found: usize,
    },
    /// A label that is not UTF-8.
    #[error("label of partition table entry {index} is not UTF-8")]
    LabelNotUtf8 {
        /// Which entry, from 0.
        index: usize,
    },
    /// Two partitions with one label.
    #[error("two partitions are labelled `{label}`")]
    DuplicateLabel {
        /// The label.
        label: Label,
    },
    /// Two partitions of a kind there may be one of.
    #[error("`{first}` and `{second}` are both `{kind}`; there may be one")]
    DuplicateKind {
        /// The kind.
        kind: PartitionKind,
        /// The earlier one.
        first: Label,
        /// The later one.
        second: Label,
    },
    /// An offset between alignment bounds.
    #[error("`{label}` is at {offset:#x}, which is no multiple of {alignment_bytes:#x}")]
    MisalignedOffset {
        /// Whose.
        label: Label,
        /// Its offset.
        offset: u32,
        /// What it must be a multiple of.
        alignment_bytes: u32,
    },
    /// A size of zero or off its unit.
    #[error("`{label}` has {size:#x} bytes, expected a multiple of {alignment_bytes:#x} above 0")]
    BadSize {
        /// Whose.
        label: Label,
        /// Its size in bytes.
        size: u32,
        /// What it must be a multiple of.
        alignment_bytes: u32,
    },
    /// An end beyond 4 GiB.
    #[error("`{label}` at {offset:#x} with {size:#x} bytes ends beyond 4 GiB")]
    AddressOverflow {
        /// Whose.
        label: Label,
        /// Its offset.
        offset: u32,
        /// Its size in bytes.
        size: u32,
    },
    /// A partition over the bootloader or the table.
    #[error("`{label}` is at {offset:#x}, expected {FIRST_PARTITION_OFFSET:#x} or above, after the table")]
    OverTable {
        /// Whose.
        label: Label,
        /// Its offset.
        offset: u32,
    },
    /// An otadata partition of the wrong size.
    #[error("otadata `{label}` has {size:#x} bytes, expected {:#x}", crate::otadata::OTADATA_BYTES)]
    OtadataSize {
        /// Whose.
        label: Label,
        /// Its size in bytes.
        size: u32,
    },
    /// Two partitions share bytes.
    #[error("`{first}` and `{second}` overlap")]
    Overlap {
        /// The earlier in the table.
        first: Label,
        /// The later in the table.
        second: Label,
    },
    /// A partition that does not fit the flash.
    #[error(
        "`{label}` ends at {end:#x}, the flash has {flash_bytes:#x} bytes; choose a layout for this size"
    )]
    BeyondFlash {
        /// Whose.
        label: Label,
        /// First offset after it.
        end: u32,
        /// Size of the flash.
        flash_bytes: u32,
    },
}
