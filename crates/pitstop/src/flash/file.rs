//! Flash files: byte for byte what a chip holds.

use std::fs;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use flashfmt::partition::TABLE_OFFSET;
use flashfmt::{Partition, PartitionError, PartitionTable};
use tempfile::NamedTempFile;

use super::plan::{ERASED, FlashPlan, Part};
use crate::failure::Failure;
use crate::layouts::{JOURNAL_LABEL, VAULT_LABEL};

/// The largest flash that a bootloader's header can name.
const MAX_FILE_BYTES: u64 = 128 << 20;

/// Why a flash file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FlashFileError {
    /// The file system refused.
    #[error("the flash file {} cannot be {verb}: {source}", .path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// `read` or `written`.
        verb: &'static str,
        /// Why.
        source: io::Error,
    },
    /// No flash is that large.
    #[error("expected a flash file of at most {MAX_FILE_BYTES} bytes, found {found_bytes} bytes in {}", .path.display())]
    TooLong {
        /// Which.
        path: PathBuf,
        /// Its length.
        found_bytes: u64,
    },
    /// No partition table, or one that cannot be used.
    #[error("{what}: {source}")]
    Table {
        /// In what: a file or a chip.
        what: String,
        /// What is wrong with it.
        source: PartitionError,
    },
    /// The table has no vault.
    #[error("{what}: the partition table has no partition `{VAULT_LABEL}`")]
    NoVault {
        /// In what: a file or a chip.
        what: String,
    },
    /// The vault is beyond the file's end.
    #[error("{}: the vault ends at {end:#x}, the file has {found_bytes:#x} bytes", .path.display())]
    Short {
        /// Which file.
        path: PathBuf,
        /// End of what it lacks.
        end: u32,
        /// Length of the file.
        found_bytes: usize,
    },
}

/// Writes all of a flash: the whole file or nothing. Only its owner can read it: it holds an enrollment token.
#[cfg(feature = "emulator")]
pub(crate) fn write(path: &Path, plan: &FlashPlan) -> Result<(), FlashFileError> {
    replace(path, &plan.to_image())
}

/// A flash file that is being made: the whole file or nothing. Only its owner can read it: it holds an enrollment token.
pub(crate) struct NewFile {
    path: PathBuf,
    file: NamedTempFile,
}

impl NewFile {
    /// Writes the parts of a plan beside `path`, all but what needs a token.
    pub(crate) fn begin(path: &Path, plan: &FlashPlan) -> Result<Self, FlashFileError> {
        let written = || {
            let mut file = NamedTempFile::new_in(folder_of(path))?;
            file.write_all(&plan.to_image())?;
            Ok(file)
        };
        let file = written().map_err(|source| not_written(path, source))?;
        Ok(Self { path: path.to_owned(), file })
    }

    /// Adds the last part, and gives the file its name.
    pub(crate) fn finish(mut self, last: &Part) -> Result<(), FlashFileError> {
        let written = |file: &mut NamedTempFile| {
            file.seek(SeekFrom::Start(last.offset.into()))?;
            file.write_all(&last.bytes)
        };
        written(&mut self.file)
            .and_then(|()| self.file.persist(&self.path).map_err(|error| error.error))
            .map(drop)
            .map_err(|source| not_written(&self.path, source))
    }
}

/// A flash file that has a vault.
pub(crate) struct FlashFile {
    path: PathBuf,
    bytes: Vec<u8>,
    places: VaultPlaces,
}

/// Where a device keeps what it is provisioned with, and what it has learned as that.
#[derive(Clone, Copy)]
pub(crate) struct VaultPlaces {
    pub(crate) vault: Partition,
    /// Erased with a new vault: it has the sequence number of the last release, and what was damaged in the old vault.
    pub(crate) journal: Option<Partition>,
}

impl FlashFile {
    /// Reads a flash file and finds its vault.
    pub(crate) fn read(path: &Path) -> Result<Self, FlashFileError> {
        let failed = |source| FlashFileError::Io { path: path.to_owned(), verb: "read", source };
        let found_bytes = fs::metadata(path).map_err(failed)?.len();
        if found_bytes > MAX_FILE_BYTES {
            return Err(FlashFileError::TooLong { path: path.to_owned(), found_bytes });
        }
        let bytes = fs::read(path).map_err(failed)?;
        let table = bytes.get(TABLE_OFFSET as usize..).unwrap_or_default();
        let places = VaultPlaces::find(table, &path.display().to_string())?;
        let end = places.journal.iter().map(Partition::end).chain([places.vault.end()]).max().unwrap_or(0);
        if end as usize > bytes.len() {
            let (path, found_bytes) = (path.to_owned(), bytes.len());
            return Err(FlashFileError::Short { path, end, found_bytes });
        }
        Ok(Self { path: path.to_owned(), bytes, places })
    }

    /// Where the vault is.
    pub(crate) fn places(&self) -> VaultPlaces {
        self.places
    }

    /// Puts another vault into the file and erases the journal; nothing else in it changes.
    pub(crate) fn write_vault(mut self, vault: &[u8]) -> Result<(), FlashFileError> {
        self.bytes[self.places.vault.offset as usize..][..vault.len()].copy_from_slice(vault);
        if let Some(journal) = self.places.journal {
            self.bytes[journal.offset as usize..journal.end() as usize].fill(ERASED);
        }
        replace(&self.path, &self.bytes)
    }
}

impl VaultPlaces {
    /// Those in a partition table, which is that of `what`.
    pub(crate) fn find(table: &[u8], what: &str) -> Result<Self, FlashFileError> {
        let table = PartitionTable::parse(table)
            .map_err(|source| FlashFileError::Table { what: what.to_owned(), source })?;
        let vault = table.find_label(VAULT_LABEL);
        let vault = vault.ok_or_else(|| FlashFileError::NoVault { what: what.to_owned() })?;
        Ok(Self { vault, journal: table.find_label(JOURNAL_LABEL) })
    }
}

/// A new file beside the old one, then renamed over it.
fn replace(path: &Path, bytes: &[u8]) -> Result<(), FlashFileError> {
    let written = || {
        let mut file = NamedTempFile::new_in(folder_of(path))?;
        file.write_all(bytes)?;
        file.persist(path).map_err(|error| error.error)
    };
    written().map(drop).map_err(|source| not_written(path, source))
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn not_written(path: &Path, source: io::Error) -> FlashFileError {
    FlashFileError::Io { path: path.to_owned(), verb: "written", source }
}

impl From<FlashFileError> for Failure {
    fn from(error: FlashFileError) -> Self {
        let hint = match &error {
            FlashFileError::Io { .. } => None,
            FlashFileError::TooLong { .. } | FlashFileError::Short { .. } => {
                Some("give the whole flash in one file, as `pitstop flash --image FILE` writes it")
            }
            FlashFileError::Table { .. } | FlashFileError::NoVault { .. } => {
                Some("flash the updater first: pitstop flash --help")
            }
        };
        Failure::new(error.to_string()).maybe_hint(hint.map(str::to_owned))
    }
}
