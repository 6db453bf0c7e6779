//! The device's own signatures in CertificateVerify (RFC 8446 section 4.4.3).

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use p256::SecretKey;
use p256::ecdsa::Signature;
use p256::ecdsa::signature::Signer as _;
use p256::elliptic_curve::sec1::ToEncodedPoint as _;
use rustls::crypto::KeyProvider;
use rustls::sign::{Signer, SigningKey, public_key_to_spki};
use rustls::{Error, SignatureAlgorithm, SignatureScheme};
use rustls_pki_types::{PrivateKeyDer, SubjectPublicKeyInfoDer, alg_id};
use zeroize::Zeroize;

const SCHEME: SignatureScheme = SignatureScheme::ECDSA_NISTP256_SHA256;

/// Loads private keys of P-256 from PKCS#8 (RFC 5958), and wipes what they were read from.
#[derive(Debug)]
pub(crate) struct P256Keys;

impl KeyProvider for P256Keys {
    fn load_private_key(&self, mut key_der: PrivateKeyDer<'static>) -> Result<Arc<dyn SigningKey>, Error> {
        let secret = match &key_der {
            PrivateKeyDer::Pkcs8(der) => from_pkcs8(der.secret_pkcs8_der()),
            // RSA, SEC 1, or a form that rustls may add.
            _ => None,
        };
        key_der.zeroize();
        let expected = "expected a P-256 private key as PKCS#8 with its public half, found something else; \
                        enroll with one";
        let secret = secret.ok_or_else(|| Error::General(String::from(expected)))?;
        Ok(Arc::new(P256Key(Arc::new(secret.into()))))
    }
}

/// With the public half, which everybody writes, there is one shape (RFC 5958 section 2, RFC 5915 section 3): what comes
/// before the scalar, the scalar, what comes before the point, the point. The readers of every shape in p256 and sec1 are a
/// hundredth of the updater's slot.
fn from_pkcs8(der: &[u8]) -> Option<SecretKey> {
    let (scalar, rest) = der.strip_prefix(&BEFORE_SCALAR)?.split_first_chunk::<32>()?;
    let secret = SecretKey::from_slice(scalar).ok()?;
    let public = secret.public_key().to_encoded_point(false);
    (rest.strip_prefix(&BEFORE_POINT)? == public.as_bytes()).then_some(secret)
}

/// `SEQUENCE { INTEGER 0, SEQUENCE { ecPublicKey, prime256v1 }, OCTET STRING SEQUENCE { INTEGER 1, OCTET STRING`
const BEFORE_SCALAR: [u8; 36] = [
    0x30, 0x81, 0x87, 0x02, 0x01, 0x00, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01,
    0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x04, 0x6d, 0x30, 0x6b, 0x02, 0x01, 0x01,
    0x04, 0x20,
];

/// `[1] { BIT STRING`
const BEFORE_POINT: [u8; 5] = [0xa1, 0x44, 0x03, 0x42, 0x00];

/// A key that signs with the nonces of RFC 6979, so that a signature needs no random number.
struct P256Key(Arc<p256::ecdsa::SigningKey>);

impl core::fmt::Debug for P256Key {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("P256Key").finish_non_exhaustive()
    }
}

impl SigningKey for P256Key {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        let key = || -> Box<dyn Signer> { Box::new(Self(Arc::clone(&self.0))) };
        offered.contains(&SCHEME).then(key)
    }

    fn public_key(&self) -> Option<SubjectPublicKeyInfoDer<'_>> {
        let point = self.0.verifying_key().to_encoded_point(false);
        Some(public_key_to_spki(&alg_id::ECDSA_P256, point.as_bytes()))
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ECDSA
    }
}

impl Signer for P256Key {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        let signed: Result<Signature, _> = self.0.try_sign(message);
        let signature = signed.map_err(|_| Error::General(String::from("the device's key cannot sign")))?;
        Ok(signature.to_der().as_bytes().to_vec())
    }

    fn scheme(&self) -> SignatureScheme {
        SCHEME
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use p256::pkcs8::EncodePrivateKey;
    use std::format;

    /// The private key of RFC 6979 appendix A.2.5.
    const PRIVATE: &str = "c9afa9d845ba75166b5c215767b1d6934e50c3db36e89b127b8a622b120f6721";

    /// r and s of the signature of "sample" with SHA-256 there.
    const SIGNATURE: &str = "efd48b2aacb6a8fd1140dd9cd45e81d69d2c877b56aaf991c34d0ea84eaf3716\
                             f7cb1c942d657c41d436c7a1b6e29f65f3e900dbb9aff4064dc4ab2f843acda8";

    fn pkcs8() -> Vec<u8> {
        let secret = SecretKey::from_slice(&hex::decode(PRIVATE).unwrap()).unwrap();
        secret.to_pkcs8_der().unwrap().as_bytes().to_vec()
    }

    fn load(pkcs8: Vec<u8>) -> Result<Arc<dyn SigningKey>, Error> {
        P256Keys.load_private_key(PrivateKeyDer::Pkcs8(pkcs8.into()))
    }

    #[test]
    fn signs_as_in_rfc_6979() {
        let signer = load(pkcs8()).unwrap().choose_scheme(&[SignatureScheme::ED25519, SCHEME]).unwrap();
        let signature = Signature::from_der(&signer.sign(b"sample").unwrap()).unwrap();
        assert_eq!(hex::encode(signature.to_bytes()), SIGNATURE);
    }

    #[test]
    fn signs_with_nothing_but_ecdsa_p256_sha256() {
        let others = [SignatureScheme::ECDSA_NISTP384_SHA384, SignatureScheme::RSA_PSS_SHA256];
        assert!(load(pkcs8()).unwrap().choose_scheme(&others).is_none());
    }

    #[test]
    fn another_key_or_a_damaged_one_is_refused() {
        let p384 = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
        let rsa = PrivateKeyDer::Pkcs1(b"no key".to_vec().into());
        assert!(matches!(P256Keys.load_private_key(rsa), Err(Error::General(_))));
        let flipped = (0..8 * pkcs8().len()).map(|bit| {
            let mut key = pkcs8();
            key[bit / 8] ^= 1 << (bit % 8);
            key
        });
        let others = [p384.serialize_der(), b"no key".to_vec(), pkcs8()[1..].to_vec()];
        for key in flipped.chain(others) {
            assert!(matches!(load(key), Err(Error::General(_))));
        }
    }

    #[test]
    fn a_key_is_not_printed() {
        assert_eq!(format!("{:?}", load(pkcs8()).unwrap()), "P256Key { .. }");
    }
}
