//! Planning a release: everything that can be refused before a byte leaves this machine.
//!
//! The server checks all of it again, and the device does; here it costs nothing and names the file at hand.

use api::product::Product;
use api::release::{PublishBody, Release};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use flashfmt::image::NotAnApplication;
use manifest::{Manifest, ManifestError, Sequence, SignError, Signed};

use crate::failure::Failure;
use crate::inspect::ImageFile;
use crate::keyfile::KeyFile;

/// So many versions are named where none of them was meant.
const NAMED_VERSIONS: usize = 10;

/// What a publisher wants to release.
pub(crate) struct Proposal<'a> {
    /// The product, as the server knows it.
    pub(crate) product: &'a Product,
    /// The application.
    pub(crate) image: &'a ImageFile,
    /// Who signs.
    pub(crate) key: &'a KeyFile,
    /// The number; see [`choose_sequence`].
    pub(crate) sequence: Sequence,
    /// Version for people; `None` takes the app descriptor's.
    pub(crate) version: Option<&'a str>,
    /// Whether the publisher says that this application has no app descriptor.
    pub(crate) without_descriptor: bool,
    /// After this moment (seconds since 1970) devices refuse the manifest.
    pub(crate) expires_at_s: Option<u64>,
    /// Releases that a device running this one may return to.
    pub(crate) revert_to: Vec<Sequence>,
}

/// A release ready to be sent.
#[derive(Debug)]
pub(crate) struct Plan {
    /// What was signed.
    pub(crate) manifest: Manifest,
    /// The signed form.
    pub(crate) signed: Signed<Manifest>,
}

/// Why a release is not published.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PublishError {
    /// The image is for another chip.
    #[error("expected an image for {expected} (product {product}), found one for {found}")]
    Chip {
        /// The product.
        product: String,
        /// Its chip.
        expected: String,
        /// The image's chip.
        found: &'static str,
    },
    /// The image does not fit a slot.
    #[error(
        "expected at most {slot_bytes} bytes (slot {slot} of product {product}), found {image_bytes} bytes"
    )]
    TooLarge {
        /// The product.
        product: String,
        /// Label of its smallest slot.
        slot: String,
        /// Size of that slot.
        slot_bytes: u64,
        /// Size of the image.
        image_bytes: u64,
    },
    /// A bootloader, the updater, or what no bootloader starts.
    #[error(transparent)]
    NotAnApplication(#[from] NotAnApplication),
    /// The image carries no SHA-256 of its own.
    #[error("expected an image with its SHA-256 appended, found none")]
    NoHash,
    /// The file goes on after the image, so that its digest would not be the image's.
    #[error(
        "expected the file to end with the image at {image_bytes} bytes, found {trailing_bytes} bytes after it"
    )]
    Trailing {
        /// Size of the image.
        image_bytes: u64,
        /// What follows.
        trailing_bytes: u64,
    },
    /// The image has no version, and none was given.
    #[error("expected a version, found no app descriptor with one in the image")]
    NoVersion,
    /// The version is that of the Arduino core's libraries.
    #[error(
        "expected a version, found {found:?} in the image: that of the Arduino core's libraries, which every sketch has"
    )]
    ConstantVersion {
        /// What the descriptor says.
        found: String,
    },
    /// The product does not trust the key.
    #[error(
        "product {product} does not trust the key {found} ({name}), or it was revoked; it trusts {}",
        one_or(trusted)
    )]
    UntrustedKey {
        /// The product.
        product: String,
        /// Id of the key.
        found: String,
        /// Whose it says it is.
        name: String,
        /// The keys that are trusted.
        trusted: String,
    },
    /// A version that was never published.
    #[error("expected a version that is published, found {version}; published are {published}")]
    UnknownVersion {
        /// What was given.
        version: String,
        /// What there is.
        published: String,
    },
    /// A version that several releases have, or that is the number of another one.
    #[error("expected one release, found several that {text} names: {found}")]
    AmbiguousRelease {
        /// What was given.
        text: String,
        /// Number and version of each.
        found: String,
    },
    /// A number that is not new.
    #[error("expected a sequence number above {newest}, found {found}")]
    SequenceUsed {
        /// The number of the newest release.
        newest: u64,
        /// What was asked for.
        found: u64,
    },
    /// Every number is used.
    #[error("the newest release has the highest sequence number there is")]
    NoSequenceLeft,
    /// The manifest contradicts itself.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The key could not sign.
    #[error(transparent)]
    Sign(#[from] SignError),
}

/// What the server is asked to publish, by the product's default plan.
pub(crate) fn body(signed: &Signed<Manifest>) -> PublishBody {
    PublishBody { manifest: BASE64_STANDARD.encode(signed.as_bytes()), ..PublishBody::default() }
}

