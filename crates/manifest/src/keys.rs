//! Publisher keys: EC P-256, the only curve of ES256 (RFC 9053 section 2.1).

use alloc::vec::Vec;
use core::fmt;

use p256::ecdsa::VerifyingKey;

use crate::Digest;

/// The public half of a publisher's key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PublisherKey(VerifyingKey);

/// A publisher key that could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not a point of the curve.
    #[error(
        "expected a compressed P-256 point ({} bytes, SEC 1 section 2.3.3), found {found_bytes} bytes that are none",
        PublisherKey::BYTES
    )]
    NotAPoint {
        /// Length of what was found.
        found_bytes: usize,
    },
    /// A list of keys with a length that no number of keys has.
    #[error(
        "expected a multiple of {} bytes of publisher keys, found {found_bytes}; provision the device again",
        PublisherKey::BYTES
    )]
    PartialList {
        /// Length of what was found.
        found_bytes: usize,
    },
}

impl PublisherKey {
    /// Length of a key in bytes: a compressed point (SEC 1 section 2.3.3).
    pub const BYTES: usize = 33;

    /// Reads a compressed point.
    ///
    /// # Errors
    /// [`KeyError::NotAPoint`].
    pub fn from_sec1(bytes: &[u8]) -> Result<Self, KeyError> {
        let error = KeyError::NotAPoint { found_bytes: bytes.len() };
        // The library reads a third form of this length, without the sign of y (tag 5): a key would have two spellings.
        if bytes.len() != Self::BYTES || !matches!(bytes.first(), Some(2 | 3)) {
            return Err(error);
        }
        VerifyingKey::from_sec1_bytes(bytes).map(Self).map_err(|_| error)
    }

    /// The compressed point.
    #[must_use]
    pub fn to_sec1(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes.copy_from_slice(self.0.to_encoded_point(true).as_bytes());
        bytes
    }

    /// The key id: the first 8 bytes of the SHA-256 of the compressed point. It is a hint that saves a device
    /// from trying every key (RFC 9052 section 3.1, `kid`), and is no secret.
    #[must_use]
    pub fn id(self) -> [u8; 8] {
        let mut id = [0; 8];
        id.copy_from_slice(&Digest::of(&self.to_sec1()).0[..8]);
        id
    }

    pub(crate) fn verifying_key(&self) -> &VerifyingKey {
        &self.0
    }
}

impl fmt::Debug for PublisherKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublisherKey({})", Hex(&self.id()))
    }
}

struct Hex<'a>(&'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The publisher keys that a device trusts. In the vault: compressed points, one after the other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PublisherKeys(Vec<PublisherKey>);

impl PublisherKeys {
    /// Reads the vault's form.
    ///
    /// # Errors
    /// [`KeyError`] when the length is not a multiple of a key's, or a key is no point of the curve.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, KeyError> {
        let (keys, rest) = bytes.as_chunks::<{ PublisherKey::BYTES }>();
        if !rest.is_empty() {
            return Err(KeyError::PartialList { found_bytes: bytes.len() });
        }
        keys.iter().map(|key| PublisherKey::from_sec1(key)).collect::<Result<_, _>>().map(Self)
    }

    /// The vault's form.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        self.0.iter().flat_map(|key| key.to_sec1()).collect()
    }

    /// The keys.
    pub fn iter(&self) -> impl Iterator<Item = &PublisherKey> {
        self.0.iter()
    }

    /// Whether there is no key, so that nothing can be verified.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<PublisherKey> for PublisherKeys {
    fn from_iter<I: IntoIterator<Item = PublisherKey>>(keys: I) -> Self {
        Self(keys.into_iter().collect())
    }
}

/// The secret half of a publisher's key. It stays on the publisher's machine.
#[cfg(feature = "sign")]
pub struct PublisherSigningKey(p256::ecdsa::SigningKey);

#[cfg(feature = "sign")]
impl PublisherSigningKey {
    /// Wraps a P-256 secret key.
    #[must_use]
    pub fn new(key: p256::SecretKey) -> Self {
        Self(key.into())
    }

    /// The public half.
    #[must_use]
    pub fn publisher_key(&self) -> PublisherKey {
        PublisherKey(*self.0.verifying_key())
    }

    pub(crate) fn signing_key(&self) -> &p256::ecdsa::SigningKey {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_keys_round_trip_and_reject_rubbish() {
        let key = |seed: u8| {
            PublisherSigningKey::new(p256::SecretKey::from_slice(&[seed; 32]).unwrap()).publisher_key()
        };
        let keys: PublisherKeys = [key(1), key(2)].into_iter().collect();
        assert_eq!(PublisherKeys::from_bytes(&keys.to_bytes()), Ok(keys.clone()));
        assert_eq!(PublisherKeys::from_bytes(&[]), Ok(PublisherKeys::default()));
        assert_eq!(
            PublisherKeys::from_bytes(&keys.to_bytes()[1..]),
            Err(KeyError::PartialList { found_bytes: 65 })
        );
        assert_eq!(PublisherKeys::from_bytes(&[0xff; 33]), Err(KeyError::NotAPoint { found_bytes: 33 }));
        let mut compact = keys.to_bytes();
        compact[0] = 5;
        assert_eq!(PublisherKeys::from_bytes(&compact), Err(KeyError::NotAPoint { found_bytes: 33 }));
    }
}
