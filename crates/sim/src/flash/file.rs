//! Flash contents in a file: byte for byte what a programmer would read out of the chip.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::{SECTOR_BYTES, SimFlash};

/// A flash file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FlashFileError {
    /// The file has another size than the flash.
    #[error(
        "{path} has {found_bytes} bytes, the flash has {wanted_bytes}; give the flash size the file was made with"
    )]
    Size {
        /// The file.
        path: PathBuf,
        /// Size of the file in bytes.
        found_bytes: u64,
        /// Size of the flash in bytes.
        wanted_bytes: u32,
    },
    /// No flash has this size.
    #[error("a flash of {wanted_bytes} bytes is not possible; the size must be a positive multiple of 4096")]
    NoSuchFlash {
        /// The size asked for, in bytes.
        wanted_bytes: u32,
    },
    /// The file could not be read or written.
    #[error("cannot use the flash file {path}; check that the folder exists and can be written")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
}

impl SimFlash {
    /// A new erased flash of `size_bytes` in a new file; an existing file is replaced.
    ///
    /// # Errors
    /// [`FlashFileError::NoSuchFlash`], [`FlashFileError::Io`].
    pub fn create(path: impl Into<PathBuf>, size_bytes: u32) -> Result<Self, FlashFileError> {
        let path = path.into();
        let bytes = vec![0xFF; checked_size(size_bytes)?];
        let mut flash = Self::with_contents(bytes, Some(path));
        flash.dirty = true;
        flash.persist()?;
        Ok(flash)
    }

    /// The flash in an existing file of exactly `size_bytes`.
    ///
    /// # Errors
    /// [`FlashFileError::NoSuchFlash`], [`FlashFileError::Size`], [`FlashFileError::Io`].
    pub fn open(path: impl Into<PathBuf>, size_bytes: u32) -> Result<Self, FlashFileError> {
        let path = path.into();
        checked_size(size_bytes)?;
        let io = |source| FlashFileError::Io { path: path.clone(), source };
        // Asked first, so that a wrong path (a disk image, a device file) is not read into memory.
        let found_bytes = fs::metadata(&path).map_err(io)?.len();
        if found_bytes != u64::from(size_bytes) {
            return Err(FlashFileError::Size { path, found_bytes, wanted_bytes: size_bytes });
        }
        let bytes = fs::read(&path).map_err(io)?;
        Ok(Self::with_contents(bytes, Some(path)))
    }

    /// Writes changes back to the file: all of them or none. Without effect on a flash in memory. Dropping the flash
    /// does the same, but can only log a failure.
    ///
    /// # Errors
    /// [`FlashFileError::Io`].
    pub fn persist(&mut self) -> Result<(), FlashFileError> {
        let Some(path) = self.path.as_deref().filter(|_| self.dirty) else {
            return Ok(());
        };
        replace(path, &self.bytes).map_err(|source| FlashFileError::Io { path: path.to_owned(), source })?;
        self.dirty = false;
        Ok(())
    }
}

impl Drop for SimFlash {
    fn drop(&mut self) {
        if let Err(error) = self.persist() {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "changes to the virtual flash are lost"
            );
        }
    }
}

fn checked_size(size_bytes: u32) -> Result<usize, FlashFileError> {
    if size_bytes == 0 || !size_bytes.is_multiple_of(SECTOR_BYTES) {
        return Err(FlashFileError::NoSuchFlash { wanted_bytes: size_bytes });
    }
    Ok(size_bytes as usize)
}

/// A new file beside the old one, then renamed over it.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(bytes)?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}
