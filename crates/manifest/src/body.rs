//! The manifest itself and what must hold inside it.

use alloc::string::String;
use alloc::vec::Vec;
use minicbor::{Decode, Encode};

use crate::{Digest, Sequence};

/// Bytes that one chunk digest covers: 64 KiB, the unit in which an install is verified and resumed.
pub const CHUNK_BYTES: u32 = 64 * 1024;

/// The most chunks of one image: 16 MB of flash, the largest that an ESP32-C3 or -C6 addresses.
pub const MAX_CHUNKS: usize = 256;

/// Format number of the manifest that this crate writes and reads.
const FORMAT: u8 = 1;

/// The longest text in a manifest, in bytes: keeps every manifest under the bound of a decision.
const MAX_TEXT_BYTES: usize = 64;

/// The most releases that `revert_to` may name.
const MAX_REVERTS: usize = 16;

/// A release as its publisher describes it (RFC 9124 information elements in parentheses).
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Manifest {
    /// Format number (section 3.1).
    #[n(0)]
    format: u8,
    /// Sequence number within the product (section 3.2).
    #[n(1)]
    pub sequence: Sequence,
    /// Name of the product that this is for (section 3.3 and 3.4, vendor and class).
    #[n(2)]
    pub product: String,
    /// Chip that the image is for (ESP-IDF `esp_chip_id_t`).
    #[n(3)]
    pub chip_id: u16,
    /// Version for people, such as `1.4.0`. It decides nothing.
    #[n(4)]
    pub version: String,
    /// The image.
    #[n(5)]
    pub artifact: Artifact,
    /// The smallest slot that may hold this release, in bytes; at least the image's size.
    #[n(6)]
    pub min_slot_bytes: u32,
    /// After this moment (seconds since 1970) a device refuses the manifest (section 3.18).
    #[n(7)]
    pub expires_at_s: Option<u64>,
    /// Releases that a device running this one may return to; empty by default.
    #[n(8)]
    pub revert_to: Option<Vec<Sequence>>,
}

/// The image of a release.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Artifact {
    /// Length in bytes (RFC 9124 section 3.16).
    #[n(0)]
    pub size_bytes: u32,
    /// SHA-256 of all of it (section 3.15); it also names the artifact on the server.
    #[n(1)]
    pub digest: Digest,
    /// SHA-256 of every 64 KiB, the last one shorter.
    #[n(2)]
    pub chunks: Vec<Digest>,
}

/// A manifest that contradicts itself or asks for the unknown.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// A later format.
    #[error("expected manifest format {FORMAT}, found {found}; update the updater")]
    Format {
        /// The format number found.
        found: u8,
    },
    /// The number of chunk digests does not match the size.
    #[error("expected {expected} chunk digests for {size_bytes} bytes, found {found}")]
    ChunkCount {
        /// Size of the image.
        size_bytes: u32,
        /// Digests that this size needs.
        expected: usize,
        /// Digests that are there.
        found: usize,
    },
    /// No image, or one larger than any flash.
    #[error("expected an image of 1 to {max_bytes} bytes, found {found_bytes}")]
    Size {
        /// The most that is allowed.
        max_bytes: u32,
        /// What was found.
        found_bytes: u32,
    },
    /// A slot smaller than the image would be allowed.
    #[error("expected a minimum slot of at least the image's {size_bytes} bytes, found {found_bytes}")]
    MinSlot {
        /// Size of the image.
        size_bytes: u32,
        /// What was found.
        found_bytes: u32,
    },
    /// A text is empty or too long.
    #[error("expected a {field} of 1 to {MAX_TEXT_BYTES} bytes, found {found_bytes}")]
    Text {
        /// The field.
        field: &'static str,
        /// Its length.
        found_bytes: usize,
    },
    /// A product name that cannot be one.
    #[error("expected a product name of a-z, 0-9 and -, found another character in it")]
    ProductName,
    /// Too many releases to return to.
    #[error("expected at most {MAX_REVERTS} releases to revert to, found {found}")]
    Reverts {
        /// How many were found.
        found: usize,
    },
}

const MAX_IMAGE_BYTES: u32 = CHUNK_BYTES * MAX_CHUNKS as u32;
const _: () = assert!(MAX_IMAGE_BYTES == 16 * 1024 * 1024);

