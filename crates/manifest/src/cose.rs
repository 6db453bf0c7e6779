//! COSE_Sign1 (RFC 9052 section 4.2) with ES256 (RFC 9053 section 2.1).
//!
//! Written on `minicbor`, because a device needs just this one message with this one algorithm; the tests hold
//! it against the crate `coset` in both directions.

use alloc::vec::Vec;
use core::convert::Infallible;
use core::marker::PhantomData;

use minicbor::data::{Tag, Type};
use minicbor::encode::Write;
use minicbor::{Decoder, Encoder};
use p256::ecdsa::Signature;
use p256::ecdsa::signature::hazmat::PrehashVerifier;
use sha2::{Digest as _, Sha256};

use crate::{Manifest, ManifestError, PublisherKeys};

/// CBOR tag of COSE_Sign1 (RFC 9052 table 1).
const TAG_SIGN1: u64 = 18;
/// Header parameter `alg` (RFC 9052 table 3).
const HEADER_ALG: i64 = 1;
#[cfg(feature = "sign")]
/// Header parameter `kid` (RFC 9052 table 3).
const HEADER_KID: i64 = 4;
/// Algorithm ES256 (RFC 9053 table 1).
const ALG_ES256: i64 = -7;
#[cfg(feature = "sign")]
/// The protected header that is written: `{1: -7}`.
const PROTECTED_ES256: [u8; 3] = [0xa1, 0x01, 0x26];

/// A signed value whose signature has not been checked: it gives away nothing but its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed<T> {
    bytes: Vec<u8>,
    holds: PhantomData<fn() -> T>,
}

/// Why a signed manifest is not trusted.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// Not the expected structure.
    #[error("expected a COSE_Sign1 with a manifest in it: {0}")]
    Malformed(#[from] minicbor::decode::Error),
    /// Another signature algorithm.
    #[error("expected the algorithm ES256 ({ALG_ES256}), found {found}")]
    Algorithm {
        /// The COSE algorithm number found.
        found: i64,
    },
    /// No key fits.
    #[error("no publisher key of this device verifies the signature; sign with a key of the product")]
    Signature,
    /// The signature is right, the manifest is not.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
}

/// A manifest that cannot be signed.
#[cfg(feature = "sign")]
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// The manifest contradicts itself.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The key could not sign.
    #[error("the key could not sign: {0}")]
    Key(p256::ecdsa::Error),
}

/// A COSE_Sign1 taken apart, all of it borrowed from the message.
struct Sign1<'a> {
    protected: &'a [u8],
    payload: &'a [u8],
    signature: &'a [u8],
}

impl Signed<Manifest> {
    /// Wraps bytes from the wire; nothing is checked until [`Signed::verify`].
    #[must_use]
    pub fn from_bytes(bytes: Vec<u8>) -> Self {
        Self { bytes, holds: PhantomData }
    }

    /// The bytes for the wire.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Checks the signature and then the manifest itself.
    ///
    /// # Errors
    /// [`VerifyError`]: malformed, another algorithm, no key of `keys` verifies, or the manifest contradicts
    /// itself. Nothing inside the payload is looked at before the signature is right.
    pub fn verify(&self, keys: &PublisherKeys) -> Result<Manifest, VerifyError> {
        let message = Sign1::parse(&self.bytes)?;
        let algorithm = algorithm(message.protected)?;
        if algorithm != ALG_ES256 {
            return Err(VerifyError::Algorithm { found: algorithm });
        }
        let signature = Signature::from_slice(message.signature).map_err(|_| VerifyError::Signature)?;
        let to_be_signed = sig_structure_digest(message.protected, message.payload);
        // `kid` is a hint from outside; with the handful of keys of a product trying each is simpler.
        if !keys.iter().any(|key| key.verifying_key().verify_prehash(&to_be_signed, &signature).is_ok()) {
            return Err(VerifyError::Signature);
        }
        let mut decoder = Decoder::new(message.payload);
        let manifest: Manifest = decoder.decode()?;
        expect_end(&decoder)?;
        manifest.check()?;
        Ok(manifest)
    }
}

