//! Reading an artifact from end to end.

use flashfmt::image::ARDUINO_FILES;
use flashfmt::{ImageError, ImageSummary, StreamVerifier};
use manifest::{CHUNK_BYTES, Digest};
use tokio::io::AsyncReadExt as _;

use super::PublishError;
use crate::app::App;

/// What reading an artifact from end to end found.
pub(super) struct Artifact {
    pub(super) summary: Result<ImageSummary, ImageError>,
    pub(super) size_bytes: u64,
    pub(super) chunks: Vec<Digest>,
    /// Whether it has [`ARDUINO_FILES`] somewhere.
    pub(super) names_arduino_files: bool,
}

/// Reads an artifact chunk by chunk.
pub(super) async fn read(app: &App, digest: Digest, size_bytes: u64) -> Result<Artifact, PublishError> {
    let reader = app.artifacts.read(digest, 0, size_bytes).await?;
    let mut reader = reader.ok_or(PublishError::ArtifactMissing { digest })?;
    // Its own size check names no slot: ours does.
    let mut verifier = StreamVerifier::new(u32::MAX);
    let mut chunks = Vec::new();
    let mut read_bytes = 0;
    let mut names_arduino_files = false;
    // The end of the chunk before: what is looked for may lie across the border.
    let mut window = Vec::new();
    loop {
        let mut chunk = Vec::with_capacity(CHUNK_BYTES as usize);
        let read = (&mut reader).take(CHUNK_BYTES.into()).read_to_end(&mut chunk).await;
        read.map_err(|error| app.artifacts.body_error(error))?;
        if chunk.is_empty() {
            break;
        }
        read_bytes += chunk.len() as u64;
        chunks.push(Digest::of(&chunk));
        // The verifier keeps its first error and gives it again at the end.
        let _ = verifier.update(&chunk);
        if !names_arduino_files {
            window.extend_from_slice(&chunk);
            names_arduino_files = contains(&window, ARDUINO_FILES);
            window.drain(..window.len().saturating_sub(ARDUINO_FILES.len() - 1));
        }
        tokio::task::yield_now().await;
    }
    Ok(Artifact { summary: verifier.finish(), size_bytes: read_bytes, chunks, names_arduino_files })
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}
