//! Backup and restore of a data directory, also while a server runs.
//!
//! A backup is a directory like the data directory, with `backup.json`: every file with its size and SHA-256. The
//! database comes first, as it is at one moment; artifacts come after it. They are never changed, and deleted only when no release has them, so that
//! every artifact that the copied database speaks of is there when they are copied.
//!
//! A backup and a restored data directory are there as a whole or not at all: they are made beside their place, synced,
//! and renamed.

mod copy;

use std::fs::{self, File};
use std::io;
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

use self::copy::{Copied, copy, data_files, digest_of};
use crate::store::copy_sqlite;
use crate::{clock, files, secret};

/// The list of what is in a backup.
const LIST: &str = "backup.json";

const DATABASE: &str = "pitstop.db";

/// Certificate and key of the CA.
const CA_FILES: [&str; 2] = ["ca/ca.pem", "ca/ca.key"];

/// Version of [`List`].
const FORMAT: u32 = 1;

/// What a backup holds.
#[derive(Debug, Serialize, Deserialize)]
struct List {
    format: u32,
    /// RFC 3339.
    created_at: String,
    files: Vec<Entry>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    /// Below the data directory, with slashes.
    path: String,
    size_bytes: u64,
    sha256: String,
}

/// What was backed up or restored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BackupSummary {
    /// When the backup was made, in RFC 3339.
    pub created_at: String,
    /// How many files there are.
    pub files: usize,
    /// How many bytes there are.
    pub bytes: u64,
    /// Whether an SQLite database is among them. Without it the database is elsewhere, and so is its backup.
    pub has_database: bool,
}

/// Why a backup or a restore was not made. Nothing is left behind then.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// A file or directory could not be used.
    #[error("could not {action} {}: {source}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// There is no data directory.
    #[error("expected a server's data directory with ca/ca.pem at {}, found none", path.display())]
    NoData {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// There is something where a backup or data directory should come.
    #[error("expected an empty place at {}, found files; name another, or move them away", path.display())]
    NotEmpty {
        /// The place.
        path: PathBuf,
    },
    /// The backup would be part of what it is a backup of.
    #[error("expected a place outside the data directory, found {}; name another", path.display())]
    Inside {
        /// The place.
        path: PathBuf,
    },
    /// The database could not be copied.
    #[error("could not copy the database: {0}")]
    Database(String),
    /// There is no list of a backup, or one that cannot be read.
    #[error("expected a backup with {LIST} at {}, found none that can be read: {reason}", path.display())]
    NoBackup {
        /// Where it was looked for.
        path: PathBuf,
        /// What is wrong with the list.
        reason: String,
    },
    /// A part of the CA is missing, without which no device trusts the server that is made of a backup.
    #[error("expected {file} in {}, found none", path.display())]
    NoCa {
        /// The data directory or the backup.
        path: PathBuf,
        /// What is missing.
        file: &'static str,
    },
    /// The backup was made by a newer version.
    #[error(
        "expected a backup of format {FORMAT}, found format {found}; restore it with the version that made it"
    )]
    Format {
        /// Its format.
        found: u32,
    },
    /// A file is not what it was when the backup was made, or an artifact is not what its name says.
    #[error(
        "expected {} with {expected}, found {found}: it is damaged; take another backup",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Size and digest as they should be.
        expected: String,
        /// Size and digest as they are.
        found: String,
    },
}

impl BackupError {
    fn file(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { action, path, source }
    }
}

/// Copies a data directory to a place that is not there yet or empty. A server may be running on it.
///
/// `progress` is told how many bytes are copied, of how many. It blocks, and must not be called on a thread of an
/// async runtime.
///
/// # Errors
/// [`BackupError`]
pub fn backup(
    data_dir: &Path,
    to: &Path,
    mut progress: impl FnMut(u64, u64),
) -> Result<BackupSummary, BackupError> {
    if !data_dir.join(CA_FILES[0]).is_file() {
        return Err(BackupError::NoData { path: data_dir.to_owned() });
    }
    let draft = Draft::beside(to)?;
    if draft.is_inside(data_dir)? {
        return Err(BackupError::Inside { path: to.to_owned() });
    }
    let created_at = clock::rfc3339(clock::now_ms());
    let mut entries = Vec::new();
    if let Some(entry) = copy_database(data_dir, &draft.path)? {
        entries.push(entry);
    }
    let found = data_files(data_dir)?;
    let total_bytes = found.iter().map(|file| file.size_bytes).sum();
    let mut done_bytes = 0;
    for file in found {
        let target = draft.path.join(&file.path);
        let copied = copy(&data_dir.join(&file.path), &target, |bytes| {
            done_bytes += bytes;
            progress(done_bytes, total_bytes);
        });
        let copied = match copied {
            // No release had it when the database was copied, and somebody deleted it since.
            Err(BackupError::File { path, source, .. })
                if file.named_digest.is_some()
                    && source.kind() == io::ErrorKind::NotFound
                    && path == data_dir.join(&file.path) =>
            {
                fs::remove_file(&target).map_err(BackupError::file("remove", &target))?;
                continue;
            }
            other => other?,
        };
        if let Some(expected) = file.named_digest
            && copied.sha256 != expected
        {
            let (path, found) = (data_dir.join(&file.path), copied.to_string());
            return Err(BackupError::Damaged { path, expected: format!("SHA-256 {expected}"), found });
        }
        entries.push(Entry::of(&file.path, copied));
    }
    let list = List { format: FORMAT, created_at, files: entries };
    list.expect_ca(data_dir)?;
    let path = draft.path.join(LIST);
    let text =
        serde_json::to_vec_pretty(&list).map_err(|error| BackupError::file("write", &path)(error.into()))?;
    files::write_private(&path, &text).map_err(BackupError::file("write", &path))?;
    draft.publish()?;
    Ok(list.summary())
}

