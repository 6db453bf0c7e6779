//! Sequence numbers.

use core::fmt;

use minicbor::{Decode, Encode};

/// The sequence number of a release within its product (RFC 9124 section 3.2). It never goes back on a device,
/// unless a signed revert says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Encode, Decode)]
#[cbor(transparent)]
pub struct Sequence(#[n(0)] pub u64);

impl fmt::Display for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
