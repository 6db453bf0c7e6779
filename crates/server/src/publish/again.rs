//! The image of a release that is there already. Devices tell releases apart by the digest, so that one image under two
//! numbers is mostly a mistake: a build that ran again, or a version that was forgotten.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use manifest::{Manifest, PublisherKeys, Signed};

use super::{Publication, PublishError};
use crate::app::App;
use crate::store::{NewRelease, ProductRow};

/// The newest release of this image: the release itself when nothing but the number would be another one and none is
/// newer on its channel, else an error that says what would. `None` when there is none.
pub(super) async fn published(
    app: &App,
    product: &ProductRow,
    manifest: &Manifest,
    publication: &Publication,
    trusted: &PublisherKeys,
) -> Result<Option<Result<NewRelease, PublishError>>, PublishError> {
    let digest = manifest.artifact.digest.to_string();
    let Some(known) = app.people.store.release_of_image(&product.name, &digest).await? else {
        return Ok(None);
    };
    let mut differs = differences(&known, manifest, publication, trusted);
    let newest = app.people.store.newest_on_channel(&product.name, &known.channel).await?;
    if newest.is_some_and(|newest| newest.sequence > known.sequence) {
        differs.push("its place, for newer ones are on its channel");
    }
    if known.archived_at_ms.is_some() {
        differs.push("its place, for it is archived");
    }
    if differs.is_empty() {
        return Ok(Some(Ok(known)));
    }
    let NewRelease { sequence, version, .. } = known;
    Ok(Some(Err(PublishError::SameImage { sequence, version, differs: differs.join(", ") })))
}

/// In what a publication differs from a release of its image, but for the number.
fn differences(
    known: &NewRelease,
    manifest: &Manifest,
    publication: &Publication,
    trusted: &PublisherKeys,
) -> Vec<&'static str> {
    let mut differs = Vec::new();
    let mut note = |is_other: bool, what| {
        if is_other {
            differs.push(what);
        }
    };
    let signed = BASE64_STANDARD.decode(&known.manifest_base64).unwrap_or_default();
    match Signed::<Manifest>::from_bytes(signed).verify(trusted) {
        Ok(mut theirs) => {
            note(theirs.version != manifest.version, "the version");
            note(theirs.reverts() != manifest.reverts(), "revert_to");
            note(theirs.expires_at_s != manifest.expires_at_s, "the expiry");
            theirs.sequence = manifest.sequence;
            theirs.version.clone_from(&manifest.version);
            theirs.revert_to.clone_from(&manifest.revert_to);
            theirs.expires_at_s = manifest.expires_at_s;
            note(theirs != *manifest, "other fields of the manifest");
        }
        // It was revoked since.
        Err(_) => note(true, "the publisher key"),
    }
    note(known.channel != publication.channel, "the channel");
    note(known.requires != publication.requires, "requires");
    let elf_digest = publication.elf_digest.map(|digest| digest.to_string());
    note(known.elf_digest != elf_digest, "the ELF file");
    note(known.notes != publication.notes, "the notes");
    differs
}
