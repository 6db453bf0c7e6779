//! `--partition LABEL=FILE`: what goes into a data partition.

use std::path::PathBuf;

use flashfmt::{Layout, PartitionKind};

use super::plan::{ERASED, Part};
use crate::failure::Failure;
use crate::layouts::{JOURNAL_LABEL, VAULT_LABEL};

/// The first type of partition that is the user's own (`esp_partition.h`); those below are ESP-IDF's.
const FIRST_OWN_TYPE: u8 = 0x40;

/// A data partition, and the file for it.
#[derive(Debug, Clone)]
pub(crate) struct DataFile {
    label: String,
    path: PathBuf,
}

/// Why a file cannot go into a data partition.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DataError {
    /// The file cannot be read.
    #[error("the data for `{label}` in {} cannot be read: {source}", .path.display())]
    Io {
        /// For which partition.
        label: String,
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The layout has none of this name.
    #[error("expected a data partition of the layout ({known}), found {label}")]
    Unknown {
        /// What was asked for.
        label: String,
        /// Those that there are.
        known: String,
    },
    /// More than the partition holds.
    #[error("expected at most {limit_bytes} bytes for `{label}`, found {found_bytes} bytes in {}", .path.display())]
    TooLarge {
        /// Which partition.
        label: String,
        /// Its size.
        limit_bytes: u32,
        /// Which file.
        path: PathBuf,
        /// Its length.
        found_bytes: u64,
    },
    /// Nothing in it.
    #[error("expected data for `{label}`, found an empty file: {}", .path.display())]
    Empty {
        /// Which partition.
        label: String,
        /// Which file.
        path: PathBuf,
    },
}

impl DataFile {
    /// `LABEL=FILE`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((label, path)) if !label.is_empty() && !path.is_empty() => {
                Ok(Self { label: label.to_owned(), path: path.into() })
            }
            Some(_) | None => {
                Err("expected the partition's name and a file, such as spiffs=fs.bin".to_owned())
            }
        }
    }

    /// The whole partition: the file, and erased flash behind it, so that nothing of what was there before is left.
    ///
    /// # Errors
    /// [`DataError`]
    pub(crate) fn part(&self, layout: &Layout) -> Result<Part, DataError> {
        let (label, path) = (self.label.clone(), self.path.clone());
        let of_data = || layout.partitions().iter().filter(|partition| is_of_data(partition));
        let Some(partition) = of_data().find(|partition| partition.label.as_str() == label) else {
            let known: Vec<_> = of_data().map(|partition| partition.label.to_string()).collect();
            return Err(DataError::Unknown { label, known: known.join(", ") });
        };
        let failed = |source| DataError::Io { label: self.label.clone(), path: self.path.clone(), source };
        let (limit_bytes, found_bytes) = (partition.size, std::fs::metadata(&path).map_err(failed)?.len());
        if found_bytes > u64::from(limit_bytes) {
            return Err(DataError::TooLarge { label, limit_bytes, path, found_bytes });
        }
        let mut bytes = std::fs::read(&path).map_err(failed)?;
        if bytes.is_empty() {
            return Err(DataError::Empty { label, path });
        }
        bytes.resize(limit_bytes as usize, ERASED);
        Ok(Part { name: label, offset: partition.offset, bytes })
    }
}

/// Whether a partition is the application's data: of ours nothing is given, and code has options of its own.
pub(crate) fn is_of_data(partition: &flashfmt::Partition) -> bool {
    use flashfmt::partition::DataSubtype;

    let is_ours = [VAULT_LABEL, JOURNAL_LABEL].contains(&partition.label.as_str());
    let is_data = match partition.kind {
        PartitionKind::App(_) | PartitionKind::Data(DataSubtype::Ota) => false,
        PartitionKind::Data(_) => true,
        PartitionKind::Custom { type_, .. } => type_ >= FIRST_OWN_TYPE,
    };
    is_data && !is_ours
}

impl From<DataError> for Failure {
    fn from(error: DataError) -> Self {
        let hint = match &error {
            DataError::Io { .. } | DataError::Empty { .. } => None,
            DataError::Unknown { .. } => Some("`pitstop layout show LAYOUT` shows its partitions"),
            DataError::TooLarge { .. } => Some(
                "make the file system for the partition's size, as its tool is told (such as mkspiffs -s)",
            ),
        };
        Failure::new(error.to_string()).maybe_hint(hint.map(str::to_owned))
    }
}
