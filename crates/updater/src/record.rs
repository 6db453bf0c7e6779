//! The install record: what the vault says is installed. It is written last, and by one NVS item, so that it
//! names either the release before or the release after an install, never something between.

use alloc::string::String;
use alloc::vec::Vec;

use manifest::succession::Installed;
use manifest::{Digest, Manifest, Sequence};
use minicbor::{Decode, Encode};

use crate::slot::SlotIndex;

/// What Pitstop installed last. CBOR map; keys are append-only.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct InstallRecord {
    /// Sequence number; also the floor under which nothing is accepted without a signed revert.
    #[n(0)]
    pub sequence: Sequence,
    /// SHA-256 of the image.
    #[n(1)]
    pub digest: Digest,
    /// Slot that holds it.
    #[n(2)]
    pub slot: SlotIndex,
    /// Version for people.
    #[n(3)]
    pub version: String,
    /// Releases that the installed manifest allows to return to.
    #[n(4)]
    pub revert_to: Vec<Sequence>,
}

impl InstallRecord {
    /// The record of `manifest` in `slot`.
    #[must_use]
    pub fn of(manifest: &Manifest, slot: SlotIndex) -> Self {
        Self {
            sequence: manifest.sequence,
            digest: manifest.artifact.digest,
            slot,
            version: manifest.version.clone(),
            revert_to: manifest.reverts().to_vec(),
        }
    }

    /// The bytes for the vault.
    #[must_use]
    pub fn to_cbor(&self) -> Vec<u8> {
        // Writing into a `Vec` has no way to fail.
        minicbor::to_vec(self).unwrap_or_default()
    }

    /// Reads the vault's bytes.
    ///
    /// # Errors
    /// The decoder's, when the bytes are no record.
    pub fn from_cbor(bytes: &[u8]) -> Result<Self, minicbor::decode::Error> {
        minicbor::decode(bytes)
    }

    pub(crate) fn installed(&self) -> Installed<'_> {
        Installed { sequence: self.sequence, digest: self.digest, revert_to: &self.revert_to }
    }
}
