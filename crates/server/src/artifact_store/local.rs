//! Artifacts in local files. One is written to a temporary file in its folder, synced, renamed, and the folder is
//! synced.

use std::io::{self, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use manifest::Digest;
use tokio::fs::{self, File};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{ArtifactReader, folder_and_name};
use crate::{files, secret};

/// End of the name of an upload that is under way.
const TEMPORARY: &str = ".upload";

/// A directory of artifacts.
#[derive(Clone, Debug)]
pub(crate) struct LocalArtifacts {
    root: PathBuf,
}

/// A file that is being written.
#[derive(Debug)]
pub(super) struct LocalUpload {
    path: PathBuf,
    temporary: Temporary,
    file: File,
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

impl LocalArtifacts {
    /// Opens the directory and removes what broken-off uploads left behind.
    pub(super) fn open(root: &Path) -> io::Result<Self> {
        files::create_private_dir(root)?;
        for folder in std::fs::read_dir(root)? {
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
        Ok(Self { root: root.to_owned() })
    }

    pub(super) async fn ping(&self) -> io::Result<()> {
        fs::metadata(&self.root).await.map(|_| ())
    }

    fn path(&self, digest: Digest) -> PathBuf {
        let (folder, name) = folder_and_name(digest);
        self.root.join(folder).join(name)
    }

    pub(super) async fn size_bytes(&self, digest: Digest) -> io::Result<Option<u64>> {
        Ok(if_there(fs::metadata(self.path(digest)).await)?.map(|metadata| metadata.len()))
    }

    pub(super) async fn read(
        &self,
        digest: Digest,
        offset_bytes: u64,
        length_bytes: u64,
    ) -> io::Result<Option<ArtifactReader>> {
        let path = self.path(digest);
        // Opened and placed in one turn of a blocking thread.
        let opened = tokio::task::spawn_blocking(move || {
            let mut file = std::fs::File::open(path)?;
            file.seek(SeekFrom::Start(offset_bytes))?;
            Ok(file)
        });
        let file = if_there(opened.await.map_err(io::Error::other)?)?;
        Ok(file.map(|file| Box::pin(File::from_std(file).take(length_bytes)) as ArtifactReader))
    }

    pub(super) async fn remove(&self, digest: Digest) -> io::Result<()> {
        let path = self.path(digest);
        match if_there(fs::remove_file(&path).await)? {
            Some(()) => sync_parent(&path).await,
            None => Ok(()),
        }
    }

    pub(super) async fn upload(&self, expected: Digest) -> io::Result<LocalUpload> {
        let path = self.path(expected);
        let folder = path.parent().unwrap_or(&self.root);
        if !fs::try_exists(folder).await? {
            // Two uploads may race for the folder; both are content with what the other made.
            fs::create_dir_all(folder).await?;
            sync_parent(folder).await?;
        }
        let temporary = folder.join(format!("{expected}-{}{TEMPORARY}", hex::encode(secret::random::<8>())));
        // What makes the file hands it out together with what removes it: nobody may wait for it any more.
        let made = tokio::task::spawn_blocking(move || {
            let file = std::fs::File::create_new(&temporary)?;
            Ok(LocalUpload { path, temporary: Temporary(Some(temporary)), file: File::from_std(file) })
        });
        made.await.map_err(io::Error::other)?
    }
}

impl LocalUpload {
    pub(super) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes).await
    }

    pub(super) async fn finish(mut self) -> io::Result<()> {
        self.file.flush().await?;
        self.file.sync_all().await?;
        if let Some(temporary) = &self.temporary.0 {
            fs::rename(temporary, &self.path).await?;
        }
        self.temporary.0 = None;
        sync_parent(&self.path).await
    }
}

/// `None` for a file that is not there.
fn if_there<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

async fn sync_parent(path: &Path) -> io::Result<()> {
    let path = path.to_owned();
    tokio::task::spawn_blocking(move || files::sync_parent(&path)).await.map_err(io::Error::other)?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifact_store::{ArtifactStore, UploadError};
    use crate::location::Artifacts;

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
        let store = ArtifactStore::open(&Artifacts::Local, dir.path()).await.unwrap();
        let root = dir.path().join("artifacts");
        let digest = Digest::of(b"hello world");
        assert_eq!(store.size_bytes(digest).await.unwrap(), None);
        assert!(store.read(digest, 0, 1).await.unwrap().is_none());

        let mut broken_off = store.upload(digest).await.unwrap();
        broken_off.write(b"hello").await.unwrap();
        drop(broken_off);
        let mut wrong = store.upload(digest).await.unwrap();
        wrong.write(b"hello there").await.unwrap();
        let error = wrong.finish().await.unwrap_err();
        assert!(matches!(error, UploadError::Digest { expected, .. } if expected == digest), "{error}");
        assert_eq!(files_below(&root), Vec::<String>::new());

        let mut right = store.upload(digest).await.unwrap();
        right.write(b"hello ").await.unwrap();
        assert_eq!(store.size_bytes(digest).await.unwrap(), None);
        right.write(b"world").await.unwrap();
        right.finish().await.unwrap();
        assert_eq!(store.size_bytes(digest).await.unwrap(), Some(11));
        assert_eq!(files_below(&root), [digest.to_string()]);

        let mut text = String::new();
        let mut part = store.read(digest, 6, 3).await.unwrap().unwrap();
        part.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "wor");
    }

    #[tokio::test]
    async fn a_start_removes_what_a_power_cut_left() {
        let dir = tempfile::tempdir().unwrap();
        let store = LocalArtifacts::open(dir.path()).unwrap();
        let mut upload = store.upload(Digest::of(b"x")).await.unwrap();
        upload.write(b"x").await.unwrap();
        std::mem::forget(upload);
        assert_eq!(files_below(dir.path()).len(), 1);
        LocalArtifacts::open(dir.path()).unwrap();
        assert_eq!(files_below(dir.path()).len(), 0);
    }
}
