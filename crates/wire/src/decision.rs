//! What the server answers.

use alloc::vec::Vec;
use minicbor::bytes::ByteVec;
use minicbor::{Decode, Encode};

use crate::AnchorsDigest;

/// The answer to a check-in.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Decision {
    /// The server's clock, in seconds since 1970 (UTC). Raises the time floor.
    #[n(0)]
    pub server_time_s: u64,
    /// The signed manifest (COSE_Sign1) of the release to run; `None` when there is nothing to do.
    #[n(1)]
    pub manifest: Option<ByteVec>,
    /// Hint: when the server would like to hear from the device again, in seconds from now. An application
    /// that never resets is not disturbed by it.
    #[n(2)]
    pub next_check_s: Option<u32>,
    /// Hint: before the next try after a failure wait this long, in seconds.
    #[n(3)]
    pub backoff_s: Option<u32>,
    /// Digest of the trust anchors that EST `cacerts` gives, see [`crate::anchors_digest`]. A device that has others
    /// fetches them.
    #[n(4)]
    pub anchors: Option<AnchorsDigest>,
    /// Hint: the device should renew its certificate now, however much of its life is left.
    #[n(5)]
    pub renew: Option<bool>,
    /// Hint: the device's next renewal is to be with a new key.
    #[n(6)]
    pub rotate_key: Option<bool>,
}

impl Decision {
    /// The bytes of the signed manifest, when there is something to do.
    #[must_use]
    pub fn manifest_bytes(&self) -> Option<&[u8]> {
        self.manifest.as_ref().map(|bytes| bytes.as_slice())
    }

    /// A decision that offers `manifest`, or nothing, without hints.
    #[must_use]
    pub fn new(server_time_s: u64, manifest: Option<Vec<u8>>) -> Self {
        Self {
            server_time_s,
            manifest: manifest.map(ByteVec::from),
            next_check_s: None,
            backoff_s: None,
            anchors: None,
            renew: None,
            rotate_key: None,
        }
    }
}
