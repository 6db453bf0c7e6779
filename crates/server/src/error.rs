//! Why a server did not start.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::location::S3Location;
use crate::store::StoreError;

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
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
    /// Another server uses the data directory.
    #[error("another server uses {}; stop it, or choose another data directory", path.display())]
    Locked {
        /// The data directory.
        path: PathBuf,
    },
    /// There is no name to put into the TLS certificate.
    #[error("expected at least one server name, found none; give the name that devices connect to")]
    NoServerName,
    /// The clock shows a time at which no CA can be made.
    #[error(
        "expected a clock that shows 2026 or later, found {found}: a CA that is made now would have ended by the time \
         the clock is right; set the machine's clock"
    )]
    Clock {
        /// What it shows.
        found: String,
    },
    /// A certificate could not be made or read.
    #[error("could not {action}: {source}")]
    Certificate {
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        source: rcgen::Error,
    },
    /// A certificate file is not what it should be.
    #[error("expected {expected} in {}; restore it from a backup", path.display())]
    CertificateFile {
        /// What should be in it.
        expected: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// The database belongs to another CA.
    #[error(
        "the database's devices trust the CA with the SHA-256 {expected}, found {} in {}; \
         copy the directory `ca` of the instance that made the database there",
        found.as_deref().unwrap_or("none"),
        path.display()
    )]
    OtherCa {
        /// Where the CA was looked for.
        path: PathBuf,
        /// SHA-256 of the CA's certificate that the database names.
        expected: String,
        /// SHA-256 of the one that is there.
        found: Option<String>,
    },
    /// A key that others than its owner may read.
    #[error(
        "expected a key that only its owner may read, found mode {mode:04o}; make sure that nobody has read it, then \
         run: chmod 600 {}",
        path.display()
    )]
    KeyMode {
        /// The key's file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// TLS could not be set up.
    #[error("could not set up TLS: {0}")]
    Tls(String),
    /// The database could not be opened or brought up to date.
    #[error("could not open the database: {0}")]
    Database(String),
    /// The program lacks what the configuration asks for.
    #[error(
        "this program was built without {what}; build it with `cargo build --release --features {feature}`"
    )]
    NotBuilt {
        /// What is asked for.
        what: &'static str,
        /// The feature that brings it.
        feature: &'static str,
    },
    /// The S3 store could not be used.
    #[error(
        "could not use the S3 store {location}: {reason}; see that the bucket is there, and that AWS_ENDPOINT_URL, \
         AWS_REGION, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are right"
    )]
    S3 {
        /// Bucket and prefix.
        location: S3Location,
        /// Why it failed.
        reason: String,
    },
    /// The threads of the admin listener could not be started.
    #[error("could not start threads: {source}")]
    Threads {
        /// Why it failed.
        source: std::io::Error,
    },
    /// An address could not be listened on.
    #[error("could not listen on {addr}: {source}")]
    Listen {
        /// The address.
        addr: SocketAddr,
        /// Why it failed.
        source: io::Error,
    },
}

impl StartError {
    /// Names the file of an IO error.
    pub(crate) fn file(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { action, path, source }
    }

    /// Names the step of a certificate error.
    pub(crate) fn certificate(action: &'static str) -> impl FnOnce(rcgen::Error) -> Self {
        move |source| Self::Certificate { action, source }
    }
}

impl From<StoreError> for StartError {
    fn from(error: StoreError) -> Self {
        Self::Database(error.to_string())
    }
}