/// Checks a proposal against its product, describes it and signs it.
///
/// # Errors
/// [`PublishError`], the first that applies.
pub(crate) fn plan(proposal: Proposal<'_>) -> Result<Plan, PublishError> {
    let Proposal { product, image, key, sequence, version, without_descriptor, expires_at_s, revert_to } =
        proposal;
    check_image(product, image, without_descriptor)?;
    check_key(product, key)?;
    let version = match version {
        Some(version) => version,
        None => own_version(image)?,
    };
    let chip = image.summary.header.chip;
    let mut manifest = Manifest::describe(&image.bytes, sequence, &product.name, chip.id(), version)?;
    manifest.expires_at_s = expires_at_s;
    manifest.revert_to = Some(revert_to).filter(|releases| !releases.is_empty());
    let signed = Signed::sign(&manifest, &key.key)?;
    Ok(Plan { manifest, signed })
}

/// The number asked for, which must be above that of the newest release; or the one after it, beginning with 1.
///
/// # Errors
/// [`PublishError::SequenceUsed`], [`PublishError::NoSequenceLeft`].
pub(crate) fn choose_sequence(
    asked: Option<u64>,
    newest: Option<&Release>,
) -> Result<Sequence, PublishError> {
    let newest = newest.map_or(0, |release| release.sequence.unsigned_abs());
    match asked {
        Some(found) if found <= newest => Err(PublishError::SequenceUsed { newest, found }),
        Some(number) => Ok(Sequence(number)),
        None => {
            // The server has no higher ones.
            let next = newest.checked_add(1).filter(|next| i64::try_from(*next).is_ok());
            next.map(Sequence).ok_or(PublishError::NoSequenceLeft)
        }
    }
}

/// The sequence numbers of releases by version or number; a version that was published more than once gives all its numbers.
///
/// # Errors
/// [`PublishError::UnknownVersion`].
pub(crate) fn sequences_of(texts: &[String], published: &[Release]) -> Result<Vec<Sequence>, PublishError> {
    let mut sequences = Vec::new();
    for text in texts {
        let named = named(text, published)?.into_iter();
        sequences.extend(named.map(|release| Sequence(release.sequence.unsigned_abs())));
    }
    sequences.sort_unstable();
    sequences.dedup();
    Ok(sequences)
}

/// The sequence number of the one release that is named by its version or number.
///
/// # Errors
/// [`PublishError::UnknownVersion`], [`PublishError::AmbiguousRelease`].
pub(crate) fn sequence_of(text: &str, published: &[Release]) -> Result<i64, PublishError> {
    match named(text, published)?.as_slice() {
        [release] => Ok(release.sequence),
        several => {
            let each = several.iter().map(|release| format!("#{} ({})", release.sequence, release.version));
            let found = each.collect::<Vec<_>>().join(", ");
            Err(PublishError::AmbiguousRelease { text: text.to_owned(), found })
        }
    }
}

/// The releases that a text names, at least one: those of this version and that of this number; `#3` is a number alone.
fn named<'a>(text: &str, published: &'a [Release]) -> Result<Vec<&'a Release>, PublishError> {
    let number = text.strip_prefix('#').unwrap_or(text).parse::<i64>().ok();
    let is_named = |release: &&Release| release.version == text || Some(release.sequence) == number;
    let found: Vec<&Release> = published.iter().filter(is_named).collect();
    if !found.is_empty() {
        return Ok(found);
    }
    let mut known: Vec<&str> =
        published.iter().take(NAMED_VERSIONS).map(|release| release.version.as_str()).collect();
    if published.len() > NAMED_VERSIONS {
        known.push("…");
    }
    let published = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
    Err(PublishError::UnknownVersion { version: text.to_owned(), published })
}

fn own_version(image: &ImageFile) -> Result<&str, PublishError> {
    let app_desc = image.summary.app_desc.as_ref().ok_or(PublishError::NoVersion)?;
    app_desc.own_version().ok_or_else(|| match app_desc.is_of_arduino_libraries() {
        true => PublishError::ConstantVersion { found: app_desc.version.as_str().to_owned() },
        false => PublishError::NoVersion,
    })
}

