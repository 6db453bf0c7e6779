//! The updater's image: the user's file, the one that this program carries, or the one that this repository builds.

use std::path::PathBuf;

use flashfmt::Chip;

use crate::failure::Failure;
use crate::firmware::{self, BuildError};
use crate::inspect::{ImageFile, InspectError};
use crate::ui::Ui;

/// Chips that `cargo xtask firmware` builds an updater for.
const WITH_UPDATER: &str = "esp32c3, esp32c6";

/// Images by chip that were taken into this program: those of a release, none of a build in the repository.
static CARRIED: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/carried.rs"));

/// Why there is no updater.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UpdaterError {
    /// Nobody has made one yet.
    #[error("expected a chip that an updater is built for ({WITH_UPDATER}), found {chip}")]
    NoUpdater {
        /// For which chip.
        chip: Chip,
    },
    /// Installed elsewhere, so there is nothing to build from.
    #[error("there is no updater image for {chip}: this pitstop runs outside its repository")]
    NoRepository {
        /// For which chip.
        chip: Chip,
    },
    /// The build failed.
    #[error("the updater cannot be built: {0}")]
    Build(#[from] BuildError),
    /// Built, but not for this chip.
    #[error("`cargo xtask firmware` builds no updater for {chip}: {} is not there", .path.display())]
    NotBuilt {
        /// For which chip.
        chip: Chip,
        /// Where it would be.
        path: PathBuf,
    },
    /// What was built is no image.
    #[error(transparent)]
    Image(#[from] InspectError),
}

/// The updater for `chip` that this program carries, or else one that is built in its repository.
pub(crate) fn find(chip: Chip, ui: &Ui) -> Result<ImageFile, UpdaterError> {
    if let Some(bytes) = carried(CARRIED, chip) {
        let of_release = |source| InspectError::Image { path: "the updater of this release".into(), source };
        return Ok(ImageFile::parse(bytes.to_vec()).map_err(of_release)?);
    }
    build(chip, ui)
}

fn carried(images: &'static [(&str, &[u8])], chip: Chip) -> Option<&'static [u8]> {
    images.iter().find(|(name, _)| *name == chip.name()).map(|(_, bytes)| *bytes)
}

fn build(chip: Chip, ui: &Ui) -> Result<ImageFile, UpdaterError> {
    if !WITH_UPDATER.split(", ").any(|name| name == chip.name()) {
        return Err(UpdaterError::NoUpdater { chip });
    }
    let root = firmware::repository().ok_or(UpdaterError::NoRepository { chip })?;
    let spinner = ui.spinner("building the updater; the first time takes minutes");
    let built = firmware::build(root, &name(chip));
    drop(spinner);
    built?;
    let path = firmware::path(root, &name(chip));
    if !path.exists() {
        return Err(UpdaterError::NotBuilt { chip, path });
    }
    Ok(ImageFile::read(&path)?)
}

/// The updater for `chip` that was built here before, if there is one.
pub(crate) fn built_before(chip: Chip) -> Option<PathBuf> {
    firmware::repository().map(|root| firmware::path(root, &name(chip))).filter(|path| path.exists())
}

/// As `cargo xtask firmware` names it.
fn name(chip: Chip) -> String {
    format!("updater-{chip}")
}

impl From<UpdaterError> for Failure {
    fn from(error: UpdaterError) -> Self {
        let hint = match error {
            UpdaterError::NoUpdater { .. } => {
                "docs/hardware.md says what works on which chip; an updater of your own goes to --updater FILE"
            }
            UpdaterError::NoRepository { .. } | UpdaterError::NotBuilt { .. } => {
                "give the updater's image with --updater FILE"
            }
            UpdaterError::Build(_) => {
                "run `cargo xtask firmware` to see why, or give the updater's image with --updater FILE"
            }
            UpdaterError::Image(error) => return error.into(),
        };
        Failure::new(error.to_string()).hint(hint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_carried_image_is_found_by_its_chip() {
        static IMAGES: &[(&str, &[u8])] = &[("esp32c3", &[3]), ("esp32c6", &[6])];
        assert_eq!(carried(IMAGES, Chip::Esp32C6), Some(&[6][..]));
        assert_eq!(carried(IMAGES, Chip::Esp32S3), None);
    }
}
