//! The check-in protocol between updater and server.
//!
//! One pit stop is one TLS connection. On it the updater sends a [`CheckIn`] (`POST /v1/check-in`) and receives
//! a [`Decision`]; when it installed or refused something, it sends a [`Report`] (`POST /v1/reports`) before it
//! hands over. Bodies are CBOR maps with small integer keys (RFC 8949), media type [`MEDIA_TYPE`]; the CDDL is
//! in `docs/protocol.md`.
//!
//! Room to grow: a reader skips keys that it does not know, and a missing optional key reads as `None`. Keys
//! and codes are append-only and never renumbered; `tests/golden/` holds the bytes of every version.

#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

extern crate alloc;

mod anchors;
mod check_in;
mod decision;
mod reason;
mod report;
mod text;

pub use anchors::{AnchorsDigest, anchors_digest};
pub use check_in::{CheckIn, HandOverStrategy, Outcome, PublisherId, ResetCause, Running, Slot};
pub use decision::Decision;
pub use reason::Reason;
pub use report::Report;
pub use text::is_printable;

use alloc::vec::Vec;
use core::fmt;

/// The protocol version that this crate speaks, sent as [`CheckIn::protocol`].
pub const PROTOCOL_VERSION: u8 = 1;

/// What a client with little memory offers as its application protocol (ALPN, RFC 7301): HTTP/1.1 in which the server
/// keeps to TLS records of [`SMALL_RECORD_BYTES`]. Who offers `http/1.1` alone gets records of any size that TLS
/// allows. It stands for RFC 8449's `record_size_limit`, which rustls cannot send or answer.
pub const SMALL_RECORDS_ALPN: &[u8] = b"pitstop/1";

/// Plaintext in one TLS record from the server at most, in bytes, for a client that offers [`SMALL_RECORDS_ALPN`].
pub const SMALL_RECORD_BYTES: usize = 2048;

/// Media type of every body (RFC 8949 section 9.5).
pub const MEDIA_TYPE: &str = "application/cbor";

/// Path of the check-in on the device listener.
pub const CHECK_IN_PATH: &str = "/v1/check-in";

/// Path of reports on the device listener.
pub const REPORTS_PATH: &str = "/v1/reports";

/// Path prefix of artifacts; the lower-case hexadecimal SHA-256 of the image follows.
pub const ARTIFACTS_PATH: &str = "/v1/artifacts/";

/// The longest check-in or report that a server needs to read, in bytes: two slots and all strings at their
/// longest stay below a quarter of it.
pub const MAX_REQUEST_BYTES: usize = 4096;

/// Application slots that a partition table has at most (ESP-IDF `esp_partition_subtype_t`: `ota_0` to `ota_15`). A server
/// keeps no more of a check-in.
pub const MAX_SLOTS: usize = 16;

/// Publisher keys that a check-in names at most; a server keeps no more of one.
pub const MAX_PUBLISHERS: usize = 16;

/// The longest decision that an updater accepts, in bytes: a manifest for 16 MB of flash lists 256 chunks of
/// 34 bytes each (8704), and the rest of the decision stays below 2 KiB.
pub const MAX_DECISION_BYTES: usize = 12 * 1024;

/// A body that is not what its type asks for.
#[derive(Debug)]
pub struct DecodeError {
    /// The type that was expected.
    expected: &'static str,
    source: minicbor::decode::Error,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "expected a {} in CBOR, found: {}", self.expected, self.source)
    }
}

impl core::error::Error for DecodeError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// A body of the protocol.
pub trait Message: Sized {
    /// Writes the body as deterministic CBOR (RFC 8949 section 4.2.1: integer keys in ascending order, shortest
    /// heads, definite lengths).
    fn to_cbor(&self) -> Vec<u8>;

    /// Reads a body; unknown keys are ignored, bytes after the body are refused.
    ///
    /// # Errors
    /// [`DecodeError`] when a required key is missing, a value has another type, or bytes are left over.
    fn from_cbor(bytes: &[u8]) -> Result<Self, DecodeError>;
}

macro_rules! message {
    ($($type:ident: $name:literal),*) => {$(
        impl Message for $type {
            fn to_cbor(&self) -> Vec<u8> {
                // Writing into a `Vec` has no way to fail (`Write::Error` is `Infallible`), and none of the
                // encoders of this crate reports an error of its own.
                minicbor::to_vec(self).unwrap_or_default()
            }

            fn from_cbor(bytes: &[u8]) -> Result<Self, DecodeError> {
                let mut decoder = minicbor::Decoder::new(bytes);
                let decoded = decoder.decode::<Self>().and_then(|message| {
                    if decoder.position() == bytes.len() {
                        Ok(message)
                    } else {
                        Err(minicbor::decode::Error::message("bytes after the end").at(decoder.position()))
                    }
                });
                decoded.map_err(|source| DecodeError { expected: $name, source })
            }
        }
    )*};
}

message!(CheckIn: "check-in", Decision: "decision", Report: "report");