fn check_image(product: &Product, image: &ImageFile, without_descriptor: bool) -> Result<(), PublishError> {
    let chip = image.summary.header.chip;
    if chip.name() != product.chip {
        return Err(PublishError::Chip {
            product: product.name.clone(),
            expected: product.chip.clone(),
            found: chip.name(),
        });
    }
    image.check_application(without_descriptor)?;
    if !image.summary.header.hash_appended {
        return Err(PublishError::NoHash);
    }
    let image_bytes = u64::from(image.summary.image_bytes);
    if image.trailing_bytes() > 0 {
        return Err(PublishError::Trailing { image_bytes, trailing_bytes: image.trailing_bytes() });
    }
    match product.slots.iter().min_by_key(|slot| slot.size_bytes) {
        Some(slot) if image_bytes > u64::from(slot.size_bytes) => Err(PublishError::TooLarge {
            product: product.name.clone(),
            slot: slot.label.clone(),
            slot_bytes: slot.size_bytes.into(),
            image_bytes,
        }),
        Some(_) | None => Ok(()),
    }
}

fn check_key(product: &Product, key: &KeyFile) -> Result<(), PublishError> {
    let public = hex::encode(key.public().to_sec1());
    if product.publisher_keys.iter().any(|trusted| trusted.key == public) {
        return Ok(());
    }
    let trusted: Vec<String> =
        product.publisher_keys.iter().map(|trusted| format!("{} ({})", trusted.id, trusted.name)).collect();
    Err(PublishError::UntrustedKey {
        product: product.name.clone(),
        found: hex::encode(key.public().id()),
        name: key.name.clone(),
        trusted: trusted.join(", "),
    })
}

impl PublishError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Chip { .. } => {
                Some("build the application for the product's chip, or name another product with --product".to_owned())
            }
            Self::TooLarge { .. } => Some(
                "make the application smaller, or make a product with a layout of larger slots (`pitstop image \
                 inspect` shows which built-in ones fit)"
                    .to_owned(),
            ),
            Self::NotAnApplication(problem) => Some(application_hint(problem).to_owned()),
            Self::NoHash => Some("build it without --dont-append-digest".to_owned()),
            Self::Trailing { image_bytes, .. } => {
                Some(format!("publish the image alone: head -c {image_bytes} FILE > app-only.bin"))
            }
            Self::NoVersion | Self::ConstantVersion { .. } => Some("give one with --version".to_owned()),
            Self::UntrustedKey { product, .. } => Some(format!(
                "sign with one of those keys (--key), or trust this one, unless it was revoked, which is final: `pitstop product \
                 key add {product} --key FILE`"
            )),
            Self::SequenceUsed { .. } => Some("leave out --sequence to take the next number".to_owned()),
            Self::AmbiguousRelease { .. } => {
                Some("name one by its number, such as '#3'; `pitstop release list` shows them".to_owned())
            }
            Self::UnknownVersion { .. } | Self::NoSequenceLeft | Self::Manifest(_) | Self::Sign(_) => None,
        }
    }
}

/// Names, if there are any.
fn one_or(names: &str) -> &str {
    if names.is_empty() { "none" } else { names }
}

/// What to do about an image that is not taken for an application.
pub(crate) const fn application_hint(problem: &NotAnApplication) -> &'static str {
    match problem {
        NotAnApplication::Bootloader { .. } | NotAnApplication::Updater => {
            "give the application alone, such as build/PROJECT.bin of ESP-IDF or what `espflash save-image` writes"
        }
        NotAnApplication::NoDescriptor => {
            "if it is an application all the same, say so with --without-descriptor"
        }
        NotAnApplication::Unbootable(_) => {
            "link it into the RAM that ESP-IDF's linker scripts give to applications"
        }
    }
}

