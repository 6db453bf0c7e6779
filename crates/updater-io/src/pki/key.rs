//! The device's key.

use alloc::vec::Vec;
use core::fmt;

use p256::SecretKey;
use p256::ecdsa::signature::Signer;
use p256::ecdsa::{DerSignature, SigningKey};
use p256::elliptic_curve::sec1::ToEncodedPoint;
use rand_core::CryptoRngCore;
use rustls::pki_types::alg_id;
use rustls::sign::public_key_to_spki;
use zeroize::Zeroizing;

use super::PkiError;

/// Length of a public key in bytes: an uncompressed point (SEC 1 section 2.3.3).
pub const PUBLIC_KEY_BYTES: usize = 65;

/// Length of a private key as PKCS#8 in bytes.
const PKCS8_BYTES: usize = BEFORE_SCALAR.len() + 32 + BEFORE_POINT.len() + PUBLIC_KEY_BYTES;

/// A P-256 key with its public half has one shape as PKCS#8: RFC 5958 section 2 around RFC 5915 section 3. Read and put
/// together by hand for that: p256's reader of every shape is a hundredth of the updater's slot. This is what comes before
/// the scalar: `SEQUENCE { INTEGER 0, SEQUENCE { ecPublicKey, prime256v1 }, OCTET STRING SEQUENCE { INTEGER 1, OCTET STRING`.
const BEFORE_SCALAR: [u8; 36] = [
    0x30, 0x81, 0x87, 0x02, 0x01, 0x00, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01,
    0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x04, 0x6d, 0x30, 0x6b, 0x02, 0x01, 0x01,
    0x04, 0x20,
];

/// And this before the public half: `[1] { BIT STRING`, no bit of it unused.
const BEFORE_POINT: [u8; 5] = [0xa1, 0x44, 0x03, 0x42, 0x00];

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

    /// Reads a key from PKCS#8 DER (RFC 5958) with its public half, which must be that of the private one.
    ///
    /// # Errors
    /// [`PkiError::BadKey`]
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, PkiError> {
        let (scalar, rest) = der
            .strip_prefix(&BEFORE_SCALAR)
            .and_then(<[u8]>::split_first_chunk::<32>)
            .ok_or(PkiError::BadKey)?;
        let key = SecretKey::from_slice(scalar).map(Self).map_err(|_| PkiError::BadKey)?;
        match rest.strip_prefix(&BEFORE_POINT) {
            Some(point) if point == key.public_key() => Ok(key),
            Some(_) | None => Err(PkiError::BadKey),
        }
    }

    /// The key as PKCS#8 DER with its public half.
    #[must_use]
    pub fn to_pkcs8(&self) -> Zeroizing<Vec<u8>> {
        let mut der = Zeroizing::new(Vec::with_capacity(PKCS8_BYTES));
        der.extend_from_slice(&BEFORE_SCALAR);
        der.extend_from_slice(Zeroizing::new(self.0.to_bytes()).as_ref());
        der.extend_from_slice(&BEFORE_POINT);
        der.extend_from_slice(&self.public_key());
        der
    }

    /// The public half as an uncompressed point.
    #[must_use]
    pub fn public_key(&self) -> [u8; PUBLIC_KEY_BYTES] {
        let mut bytes = [0; PUBLIC_KEY_BYTES];
        bytes.copy_from_slice(self.0.public_key().to_encoded_point(false).as_bytes());
        bytes
    }

    /// The public half as SubjectPublicKeyInfo in DER (RFC 5480 section 2).
    pub(super) fn public_key_info(&self) -> impl AsRef<[u8]> {
        public_key_to_spki(&alg_id::ECDSA_P256, self.public_key())
    }

    /// Signs with ECDSA and SHA-256; the nonce is derived from key and message (RFC 6979), so that a weak random
    /// number generator cannot give the key away.
    pub(super) fn sign(&self, message: &[u8]) -> DerSignature {
        SigningKey::from(&self.0).sign(message)
    }
}

/// Whether a key in PKCS#8 says that this is its public half, at its end. Whether it is costs the chip 0.1 s, and
/// [`DeviceKey::from_pkcs8`] says it.
pub(crate) fn names(pkcs8: &[u8], public_key: &[u8]) -> bool {
    pkcs8.last_chunk::<PUBLIC_KEY_BYTES>().is_some_and(|own| own == public_key)
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
        let stored = key.to_pkcs8();
        assert_eq!(stored.len(), PKCS8_BYTES);
        assert_eq!(DeviceKey::from_pkcs8(&stored).unwrap().public_key(), key.public_key());
        assert_eq!(alloc::format!("{key:?}"), "DeviceKey(..)");
    }

    /// Wherever a bit is wrong: in the shape, in the private half or in the public one.
    #[test]
    fn one_flipped_bit_or_another_length_is_no_key() {
        let stored = DeviceKey::generate(&mut Stuck(7)).unwrap().to_pkcs8();
        for bit in 0..8 * PKCS8_BYTES {
            let mut flipped = stored.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(DeviceKey::from_pkcs8(&flipped).unwrap_err(), PkiError::BadKey, "bit {bit}");
        }
        for length in 0..PKCS8_BYTES {
            assert_eq!(DeviceKey::from_pkcs8(&stored[..length]).unwrap_err(), PkiError::BadKey, "{length}");
        }
        let mut longer = stored.clone();
        longer.push(0);
        assert_eq!(DeviceKey::from_pkcs8(&longer).unwrap_err(), PkiError::BadKey);
    }
}
