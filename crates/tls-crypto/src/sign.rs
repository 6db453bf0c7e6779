//! The device's own signatures in CertificateVerify (RFC 8446 section 4.4.3).

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use p256::ecdsa::Signature;
use p256::ecdsa::signature::Signer as _;
use p256::pkcs8::{AssociatedOid, DecodePrivateKey};
use p256::{NistP256, SecretKey};
use rustls::crypto::KeyProvider;
use rustls::sign::{Signer, SigningKey, public_key_to_spki};
use rustls::{Error, SignatureAlgorithm, SignatureScheme};
use rustls_pki_types::{PrivateKeyDer, SubjectPublicKeyInfoDer, alg_id};
use sec1::EcPrivateKey;
use sec1::der::Decode;
use zeroize::Zeroize;

const SCHEME: SignatureScheme = SignatureScheme::ECDSA_NISTP256_SHA256;

/// Loads private keys of P-256 from PKCS#8 (RFC 5958) or SEC 1 (RFC 5915), and wipes what they were read from.
#[derive(Debug)]
pub(crate) struct P256Keys;

impl KeyProvider for P256Keys {
    fn load_private_key(&self, mut key_der: PrivateKeyDer<'static>) -> Result<Arc<dyn SigningKey>, Error> {
        let secret = match &key_der {
            PrivateKeyDer::Pkcs8(der) => SecretKey::from_pkcs8_der(der.secret_pkcs8_der()).ok(),
            PrivateKeyDer::Sec1(der) => from_sec1_der(der.secret_sec1_der()),
            // RSA, or a form that rustls may add: not P-256.
            _ => None,
        };
        key_der.zeroize();
        let expected =
            "expected a P-256 private key as PKCS#8 or SEC 1 DER, found something else; enroll with one";
        let secret = secret.ok_or_else(|| Error::General(String::from(expected)))?;
        Ok(Arc::new(P256Key(Arc::new(secret.into()))))
    }
}

/// p256 0.13 does not look at the curve that a SEC 1 key names.
fn from_sec1_der(der: &[u8]) -> Option<SecretKey> {
    let key = EcPrivateKey::from_der(der).ok()?;
    let curve = key.parameters.and_then(|parameters| parameters.named_curve());
    if curve.is_some_and(|curve| curve != NistP256::OID) {
        return None;
    }
    SecretKey::try_from(key).ok()
}

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
    use p256::pkcs8::der::asn1::ObjectIdentifier;
    use sec1::EcParameters;
    use sec1::der::Encode;
    use std::format;

    /// The private key of RFC 6979 appendix A.2.5.
    const PRIVATE: &str = "c9afa9d845ba75166b5c215767b1d6934e50c3db36e89b127b8a622b120f6721";

    /// r and s of the signature of "sample" with SHA-256 there.
    const SIGNATURE: &str = "efd48b2aacb6a8fd1140dd9cd45e81d69d2c877b56aaf991c34d0ea84eaf3716\
                             f7cb1c942d657c41d436c7a1b6e29f65f3e900dbb9aff4064dc4ab2f843acda8";

    fn sec1(curve: Option<ObjectIdentifier>) -> PrivateKeyDer<'static> {
        let parameters = curve.map(EcParameters::NamedCurve);
        let private_key = &hex::decode(PRIVATE).unwrap()[..];
        let key = EcPrivateKey { private_key, parameters, public_key: None };
        PrivateKeyDer::Sec1(key.to_der().unwrap().into())
    }

    #[test]
    fn signs_as_in_rfc_6979() {
        let secret = SecretKey::from_slice(&hex::decode(PRIVATE).unwrap()).unwrap();
        let pkcs8 = PrivateKeyDer::Pkcs8(secret.to_pkcs8_der().unwrap().as_bytes().to_vec().into());
        for key in [pkcs8, sec1(None), sec1(Some(NistP256::OID))] {
            let key = P256Keys.load_private_key(key).unwrap();
            let signer = key.choose_scheme(&[SignatureScheme::ED25519, SCHEME]).unwrap();
            let signature = Signature::from_der(&signer.sign(b"sample").unwrap()).unwrap();
            assert_eq!(hex::encode(signature.to_bytes()), SIGNATURE);
        }
    }

    #[test]
    fn signs_with_nothing_but_ecdsa_p256_sha256() {
        let key = P256Keys.load_private_key(sec1(None)).unwrap();
        let others = [SignatureScheme::ECDSA_NISTP384_SHA384, SignatureScheme::RSA_PSS_SHA256];
        assert!(key.choose_scheme(&others).is_none());
    }

    #[test]
    fn a_key_of_another_curve_is_refused() {
        let secp256k1 = ObjectIdentifier::new_unwrap("1.3.132.0.10");
        let p384 = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
        let rubbish = PrivateKeyDer::Pkcs8(b"no key".to_vec().into());
        let rsa = PrivateKeyDer::Pkcs1(b"no key".to_vec().into());
        for key in [sec1(Some(secp256k1)), PrivateKeyDer::Pkcs8(p384.serialize_der().into()), rubbish, rsa] {
            assert!(matches!(P256Keys.load_private_key(key), Err(Error::General(_))));
        }
    }

    #[test]
    fn a_key_is_not_printed() {
        let key = P256Keys.load_private_key(sec1(None)).unwrap();
        assert_eq!(format!("{key:?}"), "P256Key { .. }");
    }
}
