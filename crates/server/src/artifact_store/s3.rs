//! Artifacts in an S3 store, which several instances of the server may share.
//!
//! Endpoint, region and credentials come from the usual `AWS_*` variables of the environment. An upload of up to one
//! part is one PUT; a larger one is a multipart upload, which S3 shows to nobody before it is completed.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _};
use manifest::Digest;
pub(super) use object_store::Error;
use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey};
use object_store::buffered::BufWriter;
use object_store::path::Path;
use object_store::{
    BackoffConfig, ClientOptions, GetOptions, GetRange, ObjectStore as _, ObjectStoreExt as _, RetryConfig,
};
use tokio::io::AsyncWriteExt as _;
use tokio::runtime::Handle;
use tokio_util::io::StreamReader;

use super::{ArtifactError, ArtifactReader, folder_and_name};
use crate::location::S3Location;

/// Size of the parts of an upload: the smallest that S3 takes.
const PART_BYTES: usize = 5 * 1024 * 1024;

/// Parts of one upload under way at once. With the one that fills up, an upload holds 10 MiB at most.
const PARTS_AT_ONCE: usize = 1;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Time for an answer, and for each further piece of it. There is no limit on the whole: a device may take an hour for
/// an image, and what it does not take is not asked for.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// A request is tried again 3 times, after pauses of about 0.1 s, 0.4 s and 1.6 s, while the first is less than 20 s ago.
const RETRIES: usize = 3;
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LAST_PAUSE: Duration = Duration::from_secs(2);
const PAUSE_FACTOR: f64 = 4.0;
const RETRY_WINDOW: Duration = Duration::from_secs(20);

/// Artifacts below a prefix of a bucket.
#[derive(Clone, Debug)]
pub(crate) struct S3Artifacts {
    bucket: Arc<AmazonS3>,
    prefix: Path,
}

/// An object that is being written. Dropped before it is finished, it is given up in the background; what a process
/// leaves behind that ended meanwhile is the business of the bucket's lifecycle rules.
pub(super) struct S3Upload {
    /// `None` once it is being finished or given up.
    writer: Option<BufWriter>,
}

impl fmt::Debug for S3Upload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3Upload").finish_non_exhaustive()
    }
}

impl S3Artifacts {
    /// Opens a bucket and lists it once, so that a wrong name or credential is found at the start.
    pub(super) async fn open(location: &S3Location) -> Result<Self, Error> {
        // The HTTP client takes the process's provider. Another one that is set already is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let environment = AmazonS3Builder::from_env();
        let is_plain = [AmazonS3ConfigKey::Endpoint, AmazonS3ConfigKey::S3Endpoint]
            .iter()
            .filter_map(|key| environment.get_config_value(key))
            .any(|endpoint| endpoint.starts_with("http://"));
        let client = ClientOptions::new()
            .with_timeout_disabled()
            .with_connect_timeout(CONNECT_TIMEOUT)
            .with_read_timeout(READ_TIMEOUT)
            .with_allow_http(is_plain);
        let retry = RetryConfig {
            backoff: BackoffConfig { init_backoff: FIRST_PAUSE, max_backoff: LAST_PAUSE, base: PAUSE_FACTOR },
            max_retries: RETRIES,
            retry_timeout: RETRY_WINDOW,
        };
        let bucket = environment
            .with_bucket_name(location.bucket())
            .with_client_options(client)
            .with_retry(retry)
            .build()?;
        let prefix = Path::parse(location.prefix())?;
        bucket.list(Some(&prefix)).next().await.transpose()?;
        Ok(Self { bucket: Arc::new(bucket), prefix })
    }

    /// What failed while the bytes of an object came.
    pub(super) fn of_body(&self, error: io::Error) -> ArtifactError {
        of_stream(error).into()
    }

    /// Asks for an object that is not there.
    pub(super) async fn ping(&self) -> Result<(), Error> {
        if_there(self.bucket.head(&self.prefix.clone().join("ping")).await).map(|_| ())
    }

    fn path(&self, digest: Digest) -> Path {
        let (folder, name) = folder_and_name(digest);
        self.prefix.clone().join(folder).join(name)
    }

    pub(super) async fn size_bytes(&self, digest: Digest) -> Result<Option<u64>, Error> {
        Ok(if_there(self.bucket.head(&self.path(digest)).await)?.map(|object| object.size))
    }

    pub(super) async fn read(
        &self,
        digest: Digest,
        offset_bytes: u64,
        length_bytes: u64,
    ) -> Result<Option<ArtifactReader>, Error> {
        if length_bytes == 0 {
            // A range has at least one byte.
            return Ok(self
                .size_bytes(digest)
                .await?
                .map(|_| Box::pin(tokio::io::empty()) as ArtifactReader));
        }
        let range = GetRange::Bounded(offset_bytes..offset_bytes + length_bytes);
        let options = GetOptions { range: Some(range), ..GetOptions::default() };
        let Some(object) = if_there(self.bucket.get_opts(&self.path(digest), options).await)? else {
            return Ok(None);
        };
        Ok(Some(Box::pin(StreamReader::new(object.into_stream().map_err(io::Error::from)))))
    }

    pub(super) async fn remove(&self, digest: Digest) -> Result<(), Error> {
        if_there(self.bucket.delete(&self.path(digest)).await).map(|_| ())
    }

    pub(super) fn upload(&self, expected: Digest) -> S3Upload {
        let writer = BufWriter::with_capacity(self.bucket.clone(), self.path(expected), PART_BYTES)
            .with_max_concurrency(PARTS_AT_ONCE);
        S3Upload { writer: Some(writer) }
    }
}

impl S3Upload {
    pub(super) async fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        match &mut self.writer {
            Some(writer) => writer.write_all(bytes).await.map_err(of_stream),
            None => Ok(()),
        }
    }

    pub(super) async fn finish(mut self) -> Result<(), Error> {
        match self.writer.take() {
            Some(mut writer) => writer.shutdown().await.map_err(of_stream),
            None => Ok(()),
        }
    }
}

impl Drop for S3Upload {
    fn drop(&mut self) {
        let Some(mut writer) = self.writer.take() else { return };
        // Without a runtime the process is about to end.
        let Ok(runtime) = Handle::try_current() else { return };
        runtime.spawn(async move {
            // A multipart upload that is just beginning can only be given up once it has begun.
            let given_up = async {
                writer.flush().await?;
                writer.abort().await.map_err(io::Error::from)
            };
            if let Err(error) = given_up.await {
                tracing::warn!("the parts of a broken-off upload stay in the S3 store: {error}");
            }
        });
    }
}

/// Reader and writer hide what failed in an IO error.
fn of_stream(error: io::Error) -> Error {
    Error::Generic { store: "S3", source: error.into() }
}

/// No connection, or an answer such as 500, after it was asked several times.
pub(super) fn is_away(error: &Error) -> bool {
    matches!(error, Error::Generic { .. })
}

/// `None` for an object that is not there.
fn if_there<T>(result: Result<T, Error>) -> Result<Option<T>, Error> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(Error::NotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}
