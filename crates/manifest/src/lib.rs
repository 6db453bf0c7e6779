//! What a publisher signs and a device verifies before it trusts a byte.
//!
//! A [`Manifest`] names one build for one product: its size, its digest, the digest of every chunk, and a
//! sequence number that never goes back. On the wire it is a COSE_Sign1 (RFC 9052 section 4.2, ES256) over
//! deterministic CBOR; its information elements are those of RFC 9124. The CDDL is in `docs/protocol.md`.
//!
//! Trust is a type: [`Signed<Manifest>`] gives away nothing but its bytes, and [`Signed::verify`] is the only
//! way from there to a [`Manifest`]. What a manifest may do to a device that runs something already is decided
//! by [`succession::judge`].

#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

extern crate alloc;

mod body;
mod cose;
mod digest;
mod keys;
mod sequence;
pub mod succession;

pub use body::{Artifact, CHUNK_BYTES, MAX_CHUNKS, Manifest, ManifestError};
#[cfg(feature = "sign")]
pub use cose::SignError;
pub use cose::{Signed, VerifyError};
pub use digest::Digest;
#[cfg(feature = "sign")]
pub use keys::PublisherSigningKey;
pub use keys::{KeyError, PublisherKey, PublisherKeys};
pub use sequence::Sequence;
