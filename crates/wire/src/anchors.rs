//! The short name of a set of trust anchors.

use alloc::vec::Vec;
use minicbor::bytes::ByteArray;
use sha2::{Digest as _, Sha256};

/// Names a set of trust anchors: equal sets have equal digests.
pub type AnchorsDigest = ByteArray<8>;

/// The first 8 bytes of the SHA-256 over the certificates' own SHA-256 digests, in ascending order. `certificates`
/// are DER, in any order.
///
/// It tells a device that its anchors are not the server's. It is no proof of anything, so that 8 bytes are enough.
#[must_use]
pub fn anchors_digest<'a>(certificates: impl IntoIterator<Item = &'a [u8]>) -> AnchorsDigest {
    let mut digests: Vec<[u8; 32]> = certificates.into_iter().map(|der| Sha256::digest(der).into()).collect();
    digests.sort_unstable();
    let whole: [u8; 32] = Sha256::digest(digests.concat()).into();
    let mut short = [0; 8];
    short.iter_mut().zip(whole).for_each(|(to, from)| *to = from);
    short.into()
}
