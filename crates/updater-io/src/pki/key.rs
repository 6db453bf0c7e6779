//! The device's key.

use alloc::vec::Vec;
use core::fmt;

use p256::SecretKey;
use p256::ecdsa::signature::Signer;
use p256::ecdsa::{DerSignature, SigningKey};
use p256::elliptic_curve::sec1::ToEncodedPoint;
use p256::pkcs8::{DecodePrivateKey, EncodePrivateKey, EncodePublicKey};
use rand_core::CryptoRngCore;
use zeroize::Zeroizing;

use super::PkiError;

/// Length of a public key in bytes: an uncompressed point (SEC 1 section 2.3.3).
pub const PUBLIC_KEY_BYTES: usize = 65;

/// A try fails for one random number in 2^32 (the order of P-256 is just below 2^256), so a second try that fails
/// says that the numbers are not random.
const MAX_TRIES: usize = 8;

/// The device's EC P-256 key. It is made on the device and never leaves it.
pub struct DeviceKey(SecretKey);

impl DeviceKey {
    /// Makes a key.
    ///
    /// # Errors
    /// [`PkiError::NoRandomness`]
    pub fn generate(rng: &mut impl CryptoRngCore) -> Result<Self, PkiError> {
        for _ in 0..MAX_TRIES {
            let mut scalar = Zeroizing::new([0; 32]);
            rng.try_fill_bytes(scalar.as_mut()).map_err(|_| PkiError::NoRandomness)?;
            if let Ok(key) = SecretKey::from_slice(scalar.as_ref()) {
                return Ok(Self(key));
            }
        }
        Err(PkiError::NoRandomness)
    }

    /// Reads a key from PKCS#8 DER (RFC 5958).
    ///
    /// # Errors
    /// [`PkiError::BadKey`]
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, PkiError> {
        SecretKey::from_pkcs8_der(der).map(Self).map_err(|_| PkiError::BadKey)
    }

    /// The key as PKCS#8 DER with its public half, about 140 bytes.
    ///
    /// # Errors
    /// [`PkiError::BadKey`], which no key that exists gives.
    pub fn to_pkcs8(&self) -> Result<Zeroizing<Vec<u8>>, PkiError> {
        self.0.to_pkcs8_der().map(|document| document.to_bytes()).map_err(|_| PkiError::BadKey)
    }

    /// The public half as an uncompressed point.
    #[must_use]
    pub fn public_key(&self) -> [u8; PUBLIC_KEY_BYTES] {
        let mut bytes = [0; PUBLIC_KEY_BYTES];
        bytes.copy_from_slice(self.0.public_key().to_encoded_point(false).as_bytes());
        bytes
    }

    /// The public half as SubjectPublicKeyInfo in DER (RFC 5480 section 2).
    pub(super) fn public_key_info(&self) -> Result<Vec<u8>, PkiError> {
        let document = self.0.public_key().to_public_key_der();
        document.map(|document| document.into_vec()).map_err(|_| PkiError::BadKey)
    }

    /// Signs with ECDSA and SHA-256; the nonce is derived from key and message (RFC 6979), so that a weak random
    /// number generator cannot give the key away.
    pub(super) fn sign(&self, message: &[u8]) -> DerSignature {
        SigningKey::from(&self.0).sign(message)
    }
}

impl fmt::Debug for DeviceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DeviceKey(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_core::{CryptoRng, Error, RngCore};

    /// Gives the same byte for ever.
    struct Stuck(u8);

    impl RngCore for Stuck {
        fn next_u32(&mut self) -> u32 {
            u32::from_ne_bytes([self.0; 4])
        }

        fn next_u64(&mut self) -> u64 {
            u64::from_ne_bytes([self.0; 8])
        }

        fn fill_bytes(&mut self, bytes: &mut [u8]) {
            bytes.fill(self.0);
        }

        fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Error> {
            bytes.fill(self.0);
            Ok(())
        }
    }

    impl CryptoRng for Stuck {}

    #[test]
    fn a_stuck_generator_is_an_error_and_not_an_endless_loop() {
        for stuck_at in [0, 0xff] {
            assert_eq!(DeviceKey::generate(&mut Stuck(stuck_at)).unwrap_err(), PkiError::NoRandomness);
        }
    }

    #[test]
    fn keys_survive_storage_and_stay_out_of_debug_output() {
        let key = DeviceKey::generate(&mut Stuck(7)).unwrap();
        let stored = key.to_pkcs8().unwrap();
        assert_eq!(DeviceKey::from_pkcs8(&stored).unwrap().public_key(), key.public_key());
        assert_eq!(DeviceKey::from_pkcs8(&stored[1..]).unwrap_err(), PkiError::BadKey);
        assert_eq!(alloc::format!("{key:?}"), "DeviceKey(..)");
    }
}
