//! HMAC with SHA-256 (RFC 2104).

use alloc::boxed::Box;
use core::hint::black_box;

use hmac::digest::KeyInit;
use hmac::{Hmac, Mac};
use rustls::crypto::hmac::{self as interface, Key, Tag};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::sha256::DIGEST_BYTES;

/// What SHA-256 digests at once, in bytes.
const BLOCK_BYTES: usize = 64;

/// HMAC-SHA256.
pub(crate) struct HmacSha256;

impl interface::Hmac for HmacSha256 {
    fn with_key(&self, key: &[u8]) -> Box<dyn Key> {
        Box::new(HmacKey::new(key))
    }

    fn hash_output_len(&self) -> usize {
        DIGEST_BYTES
    }
}

/// A key, as the two states of SHA-256 that follow from it.
struct HmacKey(Hmac<Sha256>);

impl HmacKey {
    /// A key is padded with zeros to a block, and digested first when it is longer (RFC 2104 section 2).
    fn new(key: &[u8]) -> Self {
        let mut block = Zeroizing::new([0; BLOCK_BYTES]);
        match block.get_mut(..key.len()) {
            Some(start) => start.copy_from_slice(key),
            None => block[..DIGEST_BYTES].copy_from_slice(&Sha256::digest(key)),
        }
        Self(<Hmac<Sha256> as KeyInit>::new((&*block).into()))
    }

    /// Puts states in place of the key's that anybody can compute.
    fn wipe(&mut self) {
        self.0 = <Hmac<Sha256> as KeyInit>::new(&[0; BLOCK_BYTES].into());
        // Nobody reads what is dropped next, so without this the compiler may not write it.
        black_box(&self.0);
    }
}

/// hmac 0.12 does not wipe itself.
impl Drop for HmacKey {
    fn drop(&mut self) {
        self.wipe();
    }
}

impl Key for HmacKey {
    fn sign_concat(&self, first: &[u8], middle: &[&[u8]], last: &[u8]) -> Tag {
        let mut mac = self.0.clone();
        mac.update(first);
        for part in middle {
            mac.update(part);
        }
        mac.update(last);
        Tag::new(&mac.finalize().into_bytes())
    }

    fn tag_len(&self) -> usize {
        DIGEST_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wiped_key_is_no_key() {
        let mut key = HmacKey::new(b"secret");
        let tag = key.sign(&[b"message"]);
        key.wipe();
        assert_ne!(key.sign(&[b"message"]).as_ref(), tag.as_ref());
        assert_eq!(key.sign(&[b"message"]).as_ref(), HmacKey::new(b"").sign(&[b"message"]).as_ref());
    }
}
