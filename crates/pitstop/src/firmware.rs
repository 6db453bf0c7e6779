//! The images that this repository builds for chips: where they are, and building them.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Why an image could not be built.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BuildError {
    /// `cargo` could not be started.
    #[error("cargo could not be started: {0}")]
    Cargo(#[source] std::io::Error),
    /// The build failed.
    #[error("`cargo xtask firmware` failed{}", reason(.output))]
    Failed {
        /// What it said.
        output: String,
    },
}

/// The repository that this program was built from; `None` when it runs elsewhere.
pub(crate) fn repository() -> Option<&'static Path> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2)?;
    root.join("firmware/Cargo.toml").is_file().then_some(root)
}

/// Where `cargo xtask firmware` leaves the image of this name.
pub(crate) fn path(root: &Path, name: &str) -> PathBuf {
    root.join(format!("target/firmware/{name}.bin"))
}

/// Builds the image of this name; the first time takes minutes.
pub(crate) fn build(root: &Path, name: &str) -> Result<(), BuildError> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args([
            "run",
            "--quiet",
            "--package",
            "xtask",
            "--no-default-features",
            "--",
            "firmware",
            "--only",
            name,
        ])
        .current_dir(root)
        .stdin(Stdio::null())
        .output()
        .map_err(BuildError::Cargo)?;
    if output.status.success() {
        return Ok(());
    }
    Err(BuildError::Failed { output: String::from_utf8_lossy(&output.stderr).into_owned() })
}

/// The first line that tells of an error.
fn reason(output: &str) -> String {
    let line = output.lines().find(|line| line.starts_with("error"));
    line.map_or_else(String::new, |line| format!(" ({line})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_build_tells_its_first_error() {
        let output = "warning: x\nerror: no Rust toolchain found\n- rustup: absent\n".to_owned();
        let text = BuildError::Failed { output }.to_string();
        assert!(text.ends_with("failed (error: no Rust toolchain found)"), "{text}");
    }
}