/// Makes a data directory of a backup, at a place that is not there yet or empty. Every file is compared with the list.
///
/// `progress` is told how many bytes are copied, of how many.
///
/// # Errors
/// [`BackupError`]
pub fn restore(
    from: &Path,
    data_dir: &Path,
    mut progress: impl FnMut(u64, u64),
) -> Result<BackupSummary, BackupError> {
    let no_backup = |reason: String| BackupError::NoBackup { path: from.to_owned(), reason };
    let text = fs::read(from.join(LIST)).map_err(|error| no_backup(error.to_string()))?;
    let list: List = serde_json::from_slice(&text).map_err(|error| no_backup(error.to_string()))?;
    if list.format != FORMAT {
        return Err(BackupError::Format { found: list.format });
    }
    list.expect_ca(from)?;
    let draft = Draft::beside(data_dir)?;
    let total_bytes = list.files.iter().map(|entry| entry.size_bytes).sum();
    let mut done_bytes = 0;
    for entry in &list.files {
        let path = entry.below().ok_or_else(|| no_backup(format!("{:?} is no path below it", entry.path)))?;
        let source = from.join(&path);
        let copied = copy(&source, &draft.path.join(&path), |bytes| {
            done_bytes += bytes;
            progress(done_bytes, total_bytes);
        })?;
        if copied.size_bytes != entry.size_bytes || copied.sha256.to_string() != entry.sha256 {
            let expected = format!("{} bytes and SHA-256 {}", entry.size_bytes, entry.sha256);
            return Err(BackupError::Damaged { path: source, expected, found: copied.to_string() });
        }
    }
    draft.publish()?;
    Ok(list.summary())
}

impl List {
    fn expect_ca(&self, of: &Path) -> Result<(), BackupError> {
        match CA_FILES.into_iter().find(|file| self.files.iter().all(|entry| entry.path != *file)) {
            Some(file) => Err(BackupError::NoCa { path: of.to_owned(), file }),
            None => Ok(()),
        }
    }

    fn summary(&self) -> BackupSummary {
        BackupSummary {
            created_at: self.created_at.clone(),
            files: self.files.len(),
            bytes: self.files.iter().map(|entry| entry.size_bytes).sum(),
            has_database: self.files.iter().any(|entry| entry.path == DATABASE),
        }
    }
}

impl Entry {
    fn of(path: &Path, copied: Copied) -> Self {
        let parts: Vec<_> = path.components().map(|part| part.as_os_str().to_string_lossy()).collect();
        Self { path: parts.join("/"), size_bytes: copied.size_bytes, sha256: copied.sha256.to_string() }
    }

    /// The path, if it stays below where it is joined to.
    fn below(&self) -> Option<PathBuf> {
        let path = PathBuf::from(&self.path);
        let is_plain = path.components().all(|part| matches!(part, Component::Normal(_)));
        (is_plain && !self.path.is_empty()).then_some(path)
    }
}

/// The database as it is at this moment; `None` when it is not in the data directory.
fn copy_database(data_dir: &Path, to: &Path) -> Result<Option<Entry>, BackupError> {
    let (source, target) = (data_dir.join(DATABASE), to.join(DATABASE));
    if !source.is_file() {
        return Ok(None);
    }
    // Made here, so that nobody else may read it at any moment.
    files::write_private(&target, b"").map_err(BackupError::file("write", &target))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| BackupError::Database(error.to_string()))?;
    runtime
        .block_on(copy_sqlite(&source, &target))
        .map_err(|error| BackupError::Database(error.to_string()))?;
    let synced = File::open(&target).and_then(|file| file.sync_all());
    synced.map_err(BackupError::file("sync", &target))?;
    Ok(Some(Entry::of(Path::new(DATABASE), digest_of(&target)?)))
}

/// More symbolic links in a row than any path has, as Linux counts them.
const MAX_LINKS: usize = 40;

/// Where a path leads by symbolic links, whether there is something or not.
fn end_of_links(path: &Path) -> PathBuf {
    let mut place = path.to_owned();
    for _ in 0..MAX_LINKS {
        match fs::read_link(&place) {
            Ok(target) => place = place.parent().unwrap_or(Path::new("")).join(target),
            Err(_) => break,
        }
    }
    place
}

/// A directory that is being made beside its place, and removed unless it got there.
struct Draft {
    path: PathBuf,
    /// Past all links: a link stays.
    place: PathBuf,
    is_done: bool,
}

impl Draft {
    fn beside(place: &Path) -> Result<Self, BackupError> {
        let place = end_of_links(place);
        match fs::read_dir(&place) {
            Ok(mut entries) => {
                if entries.next().is_some() {
                    return Err(BackupError::NotEmpty { path: place });
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(BackupError::file("read", place)(error)),
        }
        let name = place.file_name().unwrap_or_default().to_string_lossy();
        let path = place.with_file_name(format!(".{name}.{}", hex::encode(secret::random::<4>())));
        files::create_private_dir(&path).map_err(BackupError::file("make", &path))?;
        Ok(Self { path, place, is_done: false })
    }

    fn is_inside(&self, directory: &Path) -> Result<bool, BackupError> {
        let real = |path: &Path| path.canonicalize().map_err(BackupError::file("find", path));
        Ok(real(&self.path)?.starts_with(real(directory)?))
    }

    fn publish(mut self) -> Result<(), BackupError> {
        // An empty directory is replaced, a full one is not.
        fs::rename(&self.path, &self.place).map_err(BackupError::file("make", &self.place))?;
        self.is_done = true;
        files::sync_parent(&self.place).map_err(BackupError::file("sync", &self.place))
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.is_done {
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}
