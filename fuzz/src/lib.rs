//! What several fuzz targets share.

#![forbid(unsafe_code)]

pub mod engine;
/// NOR flash in memory; a write over bytes that are not erased panics.
#[path = "../../crates/updater-io/tests/support/flash.rs"]
pub mod flash;
pub mod image;
pub mod nvs;
/// Certificate authorities, servers and devices.
#[path = "../../crates/updater-io/tests/support/pki.rs"]
pub mod pki;
/// A byte stream that reads what it is told.
#[path = "../../crates/updater-io/tests/support/stream.rs"]
pub mod stream;

pub use embassy_futures::block_on;

/// `data` without its first byte, and that byte: a target's choice of what to do with the rest.
pub fn choice(data: &[u8]) -> (u8, &[u8]) {
    data.split_first().map_or((0, data), |(first, rest)| (*first, rest))
}

/// `bytes` in pieces of at most so many bytes.
pub fn pieces(bytes: &[u8], piece_bytes: u8) -> impl Iterator<Item = &[u8]> {
    bytes.chunks(usize::from(piece_bytes).max(1))
}
