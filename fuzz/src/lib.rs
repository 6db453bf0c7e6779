//! The fuzz targets, and what several of them share.
//!
//! [`targets`] has all of them. The tests run each over its corpus and over inputs made of that; `fuzz_targets/` makes libFuzzer's
//! programs of them.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is how a target says what is wrong")]
#![allow(
    missing_docs,
    reason = "nobody but this package uses it, and what inputs are made of says its names"
)]

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
pub mod targets;
#[path = "../../crates/updater/tests/world/mod.rs"]
mod world;

use arbitrary::{Arbitrary, Unstructured};

pub use embassy_futures::block_on;

/// What libFuzzer makes of bytes; `None` when they are none, or too few.
pub fn read<'a, T: Arbitrary<'a>>(bytes: &'a [u8]) -> Option<T> {
    if bytes.len() < T::size_hint(0).0 {
        return None;
    }
    T::arbitrary_take_rest(Unstructured::new(bytes)).ok()
}

/// `data` without its first byte, and that byte: a target's choice of what to do with the rest.
pub fn choice(data: &[u8]) -> (u8, &[u8]) {
    data.split_first().map_or((0, data), |(first, rest)| (*first, rest))
}

/// `bytes` in pieces of at most so many bytes.
pub fn pieces(bytes: &[u8], piece_bytes: u8) -> impl Iterator<Item = &[u8]> {
    bytes.chunks(usize::from(piece_bytes).max(1))
}
