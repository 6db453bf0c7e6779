//! Chunks of artifacts that were sent a moment ago: in a rollout thousands of devices ask for the same ones.

use std::io;
use std::num::NonZeroU64;
use std::sync::{Mutex, PoisonError};

use axum::body::Bytes;
use hashlink::LruCache;
use manifest::{CHUNK_BYTES, Digest};
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// Chunks that are kept: 16 MiB, a release or two for each of a few products.
const KEPT: usize = 256;

/// The chunks asked for last. An artifact never changes, so that what is kept is right for ever.
pub(crate) struct Chunks(Mutex<LruCache<Place, Bytes>>);

/// Where a chunk is: the artifact, its number, its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    artifact: Digest,
    number: u64,
    length_bytes: NonZeroU64,
}

impl Place {
    /// Of a part of an artifact that is a chunk, as updaters ask for it: 64 KiB, or what is left at the end.
    pub(crate) fn of(artifact: Digest, size_bytes: u64, first_byte: u64, length_bytes: u64) -> Option<Self> {
        let chunk_bytes = u64::from(CHUNK_BYTES);
        let is_chunk = first_byte.is_multiple_of(chunk_bytes)
            && length_bytes == chunk_bytes.min(size_bytes.saturating_sub(first_byte));
        let length_bytes = NonZeroU64::new(length_bytes).filter(|_| is_chunk)?;
        Some(Self { artifact, number: first_byte / chunk_bytes, length_bytes })
    }
}

impl Default for Chunks {
    fn default() -> Self {
        Self(Mutex::new(LruCache::new(KEPT)))
    }
}

impl Chunks {
    pub(crate) fn get(&self, place: &Place) -> Option<Bytes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(place).cloned()
    }

    /// Forgets all of them.
    pub(crate) fn forget(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Reads a chunk and keeps it.
    pub(crate) async fn read(&self, place: Place, mut reader: impl AsyncRead + Unpin) -> io::Result<Bytes> {
        let mut bytes = Vec::with_capacity(CHUNK_BYTES as usize);
        reader.read_to_end(&mut bytes).await?;
        if bytes.len() as u64 != place.length_bytes.get() {
            let message =
                format!("expected {} bytes of {}, found {}", place.length_bytes, place.artifact, bytes.len());
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, message));
        }
        let bytes = Bytes::from(bytes);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(place, bytes.clone());
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHUNK: u64 = CHUNK_BYTES as u64;

    #[test]
    fn a_chunk_is_what_updaters_ask_for() {
        let artifact = Digest([1; 32]);
        let size_bytes = 2 * CHUNK + 100;
        let is_chunk =
            |first_byte, length_bytes| Place::of(artifact, size_bytes, first_byte, length_bytes).is_some();
        assert!(is_chunk(0, CHUNK) && is_chunk(CHUNK, CHUNK) && is_chunk(2 * CHUNK, 100));
        assert!(
            !is_chunk(1, CHUNK)
                && !is_chunk(0, CHUNK - 1)
                && !is_chunk(0, 2 * CHUNK)
                && !is_chunk(2 * CHUNK, 99)
        );
        assert!(!is_chunk(3 * CHUNK, 0) && !is_chunk(0, size_bytes));
        assert_eq!(Place::of(artifact, 100, 0, 100), Place::of(artifact, 100, 0, 100));
    }

    #[tokio::test]
    async fn what_was_read_is_kept_and_what_is_short_is_not() {
        let chunks = Chunks::default();
        let place = |number: u8| Place::of(Digest([number; 32]), 3, 0, 3).unwrap();
        assert_eq!(chunks.get(&place(1)), None);
        assert_eq!(chunks.read(place(1), &b"abc"[..]).await.unwrap(), "abc");
        assert_eq!(chunks.get(&place(1)).unwrap(), "abc");
        let short = chunks.read(place(2), &b"ab"[..]).await.unwrap_err();
        assert!(short.to_string().contains("expected 3 bytes"), "{short}");
        assert_eq!(chunks.get(&place(2)), None);
        for number in 0..=255 {
            chunks.read(place(number), &b"xyz"[..]).await.unwrap();
        }
        chunks.read(Place::of(Digest([0; 32]), 4, 0, 4).unwrap(), &b"more"[..]).await.unwrap();
        assert_eq!(chunks.get(&place(0)), None, "the oldest makes room");
    }
}
