//! The updater's image: the user's file, the one that this program carries, or the one that this repository builds.

use std::path::{Path, PathBuf};

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

/// What the version of an updater for emulators ends in (`firmware/updater/src/main.rs`): it has Ethernet and no radio.
const FOR_EMULATORS: &str = "+emulator";

/// Whether an updater is for emulators: a board has no network with it.
pub(crate) fn is_for_emulators(image: &ImageFile) -> bool {
    image.summary.app_desc.is_some_and(|app_desc| app_desc.version.as_str().ends_with(FOR_EMULATORS))
}

/// The updater for `chip` that this program carries, if it is one of a release.
///
/// # Errors
/// [`UpdaterError::Image`]
pub(crate) fn carried(chip: Chip) -> Result<Option<ImageFile>, UpdaterError> {
    let Some(bytes) = find(CARRIED, chip) else { return Ok(None) };
    let of_release = |source| InspectError::Image { path: "the updater of this release".into(), source };
    Ok(Some(ImageFile::parse(bytes.to_vec()).map_err(of_release)?))
}

/// Refuses a chip that this program neither carries an updater for nor can build one.
///
/// # Errors
/// [`UpdaterError`]
pub(crate) fn check(chip: Chip) -> Result<(), UpdaterError> {
    match carried(chip)? {
        Some(_) => Ok(()),
        None => Buildable::find(chip).map(drop),
    }
}

fn find(images: &'static [(&str, &[u8])], chip: Chip) -> Option<&'static [u8]> {
    images.iter().find(|(name, _)| *name == chip.name()).map(|(_, bytes)| *bytes)
}

/// An updater that can be built here.
pub(crate) struct Buildable {
    chip: Chip,
    root: &'static Path,
}

impl Buildable {
    /// The updater for `chip`, from the repository that this program was built from; nothing is built yet.
    ///
    /// # Errors
    /// [`UpdaterError`]
    pub(crate) fn find(chip: Chip) -> Result<Self, UpdaterError> {
        if !WITH_UPDATER.split(", ").any(|name| name == chip.name()) {
            return Err(UpdaterError::NoUpdater { chip });
        }
        let root = firmware::repository().ok_or(UpdaterError::NoRepository { chip })?;
        Ok(Self { chip, root })
    }

    /// Builds it, which may take minutes, and reads it.
    ///
    /// # Errors
    /// [`UpdaterError`]
    pub(crate) fn build(&self, ui: &Ui) -> Result<ImageFile, UpdaterError> {
        let Self { chip, root } = *self;
        let spinner = ui.spinner("building the updater; the first time takes minutes");
        firmware::build_noting(root, &name(chip), |line| spinner.note(line))?;
        drop(spinner);
        let path = firmware::path(root, &name(chip));
        if !path.exists() {
            return Err(UpdaterError::NotBuilt { chip, path });
        }
        Ok(ImageFile::read(&path)?)
    }
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
        assert_eq!(find(IMAGES, Chip::Esp32C6), Some(&[6][..]));
        assert_eq!(find(IMAGES, Chip::Esp32S3), None);
    }
}
