//! What the API answers when a release is not published.

use axum::http::StatusCode;

use super::{PublishError, Unpublishable};
use crate::problem::{Problem, Refused};
use crate::rollout_problem;

impl From<PublishError> for Problem {
    fn from(error: PublishError) -> Self {
        use PublishError as E;
        use StatusCode as S;

        let detail = error.to_string();
        let (status, kind, title) = match error {
            E::Store(error) => return error.into(),
            E::Artifacts(error) => return error.into(),
            E::Quota(error) => return error.into(),
            E::Stored(..) => return Self::internal(error),
            E::Rollout { refusal, .. } => return Self::Refused(rollout_problem::refused(&refusal, detail)),
            E::SameImage { .. } => (S::CONFLICT, "image-published", "The image is that of another release"),
            E::Sequence { .. } => (S::CONFLICT, "sequence-not-newer", "The sequence number is not new"),
            E::Base64 | E::Manifest(_) => {
                (S::UNPROCESSABLE_ENTITY, "manifest-malformed", "Not a signed manifest")
            }
            E::NoPublisherKey { .. } => {
                (S::UNPROCESSABLE_ENTITY, "no-publisher-key", "The product has no publisher key")
            }
            E::Signature { .. } => (S::UNPROCESSABLE_ENTITY, "manifest-signature", "Signed by a stranger"),
            E::RevokedKey { .. } => {
                (S::UNPROCESSABLE_ENTITY, "publisher-key-revoked", "Signed with a revoked key")
            }
            E::Product { .. } => (S::UNPROCESSABLE_ENTITY, "product-mismatch", "For another product"),
            E::Chip { .. } => (S::UNPROCESSABLE_ENTITY, "chip-mismatch", "For another chip"),
            E::ArtifactMissing { .. } => {
                (S::UNPROCESSABLE_ENTITY, "artifact-missing", "The artifact is not on the server")
            }
            E::Image(_) | E::Unpublishable(Unpublishable::Tail { .. } | Unpublishable::Revisions { .. }) => {
                (S::UNPROCESSABLE_ENTITY, "image-invalid", "Not a bootable image")
            }
            E::NotAnApplication(_) => {
                (S::UNPROCESSABLE_ENTITY, "image-not-an-application", "Not an application")
            }
            E::ConfirmsItself { .. } => {
                (S::UNPROCESSABLE_ENTITY, "image-confirms-itself", "The updater would not run again")
            }
            E::UntrustedKey { .. } => {
                (S::UNPROCESSABLE_ENTITY, "publisher-key-untrusted", "No device trusts the key")
            }
            E::ConstantVersion { .. } => {
                (S::UNPROCESSABLE_ENTITY, "version-of-arduino", "Not a version of its own")
            }
            E::NoDescriptor(_) => (S::UNPROCESSABLE_ENTITY, "image-without-descriptor", "No app descriptor"),
            E::ImageChip { .. } => {
                (S::UNPROCESSABLE_ENTITY, "image-chip-mismatch", "An image for another chip")
            }
            E::ImageRevision { .. } => {
                (S::UNPROCESSABLE_ENTITY, "image-chip-revision", "An image for newer chips")
            }
            E::Unpublishable(Unpublishable::NotStarted { .. }) => {
                (S::UNPROCESSABLE_ENTITY, "image-not-chain-loadable", "The updater cannot start this image")
            }
            E::RevertTo { .. } => {
                (S::UNPROCESSABLE_ENTITY, "revert-to-unknown", "A release to return to is not there")
            }
            E::Requires { .. } => {
                (S::UNPROCESSABLE_ENTITY, "requires-unknown", "The release that it requires is not there")
            }
            E::Archived { .. } => (S::CONFLICT, "release-archived", "The release is archived"),
            E::ArtifactGone { .. } => {
                (S::UNPROCESSABLE_ENTITY, "artifact-missing", "The artifact is not on the server")
            }
            E::ElfMissing { .. } => {
                (S::UNPROCESSABLE_ENTITY, "elf-missing", "The ELF file is not on the server")
            }
            E::TooLarge { .. } => {
                (S::UNPROCESSABLE_ENTITY, "image-too-large", "The image does not fit a slot")
            }
            E::MinSlot { .. } => {
                (S::UNPROCESSABLE_ENTITY, "min-slot-too-large", "The minimum slot is larger than a slot")
            }
            E::Size { .. } | E::Chunk { .. } => {
                (S::UNPROCESSABLE_ENTITY, "artifact-mismatch", "Manifest and artifact differ")
            }
        };
        Self::Refused(Refused { status, kind, title, detail })
    }
}
