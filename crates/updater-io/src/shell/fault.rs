//! What a server may do wrong.

use alloc::format;
use alloc::string::String;

use crate::http::ContentRange;

/// An answer that no good server gives.
#[derive(Debug, thiserror::Error)]
pub enum ProtocolFault {
    /// Another status.
    #[error("expected status {expected} to {what}, found {found}")]
    Status {
        /// What was asked.
        what: &'static str,
        /// What a good server answers.
        expected: u16,
        /// What this one answered.
        found: u16,
        /// When to ask again, if it said so.
        retry_after_s: Option<u32>,
    },
    /// No such artifact.
    #[error("expected the artifact on the server, found status 404; publish the release again")]
    NoArtifact,
    /// Another part of the artifact.
    #[error(
        "expected bytes {first} to {last} of the artifact, found {}",
        found.map_or_else(|| "no Content-Range".into(), |found| format!("{} to {}", found.first, found.last))
    )]
    Range {
        /// First byte asked for.
        first: u64,
        /// Last byte asked for.
        last: u64,
        /// What the server says it sent.
        found: Option<ContentRange>,
    },
    /// Another length.
    #[error("expected a body of {expected_bytes} bytes, found {found_bytes}")]
    Length {
        /// What was asked for.
        expected_bytes: u64,
        /// What came.
        found_bytes: u64,
    },
    /// Too slow.
    #[error("expected an answer within {timeout_ms} ms, found none")]
    Timeout {
        /// The limit.
        timeout_ms: u64,
    },
    /// A name that no certificate can carry.
    #[error("expected a DNS name or an IP address as the server's name, found {found}")]
    ServerName {
        /// The name in the vault.
        found: String,
    },
}
