//! The publisher's key file.
//!
//! PKCS#8 in PEM (RFC 5958, RFC 7468) as `openssl` writes it, unencrypted, for the curve P-256. Before the PEM
//! stand two lines of text, which PEM readers skip (RFC 7468 section 2): what the file is, and the publisher's name.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use manifest::{PublisherKey, PublisherSigningKey};
use p256::elliptic_curve::sec1::ToEncodedPoint;
use p256::pkcs8::{DecodePrivateKey, DecodePublicKey, EncodePrivateKey, LineEnding};
use p256::{PublicKey, SecretKey};
use rand::rngs::OsRng;

use crate::failure::Failure;

/// First line of a key file.
const TITLE: &str = "Pitstop publisher key. Keep it secret: who has it can publish to your devices.";

/// What stands before the publisher's name.
const NAME_LABEL: &str = "name: ";

/// A key file is below 300 bytes; this bounds what is read of another file given by mistake.
const MAX_FILE_BYTES: u64 = 16 * 1024;

/// The longest name, in bytes.
pub(crate) const MAX_NAME_BYTES: usize = 64;

/// A publisher's key and name.
pub(crate) struct KeyFile {
    /// Whose it is.
    pub(crate) name: String,
    /// The secret.
    pub(crate) key: PublisherSigningKey,
}

/// Why a key file could not be made or read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeyFileError {
    /// There is a file already.
    #[error("{} exists; a key is never overwritten", .path.display())]
    Exists {
        /// Which.
        path: PathBuf,
    },
    /// The file system refused.
    #[error("the key file {} cannot be {verb}: {source}", .path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// `read` or `written`.
        verb: &'static str,
        /// Why.
        source: io::Error,
    },
    /// Not what it should be.
    #[error("expected an unencrypted P-256 key (PKCS#8, PEM) in {}, found {found}", .path.display())]
    NoKey {
        /// Which file.
        path: PathBuf,
        /// What it seems to be.
        found: &'static str,
    },
    /// The key could not be encoded.
    #[error("the key cannot be encoded: {0}")]
    Encode(p256::pkcs8::Error),
}

impl KeyFile {
    /// Makes a key from the operating system's randomness and writes it to a new file that only its owner reads.
    ///
    /// # Errors
    /// [`KeyFileError::Exists`] when there is a file already, [`KeyFileError::Io`] when it cannot be written.
    pub(crate) fn create(path: &Path, name: &str) -> Result<Self, KeyFileError> {
        let secret = SecretKey::random(&mut OsRng);
        let pem = secret.to_pkcs8_pem(LineEnding::LF).map_err(KeyFileError::Encode)?;
        let written = create_private(path).and_then(|mut file| {
            write!(file, "{TITLE}\n{NAME_LABEL}{name}\n{}", pem.as_str())?;
            file.sync_all()
        });
        written.map_err(|source| match source.kind() {
            io::ErrorKind::AlreadyExists => KeyFileError::Exists { path: path.to_owned() },
            _ => KeyFileError::Io { path: path.to_owned(), verb: "written", source },
        })?;
        Ok(Self { name: name.to_owned(), key: PublisherSigningKey::new(secret) })
    }

    /// Reads a key file, one of `openssl` included. Its name is the one written in it, or the file's.
    ///
    /// # Errors
    /// [`KeyFileError::Io`], and [`KeyFileError::NoKey`] when something else is in it.
    pub(crate) fn read(path: &Path) -> Result<Self, KeyFileError> {
        let text = read_bounded(path).map_err(|source| KeyFileError::Io {
            path: path.to_owned(),
            verb: "read",
            source,
        })?;
        let secret = parse(&text).map_err(|found| KeyFileError::NoKey { path: path.to_owned(), found })?;
        Ok(Self { name: name_of(path, &text), key: PublisherSigningKey::new(secret) })
    }

    /// The public half.
    pub(crate) fn public(&self) -> PublisherKey {
        self.key.publisher_key()
    }
}

/// Name and public key in a key file, or in the PEM of a public key alone (RFC 5280 section 4.1.2.7), as `openssl pkey
/// -pubout` writes it.
///
/// # Errors
/// As [`KeyFile::read`].
pub(crate) fn read_public(path: &Path) -> Result<(String, PublisherKey), KeyFileError> {
    let text = read_bounded(path).map_err(|source| KeyFileError::Io {
        path: path.to_owned(),
        verb: "read",
        source,
    })?;
    let public = std::str::from_utf8(&text).ok().and_then(|text| PublicKey::from_public_key_pem(text).ok());
    let point = public.map(|public| public.to_encoded_point(true));
    match point.and_then(|point| PublisherKey::from_sec1(point.as_bytes()).ok()) {
        Some(key) => Ok((name_of(path, &text), key)),
        None => KeyFile::read(path).map(|file| (file.name.clone(), file.public())),
    }
}

