//! Files from one directory to another, hashed on the way, private and durable.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use manifest::Digest;
use sha2::{Digest as _, Sha256};

use super::BackupError;
use crate::files;

const BUFFER_BYTES: usize = 64 * 1024;

/// A file of a data directory.
pub(super) struct DataFile {
    /// Below the data directory.
    pub(super) path: PathBuf,
    pub(super) size_bytes: u64,
    /// For an artifact: the digest that it has as its name.
    pub(super) named_digest: Option<Digest>,
}

/// What was copied.
pub(super) struct Copied {
    pub(super) size_bytes: u64,
    pub(super) sha256: Digest,
}

impl fmt::Display for Copied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes and SHA-256 {}", self.size_bytes, self.sha256)
    }
}

/// All files of a data directory but the database, the lock, and what is being written.
pub(super) fn data_files(data_dir: &Path) -> Result<Vec<DataFile>, BackupError> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        let directory = data_dir.join(&folder);
        for entry in fs::read_dir(&directory).map_err(BackupError::file("read", &directory))? {
            let entry = entry.map_err(BackupError::file("read", &directory))?;
            let (path, place) = (folder.join(entry.file_name()), entry.path());
            // What a link leads to is the server's as well: artifacts on a larger disk, a CA on another one.
            let metadata = match fs::metadata(&place) {
                Ok(metadata) => metadata,
                Err(error) if place.is_symlink() => return Err(BackupError::file("follow", place)(error)),
                // A file that was renamed or removed meanwhile was one that was being written.
                Err(_) => continue,
            };
            if metadata.is_dir() && place.is_symlink() {
                refuse_a_circle(data_dir, &place)?;
            }
            if metadata.is_dir() {
                folders.push(path);
            } else if metadata.is_file() && !is_left_out(&path) {
                let is_artifact = path.starts_with("artifacts");
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                let named_digest = if is_artifact { name.parse().ok() } else { None };
                found.push(DataFile { size_bytes: metadata.len(), named_digest, path });
            }
        }
    }
    Ok(found)
}

fn refuse_a_circle(data_dir: &Path, link: &Path) -> Result<(), BackupError> {
    let real = |path: &Path| fs::canonicalize(path).map_err(BackupError::file("follow", path));
    match real(data_dir)?.starts_with(real(link)?) {
        true => {
            Err(BackupError::file("follow", link)(io::Error::other("it leads to a folder that it is in")))
        }
        false => Ok(()),
    }
}

fn is_left_out(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let is_at_the_top = path.components().count() == 1;
    let is_database = is_at_the_top && name.starts_with(super::DATABASE);
    let is_lock = is_at_the_top && name == "lock";
    let is_probe = is_at_the_top && name == crate::health::PROBE;
    is_database || is_lock || is_probe || name.ends_with(".upload") || name.ends_with(".new")
}

/// Copies a file to a place that is not there yet; only the owner may read the copy.
pub(super) fn copy(from: &Path, to: &Path, mut progress: impl FnMut(u64)) -> Result<Copied, BackupError> {
    if let Some(folder) = to.parent() {
        files::create_private_dir(folder).map_err(BackupError::file("make", folder))?;
    }
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut target = options.open(to).map_err(BackupError::file("make", to))?;
    let copied = read(from, |bytes| {
        target.write_all(bytes).map_err(BackupError::file("write", to))?;
        progress(bytes.len() as u64);
        Ok(())
    })?;
    target.sync_all().map_err(BackupError::file("sync", to))?;
    files::sync_parent(to).map_err(BackupError::file("sync", to))?;
    Ok(copied)
}

/// Size and digest of a file.
pub(super) fn digest_of(path: &Path) -> Result<Copied, BackupError> {
    read(path, |_| Ok(()))
}

fn read(path: &Path, mut take: impl FnMut(&[u8]) -> Result<(), BackupError>) -> Result<Copied, BackupError> {
    let mut file = File::open(path).map_err(BackupError::file("open", path))?;
    let (mut hasher, mut size_bytes) = (Sha256::new(), 0);
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let count = file.read(&mut buffer).map_err(BackupError::file("read", path))?;
        let bytes = &buffer[..count];
        if bytes.is_empty() {
            return Ok(Copied { size_bytes, sha256: Digest(hasher.finalize().into()) });
        }
        hasher.update(bytes);
        size_bytes += bytes.len() as u64;
        take(bytes)?;
    }
}
