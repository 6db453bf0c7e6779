//! The updater's image: the user's file, or the one that this repository builds.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use flashfmt::Chip;

use crate::failure::Failure;
use crate::inspect::{ImageFile, InspectError};
use crate::ui::Ui;

/// Why there is no updater.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UpdaterError {
    /// Installed elsewhere, so there is nothing to build from.
    #[error("there is no updater image for {chip}: this pitstop runs outside its repository")]
    NoRepository {
        /// For which chip.
        chip: Chip,
    },
    /// `cargo` could not be started.
    #[error("the updater cannot be built: cargo could not be started: {0}")]
    Cargo(#[source] std::io::Error),
    /// The build failed.
    #[error("the updater cannot be built: `cargo xtask firmware` failed{}", reason(.output))]
    Build {
        /// What it said.
        output: String,
    },
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

/// Builds the updater for `chip` in the repository that this program was built from, and reads it.
pub(crate) fn build(chip: Chip, ui: &Ui) -> Result<ImageFile, UpdaterError> {
    let root = repository().ok_or(UpdaterError::NoRepository { chip })?;
    let spinner = ui.spinner("building the updater; the first time takes minutes");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["run", "--quiet", "--package", "xtask", "--no-default-features", "--", "firmware", "--only"])
        .arg(format!("updater-{chip}"))
        .current_dir(root)
        .stdin(Stdio::null())
        .output()
        .map_err(UpdaterError::Cargo)?;
    drop(spinner);
    if !output.status.success() {
        return Err(UpdaterError::Build { output: String::from_utf8_lossy(&output.stderr).into_owned() });
    }
    let path = built_path(root, chip);
    if !path.exists() {
        return Err(UpdaterError::NotBuilt { chip, path });
    }
    Ok(ImageFile::read(&path)?)
}

/// The updater for `chip` that was built here before, if there is one.
pub(crate) fn built_before(chip: Chip) -> Option<PathBuf> {
    repository().map(|root| built_path(root, chip)).filter(|path| path.exists())
}

fn built_path(root: &Path, chip: Chip) -> PathBuf {
    root.join(format!("target/firmware/updater-{chip}.bin"))
}

fn repository() -> Option<&'static Path> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2)?;
    root.join("firmware/Cargo.toml").is_file().then_some(root)
}

/// The first line that tells of an error.
fn reason(output: &str) -> String {
    let line = output.lines().find(|line| line.starts_with("error"));
    line.map_or_else(String::new, |line| format!(" ({line})"))
}

impl From<UpdaterError> for Failure {
    fn from(error: UpdaterError) -> Self {
        let hint = match error {
            UpdaterError::NoRepository { .. } | UpdaterError::NotBuilt { .. } => {
                "give the updater's image with --updater FILE"
            }
            UpdaterError::Cargo(_) | UpdaterError::Build { .. } => {
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
    fn a_failed_build_tells_its_first_error() {
        let output = "warning: x\nerror: no Rust toolchain found\n- rustup: absent\n".to_owned();
        let text = UpdaterError::Build { output }.to_string();
        assert!(text.ends_with("failed (error: no Rust toolchain found)"), "{text}");
    }
}