/// The secret in the text of a key file, or what the text seems to be instead.
fn parse(text: &[u8]) -> Result<SecretKey, &'static str> {
    let text = std::str::from_utf8(text).map_err(|_| "something that is not text")?;
    let begins = |label: &str| text.contains(&format!("-----BEGIN {label}-----"));
    if begins("ENCRYPTED PRIVATE KEY") {
        return Err("an encrypted key");
    }
    if begins("EC PRIVATE KEY") {
        return Err("a key in SEC1 form");
    }
    if begins("PUBLIC KEY") {
        return Err("a public key");
    }
    if !begins("PRIVATE KEY") {
        return Err("no private key");
    }
    SecretKey::from_pkcs8_pem(text).map_err(|_| "a key of another kind, or a damaged one")
}

/// The publisher's name: the one in the file, or the file's.
fn name_of(path: &Path, text: &[u8]) -> String {
    let stem = || path.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
    name_in(text).unwrap_or_else(stem)
}

/// The publisher's name before the PEM.
fn name_in(text: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(text).ok()?;
    let preamble = text.split("-----BEGIN").next()?;
    let name = preamble.lines().find_map(|line| line.strip_prefix(NAME_LABEL))?.trim();
    (!name.is_empty() && name.len() <= MAX_NAME_BYTES).then(|| name.to_owned())
}

fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    use io::Read;

    let mut text = Vec::new();
    File::open(path)?.take(MAX_FILE_BYTES).read_to_end(&mut text)?;
    Ok(text)
}

/// A new file, mode 0600 from its first moment.
fn create_private(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600);
    }
    options.open(path)
}

impl KeyFileError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Exists { .. } => Some(
                "choose another file with --out; `pitstop keys show FILE` tells whose key it is".to_owned(),
            ),
            Self::Io { verb: "read", .. } => Some("make a key with `pitstop keys new`".to_owned()),
            Self::NoKey { path, found: "a key in SEC1 form" | "an encrypted key" } => Some(format!(
                "convert it: openssl pkcs8 -topk8 -nocrypt -in {} -out publisher.key",
                path.display()
            )),
            Self::NoKey { .. } => Some("make a key with `pitstop keys new`".to_owned()),
            Self::Io { .. } | Self::Encode(_) => None,
        }
    }
}

impl From<KeyFileError> for Failure {
    fn from(error: KeyFileError) -> Self {
        Failure::new(error.to_string()).maybe_hint(error.hint())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> &'static str {
        parse(text.as_bytes()).unwrap_err()
    }

    #[test]
    fn what_is_written_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("publisher.key");
        let made = KeyFile::create(&path, "alice").unwrap();
        let read = KeyFile::read(&path).unwrap();
        assert_eq!(read.name, "alice");
        assert_eq!(read.public(), made.public());
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
    }

    #[test]
    fn a_key_is_never_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("publisher.key");
        let first = KeyFile::create(&path, "alice").unwrap();
        assert!(matches!(KeyFile::create(&path, "bob"), Err(KeyFileError::Exists { .. })));
        assert_eq!(KeyFile::read(&path).unwrap().public(), first.public());
    }

    #[test]
    fn a_key_without_name_takes_that_of_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bob.pem");
        let pem = SecretKey::from_slice(&[7; 32]).unwrap().to_pkcs8_pem(LineEnding::LF).unwrap();
        std::fs::write(&path, pem.as_bytes()).unwrap();
        assert_eq!(KeyFile::read(&path).unwrap().name, "bob");
    }

    #[test]
    fn other_files_are_called_what_they_are() {
        assert_eq!(refused(""), "no private key");
        assert_eq!(refused("-----BEGIN EC PRIVATE KEY-----"), "a key in SEC1 form");
        assert_eq!(refused("-----BEGIN ENCRYPTED PRIVATE KEY-----"), "an encrypted key");
        assert_eq!(refused("-----BEGIN PUBLIC KEY-----"), "a public key");
        assert_eq!(
            refused("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"),
            "a key of another kind, or a damaged one"
        );
        assert_eq!(parse(&[0xff, 0xfe]).unwrap_err(), "something that is not text");
    }
}
