//! Artifacts by their SHA-256, in local files or in an S3 store.
//!
//! An artifact is there as a whole or not at all: what arrives is hashed on its way, and gets its name only when the
//! digest is right. It is never changed, so that nothing about it has to be looked up twice, and removed only when no release has it.

mod chunks;
mod damaged;
mod local;
#[cfg_attr(not(feature = "s3"), path = "s3_absent.rs")]
mod s3;

use std::io;
use std::path::Path;
use std::pin::Pin;

use manifest::Digest;
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt as _};

pub(crate) use self::chunks::{Chunks, Place};
pub(crate) use self::damaged::Damaged;
use self::local::{LocalArtifacts, LocalUpload};
use self::s3::{S3Artifacts, S3Upload};
use crate::MAX_ARTIFACT_BYTES;
use crate::error::StartError;
use crate::failing::{Failing, Fails};
use crate::location::Artifacts;

/// Bytes that are hashed at once.
const PART_BYTES: usize = 64 * 1024;

/// The artifacts of a server.
#[derive(Clone, Debug)]
pub(crate) enum ArtifactStore {
    Local(LocalArtifacts),
    #[cfg_attr(not(feature = "s3"), expect(dead_code, reason = "there are no values of it"))]
    S3(S3Artifacts),
}

/// Why the artifacts could not be reached.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ArtifactError {
    #[error("{}a file of the artifacts: {source}", if is_full(.source) { "make room in the data directory: " } else { "" })]
    Local {
        #[from]
        source: io::Error,
    },
    #[error("the S3 store: {0}")]
    S3(#[from] s3::Error),
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
    Store(#[from] ArtifactError),
}

impl Fails for ArtifactError {
    fn failing(&self) -> Failing {
        match self {
            Self::Local { source } if is_full(source) => Failing::Full,
            Self::Local { .. } => Failing::Request,
            Self::S3(error) if s3::is_away(error) => Failing::Away,
            Self::S3(_) => Failing::Request,
        }
    }
}

/// No room on the file system, in the quota, or by the process's limit.
fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
    )
}

/// The bytes of an artifact as they come.
pub(crate) type ArtifactReader = Pin<Box<dyn AsyncRead + Send>>;

/// An artifact on its way in. Dropped before [`Upload::finish`] it leaves nothing behind.
#[derive(Debug)]
pub(crate) struct Upload {
    expected: Digest,
    hasher: Sha256,
    size_bytes: u64,
    target: Target,
}

#[derive(Debug)]
enum Target {
    Local(LocalUpload),
    S3(S3Upload),
}

impl ArtifactStore {
    /// Opens the artifacts. `data_dir` is where local files are.
    pub(crate) async fn open(at: &Artifacts, data_dir: &Path) -> Result<Self, StartError> {
        match at {
            Artifacts::Local => {
                let root = data_dir.join("artifacts");
                let opened = LocalArtifacts::open(&root).map_err(StartError::file("open", root))?;
                Ok(Self::Local(opened))
            }
            #[cfg(not(feature = "s3"))]
            Artifacts::S3(_) => Err(StartError::NotBuilt { what: "S3", feature: "s3" }),
            #[cfg(feature = "s3")]
            Artifacts::S3(location) => {
                let opened = S3Artifacts::open(location).await.map_err(|error| StartError::S3 {
                    location: location.clone(),
                    reason: error.to_string(),
                })?;
                Ok(Self::S3(opened))
            }
        }
    }

    /// Asks whether the artifacts can be reached.
    pub(crate) async fn ping(&self) -> Result<(), ArtifactError> {
        match self {
            Self::Local(artifacts) => Ok(artifacts.ping().await?),
            Self::S3(artifacts) => Ok(artifacts.ping().await?),
        }
    }

    /// The size of an artifact in bytes; `None` when it is not there.
    pub(crate) async fn size_bytes(&self, digest: Digest) -> Result<Option<u64>, ArtifactError> {
        match self {
            Self::Local(artifacts) => Ok(artifacts.size_bytes(digest).await?),
            Self::S3(artifacts) => Ok(artifacts.size_bytes(digest).await?),
        }
    }

    /// Reads `length_bytes` of an artifact from an offset on; `None` when it is not there.
    pub(crate) async fn read(
        &self,
        digest: Digest,
        offset_bytes: u64,
        length_bytes: u64,
    ) -> Result<Option<ArtifactReader>, ArtifactError> {
        match self {
            Self::Local(artifacts) => Ok(artifacts.read(digest, offset_bytes, length_bytes).await?),
            Self::S3(artifacts) => Ok(artifacts.read(digest, offset_bytes, length_bytes).await?),
        }
    }

    /// Reads an artifact from end to end, and tells whether it is what its name says; `None` when it is not there.
    pub(crate) async fn is_whole(&self, digest: Digest) -> Result<Option<bool>, ArtifactError> {
        let Some(size_bytes) = self.size_bytes(digest).await? else { return Ok(None) };
        let Some(mut reader) = self.read(digest, 0, size_bytes).await? else { return Ok(None) };
        let mut hasher = Sha256::new();
        let mut part = vec![0; PART_BYTES];
        loop {
            let read_bytes = reader.read(&mut part).await.map_err(|error| self.body_error(error))?;
            if read_bytes == 0 {
                break;
            }
            hasher.update(&part[..read_bytes]);
            tokio::task::yield_now().await;
        }
        Ok(Some(Digest(hasher.finalize().into()) == digest))
    }

    /// What failed while the bytes of an artifact came.
    pub(crate) fn body_error(&self, error: io::Error) -> ArtifactError {
        match self {
            Self::S3(artifacts) if error.kind() != io::ErrorKind::UnexpectedEof => artifacts.of_body(error),
            Self::Local(_) | Self::S3(_) => ArtifactError::Local { source: error },
        }
    }

    /// Removes an artifact; one that is not there is none the less gone.
    pub(crate) async fn remove(&self, digest: Digest) -> Result<(), ArtifactError> {
        match self {
            Self::Local(artifacts) => Ok(artifacts.remove(digest).await?),
            Self::S3(artifacts) => Ok(artifacts.remove(digest).await?),
        }
    }

    /// Starts an upload.
    pub(crate) async fn upload(&self, expected: Digest) -> Result<Upload, ArtifactError> {
        let target = match self {
            Self::Local(artifacts) => Target::Local(artifacts.upload(expected).await?),
            Self::S3(artifacts) => Target::S3(artifacts.upload(expected)),
        };
        Ok(Upload { expected, hasher: Sha256::new(), size_bytes: 0, target })
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
        match &mut self.target {
            Target::Local(upload) => upload.write(bytes).await.map_err(ArtifactError::from)?,
            Target::S3(upload) => upload.write(bytes).await.map_err(ArtifactError::from)?,
        }
        Ok(())
    }

    /// Checks the digest and makes the artifact durable under its name.
    pub(crate) async fn finish(self) -> Result<(), UploadError> {
        let found = Digest(self.hasher.finalize().into());
        if found != self.expected {
            return Err(UploadError::Digest { expected: self.expected, found });
        }
        match self.target {
            Target::Local(upload) => upload.finish().await.map_err(ArtifactError::from)?,
            Target::S3(upload) => upload.finish().await.map_err(ArtifactError::from)?,
        }
        Ok(())
    }
}

/// Where an artifact is below the root: in a folder of those that begin with the same two digits.
fn folder_and_name(digest: Digest) -> (String, String) {
    let name = digest.to_string();
    (name[..2].to_owned(), name)
}