impl Manifest {
    /// Describes `image` with the sequence number, product, chip and version given; the smallest slot is the
    /// image's size, nothing expires and nothing may be reverted to.
    ///
    /// # Errors
    /// [`ManifestError`] when the image is empty or larger than any flash, or a text is too long.
    pub fn describe(
        image: &[u8],
        sequence: Sequence,
        product: &str,
        chip_id: u16,
        version: &str,
    ) -> Result<Self, ManifestError> {
        let size_bytes = u32::try_from(image.len()).unwrap_or(u32::MAX);
        let chunks = image.chunks(CHUNK_BYTES as usize).map(Digest::of).collect();
        let manifest = Self {
            format: FORMAT,
            sequence,
            product: product.into(),
            chip_id,
            version: version.into(),
            artifact: Artifact { size_bytes, digest: Digest::of(image), chunks },
            min_slot_bytes: size_bytes,
            expires_at_s: None,
            revert_to: None,
        };
        manifest.check()?;
        Ok(manifest)
    }

    /// The releases that a device running this one may return to.
    #[must_use]
    pub fn reverts(&self) -> &[Sequence] {
        self.revert_to.as_deref().unwrap_or_default()
    }

    /// What must hold before any other code sees a manifest.
    pub(crate) fn check(&self) -> Result<(), ManifestError> {
        let Artifact { size_bytes, chunks, .. } = &self.artifact;
        if self.format != FORMAT {
            return Err(ManifestError::Format { found: self.format });
        }
        if *size_bytes == 0 || *size_bytes > MAX_IMAGE_BYTES {
            return Err(ManifestError::Size { max_bytes: MAX_IMAGE_BYTES, found_bytes: *size_bytes });
        }
        let expected = size_bytes.div_ceil(CHUNK_BYTES) as usize;
        if chunks.len() != expected {
            return Err(ManifestError::ChunkCount { size_bytes: *size_bytes, expected, found: chunks.len() });
        }
        if self.min_slot_bytes < *size_bytes {
            return Err(ManifestError::MinSlot { size_bytes: *size_bytes, found_bytes: self.min_slot_bytes });
        }
        for (field, text) in [("product", &self.product), ("version", &self.version)] {
            if text.is_empty() || text.len() > MAX_TEXT_BYTES {
                return Err(ManifestError::Text { field, found_bytes: text.len() });
            }
        }
        let in_name = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if !self.product.bytes().all(in_name) {
            return Err(ManifestError::ProductName);
        }
        if self.reverts().len() > MAX_REVERTS {
            return Err(ManifestError::Reverts { found: self.reverts().len() });
        }
        Ok(())
    }
}

impl Artifact {
    /// The bytes of the image that chunk `index` covers, as (offset, length); `None` past the last chunk.
    #[must_use]
    pub fn chunk(&self, index: u32) -> Option<(u32, u32)> {
        let offset_bytes = index.checked_mul(CHUNK_BYTES)?;
        let rest_bytes = self.size_bytes.checked_sub(offset_bytes).filter(|rest| *rest > 0)?;
        Some((offset_bytes, rest_bytes.min(CHUNK_BYTES)))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn manifest(image: &[u8]) -> Manifest {
        Manifest::describe(image, Sequence(7), "lamp", 5, "1.2.0").unwrap()
    }

    #[test]
    fn chunks_cover_the_image_exactly() {
        for size in [1, 65_535, 65_536, 65_537, 200_000] {
            let artifact = manifest(&alloc::vec![1; size]).artifact;
            let mut covered = 0;
            for index in 0..artifact.chunks.len() as u32 {
                let (offset_bytes, length_bytes) = artifact.chunk(index).unwrap();
                assert_eq!(offset_bytes, covered);
                covered += length_bytes;
            }
            assert_eq!(covered as usize, size);
            assert_eq!(artifact.chunk(artifact.chunks.len() as u32), None);
        }
    }

    #[test]
    fn contradictions_are_refused() {
        let good = manifest(&[1; 70_000]);
        let broken = |change: fn(&mut Manifest)| {
            let mut manifest = good.clone();
            change(&mut manifest);
            manifest.check().unwrap_err()
        };
        assert_eq!(broken(|m| m.format = 2), ManifestError::Format { found: 2 });
        assert!(matches!(broken(|m| m.artifact.size_bytes = 0), ManifestError::Size { .. }));
        assert!(matches!(broken(|m| m.artifact.size_bytes = u32::MAX), ManifestError::Size { .. }));
        assert!(matches!(
            broken(|m| m.artifact.size_bytes = 65_536),
            ManifestError::ChunkCount { expected: 1, found: 2, .. }
        ));
        assert!(matches!(broken(|m| m.min_slot_bytes = 69_999), ManifestError::MinSlot { .. }));
        assert!(matches!(broken(|m| m.product.clear()), ManifestError::Text { field: "product", .. }));
        assert_eq!(broken(|m| m.product = "Lamp".into()), ManifestError::ProductName);
        assert!(matches!(broken(|m| m.version = "9".repeat(65)), ManifestError::Text { .. }));
        assert!(matches!(
            broken(|m| m.revert_to = Some(alloc::vec![Sequence(1); 17])),
            ManifestError::Reverts { found: 17 }
        ));
    }
}
