//! Artifacts by their SHA-256, in local files.
//!
//! An artifact is there as a whole or not at all: it is written to a temporary file in its folder, checked, synced,
//! renamed, and the folder is synced. The interface (upload in parts, size, read from an offset) is one that an
//! object store can serve as well.

use std::io::{self, SeekFrom};
use std::path::{Path, PathBuf};

use manifest::Digest;
use sha2::{Digest as _, Sha256};
use tokio::fs::{self, File};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncSeekExt as _, AsyncWriteExt as _};

use crate::{MAX_ARTIFACT_BYTES, files, secret};

/// End of the name of an upload that is under way.
const TEMPORARY: &str = ".upload";

/// The artifacts of a server.
#[derive(Clone, Debug)]
pub(crate) struct ArtifactStore {
    root: PathBuf,
}

/// An artifact on its way in. Dropped before [`Upload::finish`] it leaves nothing behind.
#[derive(Debug)]
pub(crate) struct Upload {
    expected: Digest,
    path: PathBuf,
    temporary: Temporary,
    file: File,
    hasher: Sha256,
    size_bytes: u64,
}

/// A file that is removed unless it was renamed.
#[derive(Debug)]
struct Temporary(Option<PathBuf>);

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Some(path) = self.0.take() {
            // What cannot be removed now is removed at the next start.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Why an upload was not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UploadError {
    #[error(
        "expected an artifact with the SHA-256 {expected}, found {found}; upload it under its own digest"
    )]
    Digest { expected: Digest, found: Digest },
    #[error("expected at most {MAX_ARTIFACT_BYTES} bytes, found more")]
    TooLarge,
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl ArtifactStore {
    /// Opens the store and removes what broken-off uploads left behind.
    pub(crate) fn open(root: impl Into<PathBuf>) -> io::Result<Self> {
        let root = root.into();
        files::create_private_dir(&root)?;
        for folder in std::fs::read_dir(&root)? {
            let folder = folder?.path();
            if !folder.is_dir() {
                continue;
            }
            for file in std::fs::read_dir(folder)? {
                let file = file?.path();
                if file.to_string_lossy().ends_with(TEMPORARY) {
                    std::fs::remove_file(file)?;
                }
            }
        }
        Ok(Self { root })
    }

    /// Asks whether the store can be reached.
    pub(crate) async fn ping(&self) -> io::Result<()> {
        fs::metadata(&self.root).await.map(|_| ())
    }

    fn path(&self, digest: Digest) -> PathBuf {
        let name = digest.to_string();
        self.root.join(&name[..2]).join(name)
    }

    /// The size of an artifact in bytes; `None` when it is not there.
    pub(crate) async fn size_bytes(&self, digest: Digest) -> io::Result<Option<u64>> {
        match fs::metadata(self.path(digest)).await {
            Ok(metadata) => Ok(Some(metadata.len())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Reads `length_bytes` of an artifact from an offset on.
    pub(crate) async fn read(
        &self,
        digest: Digest,
        offset_bytes: u64,
        length_bytes: u64,
    ) -> io::Result<impl AsyncRead + Send + use<>> {
        let mut file = File::open(self.path(digest)).await?;
        if offset_bytes > 0 {
            file.seek(SeekFrom::Start(offset_bytes)).await?;
        }
        Ok(file.take(length_bytes))
    }

    /// Starts an upload.
    pub(crate) async fn upload(&self, expected: Digest) -> io::Result<Upload> {
        let path = self.path(expected);
        let folder = path.parent().unwrap_or(&self.root);
        if !fs::try_exists(folder).await? {
            // Two uploads may race for the folder; both are content with what the other made.
            fs::create_dir_all(folder).await?;
            sync_parent(folder).await?;
        }
        let temporary = folder.join(format!("{expected}-{}{TEMPORARY}", hex::encode(secret::random::<8>())));
        let file = File::create_new(&temporary).await?;
        let temporary = Temporary(Some(temporary));
        Ok(Upload { expected, path, temporary, file, hasher: Sha256::new(), size_bytes: 0 })
    }
}

impl Upload {
    /// Takes the next bytes.
    pub(crate) async fn write(&mut self, bytes: &[u8]) -> Result<(), UploadError> {
        self.size_bytes += bytes.len() as u64;
        if self.size_bytes > MAX_ARTIFACT_BYTES {
            return Err(UploadError::TooLarge);
        }
        self.hasher.update(bytes);
        self.file.write_all(bytes).await?;
        Ok(())
    }

    /// Checks the digest and makes the artifact durable under its name.
    pub(crate) async fn finish(mut self) -> Result<(), UploadError> {
        let found = Digest(self.hasher.finalize().into());
        if found != self.expected {
            return Err(UploadError::Digest { expected: self.expected, found });
        }
        self.file.flush().await?;
        self.file.sync_all().await?;
        if let Some(temporary) = &self.temporary.0 {
            fs::rename(temporary, &self.path).await?;
        }
        self.temporary.0 = None;
        sync_parent(&self.path).await?;
        Ok(())
    }
}

async fn sync_parent(path: &Path) -> io::Result<()> {
    let path = path.to_owned();
    tokio::task::spawn_blocking(move || files::sync_parent(&path)).await.map_err(io::Error::other)?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files_below(root: &Path) -> Vec<String> {
        let mut names = Vec::new();
        for folder in std::fs::read_dir(root).unwrap() {
            for file in std::fs::read_dir(folder.unwrap().path()).unwrap() {
                names.push(file.unwrap().file_name().into_string().unwrap());
            }
        }
        names
    }

    #[tokio::test]
    async fn an_artifact_is_there_as_a_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let store = ArtifactStore::open(dir.path().join("artifacts")).unwrap();
        let digest = Digest::of(b"hello world");
        assert_eq!(store.size_bytes(digest).await.unwrap(), None);

        let mut broken_off = store.upload(digest).await.unwrap();
        broken_off.write(b"hello").await.unwrap();
        drop(broken_off);
        let mut wrong = store.upload(digest).await.unwrap();
        wrong.write(b"hello there").await.unwrap();
        let error = wrong.finish().await.unwrap_err();
        assert!(matches!(error, UploadError::Digest { expected, .. } if expected == digest), "{error}");
        assert_eq!(files_below(&store.root), Vec::<String>::new());

        let mut right = store.upload(digest).await.unwrap();
        right.write(b"hello ").await.unwrap();
        assert_eq!(store.size_bytes(digest).await.unwrap(), None);
        right.write(b"world").await.unwrap();
        right.finish().await.unwrap();
        assert_eq!(store.size_bytes(digest).await.unwrap(), Some(11));
        assert_eq!(files_below(&store.root), [digest.to_string()]);

        let mut text = String::new();
        let mut part = Box::pin(store.read(digest, 6, 3).await.unwrap());
        part.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "wor");
    }

    #[tokio::test]
    async fn a_start_removes_what_a_power_cut_left() {
        let dir = tempfile::tempdir().unwrap();
        let store = ArtifactStore::open(dir.path()).unwrap();
        let mut upload = store.upload(Digest::of(b"x")).await.unwrap();
        upload.write(b"x").await.unwrap();
        std::mem::forget(upload);
        assert_eq!(files_below(dir.path()).len(), 1);
        ArtifactStore::open(dir.path()).unwrap();
        assert_eq!(files_below(dir.path()).len(), 0);
    }
}
