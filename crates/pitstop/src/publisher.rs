//! A publisher's public key, as options name it.

use std::path::Path;

use api::publisher_key::NewKey;
use manifest::PublisherKey;

use crate::failure::Failure;
use crate::keyfile;

/// Digits of a public key.
const KEY_DIGITS: usize = 2 * PublisherKey::BYTES;

/// Whose releases are accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Publisher {
    /// Whose key it is.
    pub(crate) name: String,
    /// The key.
    pub(crate) key: PublisherKey,
}

impl Publisher {
    /// Reads a key file, a public key file (PEM), or a public key as `[NAME=]HEX`.
    ///
    /// # Errors
    /// [`Failure`] when it is none of them.
    pub(crate) fn read(text: &str) -> Result<Self, Failure> {
        let (name, digits) = text.split_once('=').map_or((None, text), |(name, digits)| (Some(name), digits));
        let is_hex = !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        if !is_hex || Path::new(text).exists() {
            let (name, key) = keyfile::read_public(Path::new(text))?;
            return Ok(Self { name, key });
        }
        if digits.len() != KEY_DIGITS {
            return Err(Failure::usage(format!(
                "expected a key file, or a public key of {KEY_DIGITS} hexadecimal digits, found {}",
                digits.len()
            ))
            .hint("`pitstop keys show FILE` prints the public key"));
        }
        let key = hex::decode(digits).ok().and_then(|point| PublisherKey::from_sec1(&point).ok());
        let key = key.ok_or_else(|| {
            Failure::usage(format!("{digits} is no public key: not a point of the curve P-256"))
        })?;
        Ok(Self { name: name.map_or_else(|| hex::encode(key.id()), str::to_owned), key })
    }
}

impl From<Publisher> for NewKey {
    fn from(publisher: Publisher) -> Self {
        Self { name: publisher.name, key: hex::encode(publisher.key.to_sec1()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keyfile::KeyFile;
    use p256::pkcs8::{EncodePublicKey, LineEnding};

    fn key_digits() -> String {
        let secret = p256::SecretKey::from_slice(&[7; 32]).unwrap();
        hex::encode(manifest::PublisherSigningKey::new(secret).publisher_key().to_sec1())
    }

    #[test]
    fn keys_are_files_or_digits() {
        let digits = key_digits();
        let named = Publisher::read(&format!("bob={}", digits.to_uppercase())).unwrap();
        assert_eq!(NewKey::from(named), NewKey { name: "bob".to_owned(), key: digits.clone() });
        assert_eq!(Publisher::read(&digits).unwrap().name.len(), 16);

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("alice.key");
        let file = KeyFile::create(&path, "alice").unwrap();
        let read = Publisher::read(path.to_str().unwrap()).unwrap();
        assert_eq!(read, Publisher { name: "alice".to_owned(), key: file.public() });

        let public = p256::SecretKey::from_slice(&[7; 32]).unwrap().public_key();
        let path = folder.path().join("carol.pub");
        std::fs::write(&path, public.to_public_key_pem(LineEnding::LF).unwrap()).unwrap();
        let read = Publisher::read(path.to_str().unwrap()).unwrap();
        assert_eq!((read.name.as_str(), hex::encode(read.key.to_sec1())), ("carol", digits));
    }

    #[test]
    fn wrong_keys_are_refused() {
        let short = Publisher::read(&key_digits()[2..]).unwrap_err();
        assert!(short.message().contains("66 hexadecimal digits, found 64"), "{}", short.message());
        assert!(Publisher::read(&"f".repeat(66)).unwrap_err().message().contains("not a point"));
        let nowhere = Publisher::read("nowhere.key").unwrap_err();
        assert!(nowhere.message().contains("nowhere.key cannot be read"));
    }
}