#[cfg(feature = "sign")]
impl Signed<Manifest> {
    /// Signs a manifest with a deterministic signature (RFC 6979).
    ///
    /// # Errors
    /// [`SignError`] when the manifest contradicts itself or the key cannot sign.
    pub fn sign(manifest: &Manifest, key: &crate::PublisherSigningKey) -> Result<Self, SignError> {
        use p256::ecdsa::signature::hazmat::PrehashSigner;

        manifest.check()?;
        // Encoding into a `Vec` cannot fail.
        let payload = minicbor::to_vec(manifest).unwrap_or_default();
        let signature: Signature = key
            .signing_key()
            .sign_prehash(&sig_structure_digest(&PROTECTED_ES256, &payload))
            .map_err(SignError::Key)?;
        let mut bytes = Vec::new();
        encode(&mut bytes, |encoder| {
            encoder.tag(Tag::new(TAG_SIGN1))?.array(4)?;
            encoder.bytes(&PROTECTED_ES256)?;
            encoder.map(1)?.i64(HEADER_KID)?.bytes(&key.publisher_key().id())?;
            encoder.bytes(&payload)?.bytes(&signature.to_bytes())?;
            Ok(())
        });
        Ok(Self::from_bytes(bytes))
    }
}

impl<'a> Sign1<'a> {
    /// Parses `COSE_Sign1_Tagged` or `COSE_Sign1` (RFC 9052 section 4.2). The payload must be attached.
    fn parse(bytes: &'a [u8]) -> Result<Self, minicbor::decode::Error> {
        let mut decoder = Decoder::new(bytes);
        if decoder.datatype()? == Type::Tag && decoder.tag()? != Tag::new(TAG_SIGN1) {
            return Err(minicbor::decode::Error::message("another tag than COSE_Sign1"));
        }
        if decoder.array()? != Some(4) {
            return Err(minicbor::decode::Error::message("not an array of four"));
        }
        let protected = decoder.bytes()?;
        // The unprotected header holds only hints.
        if decoder.datatype()? != Type::Map {
            return Err(minicbor::decode::Error::type_mismatch(decoder.datatype()?));
        }
        decoder.skip()?;
        let payload = decoder.bytes()?;
        let signature = decoder.bytes()?;
        expect_end(&decoder)?;
        Ok(Self { protected, payload, signature })
    }
}

/// The algorithm named in a protected header. A header with anything else in it is refused: what is protected
/// and not understood may be critical (RFC 9052 section 3.1, `crit`).
fn algorithm(protected: &[u8]) -> Result<i64, minicbor::decode::Error> {
    let mut decoder = Decoder::new(protected);
    if decoder.map()? != Some(1) || decoder.i64()? != HEADER_ALG {
        return Err(minicbor::decode::Error::message("a protected header with more than the algorithm"));
    }
    let algorithm = decoder.i64()?;
    expect_end(&decoder)?;
    Ok(algorithm)
}

fn expect_end(decoder: &Decoder<'_>) -> Result<(), minicbor::decode::Error> {
    if decoder.position() == decoder.input().len() {
        Ok(())
    } else {
        Err(minicbor::decode::Error::message("bytes after the end").at(decoder.position()))
    }
}

/// SHA-256 of the bytes that are signed (RFC 9052 section 4.4): `["Signature1", protected, external_aad, payload]`.
/// They are hashed as they are written, so that a long manifest is not in memory once more.
fn sig_structure_digest(protected: &[u8], payload: &[u8]) -> [u8; 32] {
    let mut hash = Hash(Sha256::new());
    encode(&mut hash, |encoder| {
        encoder.array(4)?.str("Signature1")?.bytes(protected)?.bytes(&[])?.bytes(payload)?;
        Ok(())
    });
    hash.0.finalize().into()
}

struct Hash(Sha256);

impl Write for Hash {
    type Error = Infallible;

    fn write_all(&mut self, bytes: &[u8]) -> Result<(), Infallible> {
        self.0.update(bytes);
        Ok(())
    }
}

type EncodeResult = Result<(), minicbor::encode::Error<Infallible>>;

/// Writes to something that takes everything.
fn encode<W: Write<Error = Infallible>>(to: W, write: impl FnOnce(&mut Encoder<W>) -> EncodeResult) {
    let written = write(&mut Encoder::new(to));
    debug_assert!(written.is_ok(), "the encoders used here have no errors of their own");
}
