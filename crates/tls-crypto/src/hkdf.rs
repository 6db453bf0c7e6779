//! HKDF with SHA-256 (RFC 5869), the key schedule of TLS 1.3 (RFC 8446 section 7.1).

use alloc::boxed::Box;

use rustls::crypto::hmac::{Hmac, Tag};
use rustls::crypto::tls13::{Hkdf, HkdfExpander, HkdfUsingHmac, OkmBlock};

use crate::hmac::HmacSha256;
use crate::sha256::DIGEST_BYTES;

/// HKDF-Expand and HMAC as rustls makes them from an HMAC. Its HKDF-Extract leaves the extracted key in freed memory,
/// so that step is our own.
const OVER_HMAC: HkdfUsingHmac<'static> = HkdfUsingHmac(&HmacSha256);

/// A salt or a secret that is not there stands for this (RFC 5869 section 2.2, RFC 8446 section 7.1).
const ZEROS: [u8; DIGEST_BYTES] = [0; DIGEST_BYTES];

/// HKDF-SHA256.
pub(crate) struct HkdfSha256;

impl Hkdf for HkdfSha256 {
    fn extract_from_zero_ikm(&self, salt: Option<&[u8]>) -> Box<dyn HkdfExpander> {
        self.extract_from_secret(salt, &ZEROS)
    }

    fn extract_from_secret(&self, salt: Option<&[u8]>, secret: &[u8]) -> Box<dyn HkdfExpander> {
        // Tag and block wipe themselves.
        let extracted = HmacSha256.with_key(salt.unwrap_or(&ZEROS)).sign(&[secret]);
        self.expander_for_okm(&OkmBlock::new(extracted.as_ref()))
    }

    fn expander_for_okm(&self, okm: &OkmBlock) -> Box<dyn HkdfExpander> {
        OVER_HMAC.expander_for_okm(okm)
    }

    fn hmac_sign(&self, key: &OkmBlock, message: &[u8]) -> Tag {
        OVER_HMAC.hmac_sign(key, message)
    }
}
