//! What a device says after it acted on a decision.

use minicbor::bytes::ByteArray;
use minicbor::{Decode, Encode};

use crate::Outcome;

/// The result of acting on a decision, sent before hand-over so that the server need not wait for the next start.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Report {
    /// [`crate::PROTOCOL_VERSION`] of the updater.
    #[n(0)]
    pub protocol: u8,
    /// What happened.
    #[n(1)]
    pub outcome: Outcome,
    /// SHA-256 of the image that will be handed over to; `None` when no slot is bootable.
    #[n(2)]
    pub running_digest: Option<ByteArray<32>>,
    /// Bytes of artifact that this pit stop downloaded.
    #[n(3)]
    pub downloaded_bytes: Option<u32>,
    /// Bytes of flash that this pit stop erased.
    #[n(4)]
    pub erased_bytes: Option<u32>,
}
