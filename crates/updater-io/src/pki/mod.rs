//! The device's key, its certificate request, and as much of X.509 and CMS as the device needs to read.
//!
//! Nothing here judges certificates: chains are verified by rustls. Reading is a walk over borrowed DER that never
//! panics and allocates nothing but lists.

mod certificate;
mod csr;
mod key;

pub use certificate::{
    LeafFacts, MAX_CERTIFICATES, certs_only, is_self_issued, leaf_facts, split_certificates,
};
pub use csr::{MAX_DEVICE_ID_BYTES, csr};
pub(crate) use key::names;
pub use key::{DeviceKey, PUBLIC_KEY_BYTES};

/// Why a key, a request or a certificate could not be made or read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PkiError {
    /// Server or vault: bytes that are not the DER (X.690) structure they should be.
    #[error("expected {expected} in DER, found something else")]
    Malformed {
        /// The structure that was expected.
        expected: &'static str,
    },
    /// Server or vault: more certificates than a chain or a set of trust anchors has.
    #[error("expected at most {} certificates, found more", MAX_CERTIFICATES)]
    TooManyCertificates,
    /// Server: a certificate for a key of another kind than the device has.
    #[error("expected a certificate for an EC P-256 key, found one for another kind of key")]
    NotP256,
    /// Vault: the device's key cannot be read.
    #[error(
        "expected the device's EC P-256 key as PKCS#8 with its public half, found something else; provision the device \
         again"
    )]
    BadKey,
    /// Device: the random number generator failed, or its numbers are no keys time after time.
    #[error("the random number generator does not deliver; the device cannot make a key")]
    NoRandomness,
    /// Vault: a device id that fits into no certificate.
    #[error(
        "expected a device id of 1 to {} bytes, found {found_bytes}; provision the device again",
        MAX_DEVICE_ID_BYTES
    )]
    BadDeviceId {
        /// Its length.
        found_bytes: usize,
    },
}
