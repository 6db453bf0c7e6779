//! Why a layout is refused.

use alloc::string::String;

use crate::partition::{LabelError, PartitionError, PartitionKind};

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
    #[error("subtype of `{type_}` is `{found}`, expected a name ESP-IDF knows or a number from 0 to 0xff")]
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
    /// An NVS partition that cannot be written to.
    #[error(
        "an NVS partition has {found:#x} bytes, expected 0x3000 or more: nvs_flash_init would fail; or flag it readonly"
    )]
    NvsTooSmall {
        /// Its size.
        found: u32,
    },
    /// A partition that somebody has to write to.
    #[error(
        "a partition `{kind}` is flagged readonly, expected one that can be written to; take the flag away"
    )]
    Readonly {
        /// Its type and subtype.
        kind: PartitionKind,
    },
    /// Boot selection of a TEE.
    #[error("a partition `data, tee_ota` has {found:#x} bytes, expected 0x2000")]
    TeeOtaSize {
        /// Its size.
        found: u32,
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
