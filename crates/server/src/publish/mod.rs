//! What must hold before a release is published. Every check has its own error, which names both sides.

mod again;
mod artifact;
mod image;
mod problem;
mod warnings;

use api::product::SlotSize;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use flashfmt::app_desc::AppDescriptor;
use flashfmt::image::{ConfirmsItself, NotAnApplication};
use flashfmt::{Chip, ImageError, ImageSummary, Layout};
use manifest::{Digest, Manifest, PublisherKey, PublisherKeys, Signed, VerifyError};
use serde_json::json;

pub use image::{ChipProblem, Unpublishable, check_chip, check_image, check_start};

use crate::app::App;
use crate::artifact_store::ArtifactError;
use crate::clock;
use crate::quota::OverQuota;
use crate::store::{
    Added, Change, KeyRow, NewRelease, ProductRow, RolloutRefusal, RolloutRow, StoreError, default_plan,
};
use artifact::{Artifact, read};

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
    #[error("expected a signature of a good publisher key, found that of {name}, which was revoked at {at}")]
    RevokedKey { name: String, at: String },
    #[error(
        "expected a publisher key that devices of product {product} trust, found {key}: {untrusted}; sign with a key that \
         they have, provision them with this one, or publish it with untrusted_key"
    )]
    UntrustedKey { product: String, key: String, untrusted: String },
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
    #[error("{0}; an application that has none is published with without_descriptor")]
    NoDescriptor(NotAnApplication),
    #[error("{0}")]
    NotAnApplication(NotAnApplication),
    #[error("{known}; when that is meant, publish it with confirms_itself")]
    ConfirmsItself { known: String },
    #[error(
        "expected a version of the application's own, found {found:?}: that of the Arduino core's libraries, which is \
         the same in every sketch; sign a manifest with another version (--version of `pitstop release publish`)"
    )]
    ConstantVersion { found: String },
    #[error(
        "expected an image that is not published yet, found that of release {sequence} ({version}), which differs in \
         {differs}; roll that release out (out of the archive first, if it is there), or publish the image as a new release with same_image"
    )]
    SameImage { sequence: i64, version: String, differs: String },
    #[error(transparent)]
    Unpublishable(#[from] Unpublishable),
    #[error("expected an image for chip {expected}, found one for {found}")]
    ImageChip { expected: Chip, found: Chip },
    #[error(
        "expected at most {slot_bytes} bytes (slot {label}), found {found_bytes}; make the image smaller"
    )]
    TooLarge { label: String, slot_bytes: u32, found_bytes: u32 },
    #[error(
        "expected an image for chips of revision {expected} and up, found one for {found} and up; build it for the \
         older chips too, or change chip_revision of the product (major * 100 + minor)"
    )]
    ImageRevision { expected: i64, found: u16 },
    #[error(
        "expected older releases of product {product} in the manifest's revert_to, found {missing}, which it does not \
         have"
    )]
    RevertTo { product: String, missing: String },
    #[error(
        "expected an older release of product {product} in requires, found {found}; there is none of this number"
    )]
    Requires { product: String, found: i64 },
    #[error(
        "expected releases that are not archived in revert_to and requires, found {sequence}; take it out of the archive first"
    )]
    Archived { sequence: i64 },
    #[error("artifact {digest} was deleted meanwhile; upload it again")]
    ArtifactGone { digest: String },
    #[error("expected the ELF file {digest} among the artifacts, found none; upload it first")]
    ElfMissing { digest: Digest },
    #[error("expected a minimum slot of at most {slot_bytes} bytes (slot {label}), found {found_bytes}")]
    MinSlot { label: String, slot_bytes: u32, found_bytes: u32 },
    #[error("expected {expected_bytes} bytes as the manifest says, found {found_bytes} in the artifact")]
    Size { expected_bytes: u32, found_bytes: u64 },
    #[error("expected chunk {index} with the SHA-256 {expected} as the manifest says, found {found}")]
    Chunk { index: usize, expected: Digest, found: Digest },
    #[error("expected a sequence number above {newest}, found {found}; publish under a higher one")]
    Sequence { newest: i64, found: u64 },
    #[error("its rollout by the default plan of product {product} would not start: {refusal}")]
    Rollout { product: String, refusal: RolloutRefusal },
    #[error("what is stored of product {0} cannot be read: {1}")]
    Stored(String, String),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Artifacts(#[from] ArtifactError),
    #[error(transparent)]
    Quota(#[from] OverQuota),
}

/// What a publisher says beside the manifest.
#[derive(Clone, Debug)]
pub(crate) struct Publication {
    /// The signed manifest in base64.
    pub(crate) manifest_base64: String,
    pub(crate) notes: String,
    /// A channel of the product.
    pub(crate) channel: String,
    /// The release that a device must run before it is offered this one.
    pub(crate) requires: Option<i64>,
    /// The ELF file that the image was made of.
    pub(crate) elf_digest: Option<Digest>,
    /// The publisher says that this application has no app descriptor.
    pub(crate) without_descriptor: bool,
    /// The publisher knows that this application confirms itself, and what that means.
    pub(crate) confirms_itself: bool,
    /// That devices which trust another key are known, and meant to refuse it.
    pub(crate) untrusted_key: bool,
    /// That the image of another release is meant to be published as a new one.
    pub(crate) same_image: bool,
    /// Whether its rollout starts at once, by the product's default plan.
    pub(crate) starts_rollout: bool,
}

/// A release, and whether it was there before.
#[derive(Clone, Debug)]
pub(crate) enum Published {
    New(NewRelease),
    /// The same was published already: somebody did not get the answer, or a build ran again.
    Before(NewRelease),
}

/// Checks a signed manifest and its artifact and stores the release.
pub(crate) async fn publish(
    app: &App,
    product: &ProductRow,
    publication: Publication,
    change: &Change,
) -> Result<Published, PublishError> {
    let bytes =
        BASE64_STANDARD.decode(publication.manifest_base64.trim()).map_err(|_| PublishError::Base64)?;
    let keys = app.people.store.publisher_keys(&product.name).await?;
    let signed = Signed::<Manifest>::from_bytes(bytes);
    let trusted = trusted(product, &keys)?;
    let manifest = verify(&signed, product, &keys, &trusted)?;

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
    if let Some(before) = published_before(app, product, &manifest, &signed).await? {
        return Ok(Published::Before(before));
    }
    if !publication.same_image
        && let Some(same) = again::published(app, product, &manifest, &publication, &trusted).await?
    {
        return same.map(Published::Before);
    }
    let digest = manifest.artifact.digest;
    let size_bytes =
        app.artifacts.size_bytes(digest).await?.ok_or(PublishError::ArtifactMissing { digest })?;
    let mut uploads = vec![(digest, size_bytes)];
    if let Some(digest) = publication.elf_digest {
        let size_bytes = app.artifacts.size_bytes(digest).await?;
        uploads.push((digest, size_bytes.ok_or(PublishError::ElfMissing { digest })?));
    }
    let artifact = read(app, digest, size_bytes).await?;
    let slots: Vec<SlotSize> =
        serde_json::from_str(&product.slots).map_err(|error| stored(product, error))?;
    let summary = check_artifact(&manifest, chip, &slots, &artifact)?;
    summary.check_application(publication.without_descriptor).map_err(|problem| match problem {
        NotAnApplication::NoDescriptor => PublishError::NoDescriptor(problem),
        NotAnApplication::Bootloader { .. } | NotAnApplication::Updater | NotAnApplication::Unbootable(_) => {
            PublishError::NotAnApplication(problem)
        }
    })?;
    if let Some(app_desc) = summary.app_desc.filter(AppDescriptor::is_of_arduino_libraries)
        && app_desc.version.as_str() == manifest.version
    {
        return Err(PublishError::ConstantVersion { found: manifest.version });
    }
    check_chip_revision(product, &summary)?;
    let layout = Layout::parse_csv(&product.layout_csv).map_err(|error| stored(product, error))?;
    check_start(&summary, &layout)?;
    let reverts = check_reverts(app, product, &manifest).await?;
    let required = check_required(app, product, &manifest, publication.requires).await?;

    let digest = digest.to_string();
    let mut warnings = Vec::new();
    if layout.hands_over_by_otadata() {
        let known = ConfirmsItself::of(summary.app_desc.as_ref(), artifact.names_arduino_files);
        match known.map(|known| known.to_string()) {
            Some(known) if publication.confirms_itself => warnings.push(known),
            Some(known) => return Err(PublishError::ConfirmsItself { known }),
            None => {}
        }
    }
    warnings.extend(check_trust(app, product, &signed, &keys, publication.untrusted_key).await?);
    let namesakes = app.people.store.namesakes(&product.name, &digest, &manifest.version).await?;
    warnings.extend(warnings::mix_ups(&digest, &manifest.version, &namesakes));
    let newest = app.people.store.newest_on_channel(&product.name, &publication.channel).await?;
    warnings.extend(newest.and_then(|newest| warnings::lower(&manifest.version, &newest)));
    match &required {
        Some(required) => {
            let (product, channel) = (&product.name, &publication.channel);
            if !app.people.store.is_rolled_out(product, channel, required.sequence).await? {
                warnings.push(warnings::unreachable(required, channel));
            }
        }
        None => {
            let newest = app.people.store.newest_requirement(&product.name, &publication.channel).await?;
            warnings.extend(newest.map(warnings::around));
        }
    }
    if publication.starts_rollout {
        let cut_short = app.people.store.rollouts_in_between(&product.name, &publication.channel).await?;
        let needed = match publication.requires {
            Some(required) => app.people.store.steps_to(&product.name, required).await?,
            None => Vec::new(),
        };
        let is_cut = |row: &&RolloutRow| !needed.contains(&row.sequence);
        warnings.extend(cut_short.iter().filter(is_cut).map(warnings::cut_short));
        if !default_plan(&product.name, product.default_plan.as_deref())?.reaches_all() {
            warnings.push(warnings::LEAVES_DEVICES_OUT.to_owned());
        }
    }

    for (digest, size_bytes) in &uploads {
        app.people.store.note_artifact(*digest, *size_bytes, &change.aside()).await?;
        // It may have been deleted since it was read; what is noted and there by now stays.
        if app.artifacts.size_bytes(*digest).await?.is_none() {
            return Err(PublishError::ArtifactGone { digest: digest.to_string() });
        }
    }
    let found = manifest.sequence.0;
    let sequence = i64::try_from(found).map_err(|_| PublishError::Sequence { newest: i64::MAX, found })?;
    let release = NewRelease {
        product: product.name.clone(),
        sequence,
        version: manifest.version,
        channel: publication.channel,
        digest,
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
        revert_to: json!(reverts).to_string(),
        requires: publication.requires,
        elf_digest: publication.elf_digest.map(|digest| digest.to_string()),
        notes: publication.notes,
        warnings: json!(warnings).to_string(),
        manifest_base64: BASE64_STANDARD.encode(signed.as_bytes()),
        created_at_ms: change.at_ms,
        archived_at_ms: None,
    };
    let quota_bytes = app.config.artifact_quota_bytes;
    match app.people.store.add_release(&release, publication.starts_rollout, quota_bytes, change).await? {
        Added::Done => {}
        Added::NotNewer => {
            let newest =
                app.people.store.newest_release(&product.name).await?.map_or(0, |newest| newest.sequence);
            return Err(PublishError::Sequence { newest, found });
        }
        Added::Archived(sequence) => return Err(PublishError::Archived { sequence }),
        Added::ArtifactGone(digest) => return Err(PublishError::ArtifactGone { digest }),
        Added::OverQuota(of) => {
            let needed = uploads.iter().find(|(digest, _)| digest.to_string() == of);
            return Err(PublishError::Quota(OverQuota {
                product: product.name.clone(),
                quota_bytes,
                stored_bytes: app.people.store.uploaded_bytes(&product.name).await?,
                needed_bytes: needed.map_or(0, |(_, size_bytes)| *size_bytes),
            }));
        }
        Added::NoRollout(refusal) => {
            return Err(PublishError::Rollout { product: product.name.clone(), refusal });
        }
    }
    tracing::info!(product = product.name, sequence, digest = release.digest, ?warnings, "published");
    Ok(Published::New(release))
}

/// The release of exactly this manifest, if it was published.
async fn published_before(
    app: &App,
    product: &ProductRow,
    manifest: &Manifest,
    signed: &Signed<Manifest>,
) -> Result<Option<NewRelease>, PublishError> {
    let Ok(sequence) = i64::try_from(manifest.sequence.0) else { return Ok(None) };
    let known = app.people.store.release(&product.name, sequence).await?;
    let encoded = BASE64_STANDARD.encode(signed.as_bytes());
    Ok(known.filter(|known| known.manifest_base64 == encoded))
}

/// The lowest chip revision of the header against the lowest of the product's chips. Off-spec: `min_chip_rev`, the field
/// of before ESP-IDF 4.4, means another thing on each chip and is not looked at.
fn check_chip_revision(product: &ProductRow, summary: &ImageSummary) -> Result<(), PublishError> {
    let min = summary.header.min_chip_rev_full;
    match product.chip_revision.filter(|expected| i64::from(min) > *expected) {
        None => Ok(()),
        Some(expected) => Err(PublishError::ImageRevision { expected, found: min }),
    }
}

/// The release that a device must run before it is offered this one.
async fn check_required(
    app: &App,
    product: &ProductRow,
    manifest: &Manifest,
    requires: Option<i64>,
) -> Result<Option<NewRelease>, PublishError> {
    let Some(found) = requires else { return Ok(None) };
    let is_older = u64::try_from(found).is_ok_and(|found| found < manifest.sequence.0);
    let release = if is_older { app.people.store.release(&product.name, found).await? } else { None };
    let error = || PublishError::Requires { product: product.name.clone(), found };
    release.map(Some).ok_or_else(error)
}

/// Asks what devices told of the keys that they trust. A warning when some do not trust the signer, and an error when none
/// does; those that told nothing do not count.
async fn check_trust(
    app: &App,
    product: &ProductRow,
    signed: &Signed<Manifest>,
    keys: &[KeyRow],
    is_meant: bool,
) -> Result<Option<String>, PublishError> {
    let mut signer = None;
    for row in keys.iter().filter(|row| row.revoked_at_ms.is_none()) {
        let key = parse_key(&row.key_hex).map_err(|error| stored(product, error))?;
        if signed.verify(&[key].into_iter().collect()).is_ok() {
            signer = Some((row, hex::encode(key.id())));
            break;
        }
    }
    let Some((row, id)) = signer else { return Ok(None) };
    let trust = app.people.store.trust(&product.name, &id).await?;
    if trust.others == 0 {
        return Ok(None);
    }
    let key = format!("{} ({id})", row.name);
    if trust.trusting == 0 && !trust.in_part && !is_meant {
        let (product, untrusted) = (product.name.clone(), warnings::untrusted(&key, trust));
        return Err(PublishError::UntrustedKey { product, key, untrusted });
    }
    Ok(Some(warnings::untrusted(&key, trust)))
}

/// The releases that the manifest allows to return to; each must be an older one of the product.
async fn check_reverts(
    app: &App,
    product: &ProductRow,
    manifest: &Manifest,
) -> Result<Vec<u64>, PublishError> {
    let mut reverts = Vec::new();
    let mut missing = Vec::new();
    for sequence in manifest.reverts().iter().map(|sequence| sequence.0) {
        let known = match i64::try_from(sequence) {
            Ok(stored) => app.people.store.release(&product.name, stored).await?.is_some(),
            Err(_) => false,
        };
        if known && sequence < manifest.sequence.0 { &mut reverts } else { &mut missing }.push(sequence);
    }
    if missing.is_empty() {
        return Ok(reverts);
    }
    let missing: Vec<_> = missing.iter().map(u64::to_string).collect();
    Err(PublishError::RevertTo { product: product.name.clone(), missing: missing.join(", ") })
}

/// The keys of a product that were not revoked; at least one.
fn trusted(product: &ProductRow, keys: &[KeyRow]) -> Result<PublisherKeys, PublishError> {
    let good = keys.iter().filter(|key| key.revoked_at_ms.is_none());
    let trusted: PublisherKeys = good
        .map(|key| parse_key(&key.key_hex))
        .collect::<Result<_, _>>()
        .map_err(|error| stored(product, error))?;
    if trusted.is_empty() {
        return Err(PublishError::NoPublisherKey { product: product.name.clone() });
    }
    Ok(trusted)
}

fn verify(
    signed: &Signed<Manifest>,
    product: &ProductRow,
    keys: &[KeyRow],
    trusted: &PublisherKeys,
) -> Result<Manifest, PublishError> {
    let error = match signed.verify(trusted) {
        Ok(manifest) => return Ok(manifest),
        Err(error) => error,
    };
    match error {
        VerifyError::Signature => {}
        error @ (VerifyError::Malformed(_) | VerifyError::Algorithm { .. } | VerifyError::Manifest(_)) => {
            return Err(PublishError::Manifest(error));
        }
    }
    let (good, revoked): (Vec<_>, Vec<_>) = keys.iter().partition(|key| key.revoked_at_ms.is_none());
    for key in revoked {
        let alone: PublisherKeys =
            [parse_key(&key.key_hex).map_err(|error| stored(product, error))?].into_iter().collect();
        if signed.verify(&alone).is_ok() {
            let at = clock::rfc3339(key.revoked_at_ms.unwrap_or_default());
            return Err(PublishError::RevokedKey { name: key.name.clone(), at });
        }
    }
    let names: Vec<_> = good.iter().map(|key| key.name.as_str()).collect();
    Err(PublishError::Signature { product: product.name.clone(), keys: names.join(", ") })
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
    check_image(&summary, artifact.size_bytes)?;
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

fn stored(product: &ProductRow, error: impl std::fmt::Display) -> PublishError {
    PublishError::Stored(product.name.clone(), error.to_string())
}