impl From<PublishError> for Failure {
    fn from(error: PublishError) -> Self {
        Failure::new(error.to_string()).maybe_hint(error.hint())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::product::{LayoutBody, SlotSize};
    use api::publisher_key::Key;
    use flashfmt::image::compose::{Composer, esp32c3_addr};
    use flashfmt::{AppDescriptor, Chip};
    use manifest::PublisherKeys;

    fn key(seed: u8) -> KeyFile {
        let secret = p256::SecretKey::from_slice(&[seed; 32]).unwrap();
        KeyFile { name: "alice".to_owned(), key: manifest::PublisherSigningKey::new(secret) }
    }

    fn product(slot_bytes: u32, trusted: &KeyFile) -> Product {
        Product {
            name: "lamp".to_owned(),
            chip: "esp32c3".to_owned(),
            layout: LayoutBody { name: "4mb".to_owned(), csv: String::new() },
            strategy: "chain-load".to_owned(),
            slots: vec![
                SlotSize { label: "ota_0".to_owned(), size_bytes: slot_bytes + 1 },
                SlotSize { label: "ota_1".to_owned(), size_bytes: slot_bytes },
            ],
            publisher_keys: vec![Key {
                rollouts: Vec::new(),
                name: "alice".to_owned(),
                key: hex::encode(trusted.public().to_sec1()),
                id: hex::encode(trusted.public().id()),
                created_at: "2026-11-22T17:00:00Z".to_owned(),
                revoked_at: None,
            }],
            silence_deadline_s: 604_800,
            min_run_s: 60,
            rotate_keys: false,
            quarantine_after: 3,
            enrollment_approval: false,
            default_plan: None,
            chip_revision: None,
            artifact_bytes: 0,
            artifact_quota_bytes: 0,
            created_at: "2026-11-22T17:00:00Z".to_owned(),
            revision: 1,
        }
    }

    fn composer(chip: Chip) -> Composer {
        Composer::new(chip, esp32c3_addr::IRAM)
    }

    fn image(chip: Chip) -> ImageFile {
        let app = AppDescriptor::new("lamp", "1.2.0");
        file(composer(chip).segment_with_app_desc(esp32c3_addr::IRAM, &app, &[1; 64]).build().unwrap())
    }

    fn file(bytes: Vec<u8>) -> ImageFile {
        let mut verifier = flashfmt::StreamVerifier::new(u32::MAX).allow_missing_hash();
        verifier.update(&bytes).unwrap();
        ImageFile { summary: verifier.finish().unwrap(), bytes }
    }

    fn propose(product: &Product, image: &ImageFile, key: &KeyFile) -> Result<Plan, PublishError> {
        plan(Proposal {
            product,
            image,
            key,
            sequence: Sequence(7),
            version: None,
            without_descriptor: false,
            expires_at_s: None,
            revert_to: Vec::new(),
        })
    }

    #[test]
    fn a_plan_is_signed_and_describes_the_file() {
        let (image, key) = (image(Chip::Esp32C3), key(7));
        let plan = propose(&product(image.bytes.len() as u32, &key), &image, &key).unwrap();
        let keys: PublisherKeys = [key.public()].into_iter().collect();
        let manifest = plan.signed.verify(&keys).unwrap();
        assert_eq!(manifest, plan.manifest);
        assert_eq!((manifest.version.as_str(), manifest.sequence), ("1.2.0", Sequence(7)));
        assert_eq!(manifest.artifact.digest, manifest::Digest::of(&image.bytes));
        assert_eq!(manifest.revert_to, None);
    }

    #[test]
    fn what_does_not_suit_the_product_is_refused() {
        let (good, key) = (image(Chip::Esp32C3), key(7));
        let size = good.bytes.len() as u32;

        let error = propose(&product(size, &key), &image(Chip::Esp32S3), &key).unwrap_err();
        assert_eq!(error.to_string(), "expected an image for esp32c3 (product lamp), found one for esp32s3");

        let error = propose(&product(size - 1, &key), &good, &key).unwrap_err();
        let expected =
            format!("expected at most {} bytes (slot ota_1 of product lamp), found {size} bytes", size - 1);
        assert_eq!(error.to_string(), expected);

        let mut padded = good.bytes.clone();
        padded.push(0xff);
        let error = propose(&product(size, &key), &file(padded), &key).unwrap_err();
        assert!(matches!(error, PublishError::Trailing { trailing_bytes: 1, .. }));

        let app = AppDescriptor::new("lamp", "");
        let unversioned = composer(Chip::Esp32C3).segment_with_app_desc(esp32c3_addr::IRAM, &app, &[1; 64]);
        let unhashed = file(unversioned.clone().without_hash().build().unwrap());
        let error = propose(&product(size, &key), &unhashed, &key).unwrap_err();
        assert!(matches!(error, PublishError::NoHash));
        let error = propose(&product(size, &key), &file(unversioned.build().unwrap()), &key).unwrap_err();
        assert!(matches!(error, PublishError::NoVersion));

        let app = AppDescriptor::new("arduino-lib-builder", "esp-idf: v4.4.7 38eeba213a");
        let sketch = composer(Chip::Esp32C3).segment_with_app_desc(esp32c3_addr::IRAM, &app, &[1; 64]);
        let error = propose(&product(size, &key), &file(sketch.build().unwrap()), &key).unwrap_err();
        let expected = "expected a version, found \"esp-idf: v4.4.7 38eeba213a\" in the image: that of the Arduino \
                        core's libraries, which every sketch has";
        assert_eq!(error.to_string(), expected);
        assert_eq!(error.hint().unwrap(), "give one with --version");
    }

    #[test]
    fn what_is_no_application_is_refused_and_named() {
        let key = key(7);
        let propose = |image: Vec<u8>, without_descriptor| {
            let (product, image) = (product(1 << 20, &key), file(image));
            plan(Proposal {
                product: &product,
                image: &image,
                key: &key,
                sequence: Sequence(7),
                version: Some("1.0"),
                without_descriptor,
                expires_at_s: None,
                revert_to: Vec::new(),
            })
        };
        let bootloader = composer(Chip::Esp32C3).segment(0x403D_0000, &[1; 64]).build().unwrap();
        let updater = AppDescriptor::new("pitstop-updater", "0.1.0");
        let updater = composer(Chip::Esp32C3).segment_with_app_desc(esp32c3_addr::IRAM, &updater, &[1; 64]);
        let bare = composer(Chip::Esp32C3).segment(esp32c3_addr::IRAM, &[1; 64]).build().unwrap();
        for without_descriptor in [false, true] {
            let error = propose(bootloader.clone(), without_descriptor).unwrap_err().to_string();
            assert!(error.starts_with("expected an application, found a second-stage bootloader"), "{error}");
            let error = propose(updater.build().unwrap(), without_descriptor).unwrap_err().to_string();
            assert!(error.contains("found the updater itself"), "{error}");
        }
        let error = propose(bare.clone(), false).unwrap_err();
        assert!(error.hint().unwrap().contains("--without-descriptor"), "{error}");
        assert!(propose(bare, true).is_ok());
    }

    #[test]
    fn a_stranger_does_not_sign() {
        let (image, alice, mallory) = (image(Chip::Esp32C3), key(7), key(8));
        let error = propose(&product(1 << 20, &alice), &image, &mallory).unwrap_err().to_string();
        assert!(error.contains(&hex::encode(alice.public().id())), "{error}");
        assert!(error.contains(&hex::encode(mallory.public().id())), "{error}");
    }

    fn release(sequence: i64, version: &str) -> Release {
        Release {
            pinned: Vec::new(),
            product: "lamp".to_owned(),
            sequence,
            version: version.to_owned(),
            digest: String::new(),
            size_bytes: 1,
            chip: "esp32c3".to_owned(),
            app: None,
            min_slot_bytes: 1,
            notes: String::new(),
            channel: "stable".to_owned(),
            revert_to: Vec::new(),
            requires: None,
            warnings: Vec::new(),
            archived_at: None,
            elf_digest: None,
            created_at: String::new(),
        }
    }

    #[test]
    fn numbers_follow_the_newest() {
        let newest = release(41, "1");
        assert_eq!(choose_sequence(None, None).unwrap(), Sequence(1));
        assert_eq!(choose_sequence(None, Some(&newest)).unwrap(), Sequence(42));
        assert_eq!(choose_sequence(Some(50), Some(&newest)).unwrap(), Sequence(50));
        for used in [0, 40, 41] {
            let error = choose_sequence(Some(used), Some(&newest)).unwrap_err();
            assert_eq!(error.to_string(), format!("expected a sequence number above 41, found {used}"));
        }
        let last = release(i64::MAX, "1");
        assert!(matches!(choose_sequence(None, Some(&last)), Err(PublishError::NoSequenceLeft)));
    }

    #[test]
    fn versions_to_revert_to_are_looked_up() {
        let published = [release(3, "1.1.0"), release(2, "1.0.0"), release(1, "1.0.0")];
        let of = |versions: &[&str]| {
            sequences_of(
                &versions.iter().map(|version| (*version).to_owned()).collect::<Vec<_>>(),
                &published,
            )
        };
        assert_eq!(of(&[]).unwrap(), []);
        assert_eq!(of(&["1.1.0", "1.0.0", "1.1.0"]).unwrap(), [Sequence(1), Sequence(2), Sequence(3)]);
        let error = of(&["1.1.0", "0.9"]).unwrap_err().to_string();
        assert!(error.contains("found 0.9; published are 1.1.0, 1.0.0"), "{error}");
    }

    #[test]
    fn a_text_names_one_release() {
        let published = [release(3, "1.1.0"), release(2, "1.0.0"), release(1, "1.0.0"), release(9, "3")];
        let of = |text: &str| sequence_of(text, &published);
        assert_eq!((of("1.1.0").unwrap(), of("#3").unwrap(), of("2").unwrap()), (3, 3, 2));
        for (text, expected) in [("1.0.0", "#2 (1.0.0), #1 (1.0.0)"), ("3", "#3 (1.1.0), #9 (3)")] {
            let error = of(text).unwrap_err();
            assert_eq!(
                error.to_string(),
                format!("expected one release, found several that {text} names: {expected}")
            );
            assert!(error.hint().unwrap().contains("'#3'"));
        }
        assert!(of("0.9").unwrap_err().to_string().contains("found 0.9; published are 1.1.0"));
    }
}
