//! Why a layout is refused.

use alloc::string::String;

use crate::partition::{LabelError, PartitionError};

/// Why a layout is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// One line cannot be read.
    #[error("line {line}: {error}")]
    Line {
        /// Which line, from 1.
        line: usize,
        /// What is wrong with it.
        #[source]
        error: LineError,
    },
    /// The lines can be read, but make no partition table.
    #[error(transparent)]
    Table(#[from] PartitionError),
}

/// What is wrong with one line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// The name is no label.
    #[error("name: {0}")]
    Label(#[from] LabelError),
    /// An unknown type.
    #[error("type is `{found}`, expected app, data, bootloader, partition_table or a number from 0 to 0xfe")]
    Type {
        /// The field.
        found: String,
    },
    /// A subtype the type does not have.
    #[error("subtype of `{type_}` is `{found}`, expected a name ESP-IDF knows or a number from 0 to 0xfe")]
    Subtype {
        /// The type field.
        type_: String,
        /// The field.
        found: String,
    },
    /// An offset that is no number.
    #[error(
        "offset is `{found}`, expected a number such as 0x10000 or 64K, or nothing for the next free place"
    )]
    Offset {
        /// The field.
        found: String,
    },
    /// A size that is no number.
    #[error("size is `{found}`, expected a number such as 0x100000 or 1M")]
    Size {
        /// The field.
        found: String,
    },
    /// An unknown flag.
    #[error("flag is `{found}`, expected encrypted or readonly, joined by `:`")]
    Flag {
        /// The flag.
        found: String,
    },
    /// More columns than the format has.
    #[error("a seventh column holds `{found}`, expected six: name, type, subtype, offset, size, flags")]
    ExtraColumn {
        /// The field.
        found: String,
    },
    /// An offset before the end of what stands above it.
    #[error(
        "offset is {found:#x}, expected {free_from:#x} or above, where the table or the line before ends"
    )]
    OffsetTooLow {
        /// The offset.
        found: u32,
        /// First free offset.
        free_from: u32,
    },
    /// A size up to an address before the partition's start.
    #[error("size is up to {end:#x}, but the partition begins at {offset:#x}")]
    EndTooLow {
        /// Where it should end.
        end: u32,
        /// Where it begins.
        offset: u32,
    },
    /// An end beyond 4 GiB.
    #[error("the partition ends beyond 4 GiB")]
    AddressOverflow,
}
