//! What must hold before a release is published. Every check has its own error, which names both sides.

use std::io;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use flashfmt::{Chip, ImageError, ImageSummary, StreamVerifier};
use manifest::{CHUNK_BYTES, Digest, Manifest, PublisherKey, PublisherKeys, Signed, VerifyError};
use serde_json::json;
use tokio::io::AsyncReadExt as _;

use crate::app::App;
use crate::artifact_store::ArtifactError;
use crate::clock;
use crate::store::{KeyRow, NewRelease, ProductRow, StoreError};

/// A slot of a product's layout, as it is stored and shown.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub(crate) struct SlotSize {
    /// Partition label, such as `ota_0`.
    pub(crate) label: String,
    pub(crate) size_bytes: u32,
}

/// Why a release is not published.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PublishError {
    #[error("expected a signed manifest in base64, found other characters")]
    Base64,
    #[error("product {product} has no publisher key; add one first")]
    NoPublisherKey { product: String },
    #[error(
        "expected a manifest signed by a publisher key of product {product} ({keys}), found another signer"
    )]
    Signature { product: String, keys: String },
    #[error("{0}")]
    Manifest(VerifyError),
    #[error("expected a manifest for product {expected}, found one for {found}")]
    Product { expected: String, found: String },
    #[error("expected a manifest for chip {expected}, found one for {found}")]
    Chip { expected: Chip, found: String },
    #[error("expected the artifact {digest} on the server, found none; upload it first")]
    ArtifactMissing { digest: Digest },
    #[error("the artifact is no image that can be started: {0}")]
    Image(ImageError),
    #[error("expected nothing after the image's {image_bytes} bytes, found {extra_bytes} bytes more")]
    ImageTail { image_bytes: u32, extra_bytes: u64 },
    #[error("expected an image for chip {expected}, found one for {found}")]
    ImageChip { expected: Chip, found: Chip },
    #[error(
        "expected at most {slot_bytes} bytes (slot {label}), found {found_bytes}; make the image smaller"
    )]
    TooLarge { label: String, slot_bytes: u32, found_bytes: u32 },
    #[error("expected a minimum slot of at most {slot_bytes} bytes (slot {label}), found {found_bytes}")]
    MinSlot { label: String, slot_bytes: u32, found_bytes: u32 },
    #[error("expected {expected_bytes} bytes as the manifest says, found {found_bytes} in the artifact")]
    Size { expected_bytes: u32, found_bytes: u64 },
    #[error("expected chunk {index} with the SHA-256 {expected} as the manifest says, found {found}")]
    Chunk { index: usize, expected: Digest, found: Digest },
    #[error("expected a sequence number above {newest}, found {found}; publish under a higher one")]
    Sequence { newest: i64, found: u64 },
    #[error("what is stored of product {0} cannot be read: {1}")]
    Stored(String, String),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Artifacts(#[from] ArtifactError),
    #[error("the artifact could not be read: {0}")]
    Io(#[from] io::Error),
}

/// What reading an artifact from end to end found.
struct Artifact {
    summary: Result<ImageSummary, ImageError>,
    size_bytes: u64,
    chunks: Vec<Digest>,
}

/// Checks a signed manifest and its artifact and stores the release.
pub(crate) async fn publish(
    app: &App,
    product: &ProductRow,
    manifest_base64: &str,
    notes: &str,
) -> Result<NewRelease, PublishError> {
    let bytes = BASE64_STANDARD.decode(manifest_base64.trim()).map_err(|_| PublishError::Base64)?;
    let keys = app.store.publisher_keys(&product.name).await?;
    let signed = Signed::<Manifest>::from_bytes(bytes);
    let manifest = verify(&signed, product, &keys)?;

    if manifest.product != product.name {
        let (expected, found) = (product.name.clone(), manifest.product);
        return Err(PublishError::Product { expected, found });
    }
    let chip: Chip = product.chip.parse().map_err(|error| stored(product, error))?;
    if manifest.chip_id != chip.id() {
        let found = Chip::from_id(manifest.chip_id).map_or_else(
            || format!("the unknown chip id {:#06x}", manifest.chip_id),
            |chip| chip.to_string(),
        );
        return Err(PublishError::Chip { expected: chip, found });
    }
    let digest = manifest.artifact.digest;
    let size_bytes =
        app.artifacts.size_bytes(digest).await?.ok_or(PublishError::ArtifactMissing { digest })?;
    let artifact = read(app, digest, size_bytes).await?;
    let slots: Vec<SlotSize> =
        serde_json::from_str(&product.slots).map_err(|error| stored(product, error))?;
    let summary = check_artifact(&manifest, chip, &slots, &artifact)?;

    let found = manifest.sequence.0;
    let sequence = i64::try_from(found).map_err(|_| PublishError::Sequence { newest: i64::MAX, found })?;
    let release = NewRelease {
        product: product.name.clone(),
        sequence,
        version: manifest.version,
        digest: digest.to_string(),
        size_bytes: manifest.artifact.size_bytes.into(),
        chip: chip.name().to_owned(),
        app: summary.app_desc.map(|app| {
            json!({
                "project_name": app.project_name.as_str(),
                "version": app.version.as_str(),
                "idf_version": app.idf_ver.as_str(),
            })
            .to_string()
        }),
        min_slot_bytes: manifest.min_slot_bytes.into(),
        notes: notes.to_owned(),
        manifest_base64: BASE64_STANDARD.encode(signed.as_bytes()),
        created_at_ms: clock::now_ms(),
    };
    if !app.store.add_release(&release).await? {
        let newest = app.store.newest_release(&product.name).await?.map_or(0, |newest| newest.sequence);
        return Err(PublishError::Sequence { newest, found });
    }
    tracing::info!(product = product.name, sequence, digest = release.digest, "published");
    Ok(release)
}

fn verify(
    signed: &Signed<Manifest>,
    product: &ProductRow,
    keys: &[KeyRow],
) -> Result<Manifest, PublishError> {
    let parsed: PublisherKeys = keys
        .iter()
        .map(|key| parse_key(&key.key_hex))
        .collect::<Result<_, _>>()
        .map_err(|error| stored(product, error))?;
    if parsed.is_empty() {
        return Err(PublishError::NoPublisherKey { product: product.name.clone() });
    }
    signed.verify(&parsed).map_err(|error| match error {
        VerifyError::Signature => {
            let names: Vec<_> = keys.iter().map(|key| key.name.as_str()).collect();
            PublishError::Signature { product: product.name.clone(), keys: names.join(", ") }
        }
        error @ (VerifyError::Malformed(_) | VerifyError::Algorithm { .. } | VerifyError::Manifest(_)) => {
            PublishError::Manifest(error)
        }
    })
}

/// A publisher key from its hexadecimal form.
pub(crate) fn parse_key(key_hex: &str) -> Result<PublisherKey, String> {
    let bytes = hex::decode(key_hex).map_err(|_| {
        format!(
            "expected a publisher key as {} hexadecimal digits, found other text",
            2 * PublisherKey::BYTES
        )
    })?;
    PublisherKey::from_sec1(&bytes).map_err(|error| error.to_string())
}

fn check_artifact(
    manifest: &Manifest,
    chip: Chip,
    slots: &[SlotSize],
    artifact: &Artifact,
) -> Result<ImageSummary, PublishError> {
    let summary = artifact.summary.map_err(PublishError::Image)?;
    if summary.header.chip != chip {
        return Err(PublishError::ImageChip { expected: chip, found: summary.header.chip });
    }
    let extra_bytes = artifact.size_bytes.saturating_sub(summary.image_bytes.into());
    if extra_bytes > 0 {
        return Err(PublishError::ImageTail { image_bytes: summary.image_bytes, extra_bytes });
    }
    for SlotSize { label, size_bytes } in slots {
        let (label, slot_bytes) = (label.clone(), *size_bytes);
        if summary.image_bytes > slot_bytes {
            return Err(PublishError::TooLarge { label, slot_bytes, found_bytes: summary.image_bytes });
        }
        if manifest.min_slot_bytes > slot_bytes {
            return Err(PublishError::MinSlot { label, slot_bytes, found_bytes: manifest.min_slot_bytes });
        }
    }
    let expected_bytes = manifest.artifact.size_bytes;
    if u64::from(expected_bytes) != artifact.size_bytes {
        return Err(PublishError::Size { expected_bytes, found_bytes: artifact.size_bytes });
    }
    // The sizes are equal, and so are the numbers of chunks (`Signed::verify` checks the manifest's). The digest
    // of the whole is the artifact's name, which was checked when it was uploaded.
    for (index, (expected, found)) in manifest.artifact.chunks.iter().zip(&artifact.chunks).enumerate() {
        if expected != found {
            return Err(PublishError::Chunk { index, expected: *expected, found: *found });
        }
    }
    Ok(summary)
}

/// Reads an artifact chunk by chunk.
async fn read(app: &App, digest: Digest, size_bytes: u64) -> Result<Artifact, PublishError> {
    let reader = app.artifacts.read(digest, 0, size_bytes).await?;
    let mut reader = reader.ok_or(PublishError::ArtifactMissing { digest })?;
    // Its own size check names no slot: ours does.
    let mut verifier = StreamVerifier::new(u32::MAX);
    let mut chunks = Vec::new();
    let mut read_bytes = 0;
    loop {
        let mut chunk = Vec::with_capacity(CHUNK_BYTES as usize);
        (&mut reader).take(CHUNK_BYTES.into()).read_to_end(&mut chunk).await?;
        if chunk.is_empty() {
            break;
        }
        read_bytes += chunk.len() as u64;
        chunks.push(Digest::of(&chunk));
        // The verifier keeps its first error and gives it again at the end.
        let _ = verifier.update(&chunk);
        tokio::task::yield_now().await;
    }
    Ok(Artifact { summary: verifier.finish(), size_bytes: read_bytes, chunks })
}

fn stored(product: &ProductRow, error: impl std::fmt::Display) -> PublishError {
    PublishError::Stored(product.name.clone(), error.to_string())
}
