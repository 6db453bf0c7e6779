//! The images that this repository builds for chips: where they are, and building them.

use std::io::{BufRead, BufReader};
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

/// Whether a source of the firmware was changed since this image was built.
pub(crate) fn has_newer_sources(root: &Path, image: &Path) -> bool {
    let changed = |path: &Path| path.metadata().and_then(|metadata| metadata.modified());
    let Ok(built) = changed(image) else { return true };
    let mut folders = vec![root.join("firmware"), root.join("crates")];
    while let Some(folder) = folders.pop() {
        for entry in folder.read_dir().into_iter().flatten().flatten() {
            let path = entry.path();
            let is_source = path
                .extension()
                .is_some_and(|end| ["rs", "toml", "lock", "x", "S"].iter().any(|source| end == *source));
            // Tests and what was built are none of it.
            let is_left_out = ["target", "tests"].iter().any(|name| path.ends_with(name));
            match entry.file_type() {
                Ok(kind) if kind.is_dir() && !is_left_out => folders.push(path),
                Ok(kind) if kind.is_file() && is_source && changed(&path).is_ok_and(|at| at > built) => {
                    return true;
                }
                Ok(_) | Err(_) => {}
            }
        }
    }
    false
}

/// Builds the image of this name; the first time takes minutes.
pub(crate) fn build(root: &Path, name: &str) -> Result<(), BuildError> {
    build_noting(root, name, |_| ())
}

/// The same; `note` is told each line that the build says.
pub(crate) fn build_noting(root: &Path, name: &str, note: impl Fn(&str)) -> Result<(), BuildError> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut child = Command::new(cargo)
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
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(BuildError::Cargo)?;
    let mut output = String::new();
    for line in child.stderr.take().into_iter().flat_map(|stderr| BufReader::new(stderr).split(b'\n')) {
        let line = line.map_err(BuildError::Cargo)?;
        let line = String::from_utf8_lossy(&line);
        note(line.trim());
        output += &line;
        output.push('\n');
    }
    let status = child.wait().map_err(BuildError::Cargo)?;
    if status.success() { Ok(()) } else { Err(BuildError::Failed { output }) }
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
    fn a_source_that_was_changed_later_is_noticed() {
        let root = tempfile::tempdir().unwrap();
        let image = root.path().join("image.bin");
        assert!(has_newer_sources(root.path(), &image), "there is none yet");
        for folder in ["firmware/app/src", "firmware/target", "crates/a/src", "crates/a/tests"] {
            std::fs::create_dir_all(root.path().join(folder)).unwrap();
        }
        let at = |name: &str, after_s: u64| {
            let path = root.path().join(name);
            let file = std::fs::File::create(path).unwrap();
            file.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(after_s)).unwrap();
        };
        at("image.bin", 100);
        at("firmware/app/src/main.rs", 50);
        for (name, is_newer) in [
            ("firmware/target/x.rs", false),
            ("crates/a/tests/it.rs", false),
            ("crates/a/src/note.md", false),
            ("crates/a/src/lib.rs", true),
        ] {
            at(name, 150);
            assert_eq!(has_newer_sources(root.path(), &image), is_newer, "{name}");
        }
    }

    #[test]
    fn a_failed_build_tells_its_first_error() {
        let output = "warning: x\nerror: no Rust toolchain found\n- rustup: absent\n".to_owned();
        let text = BuildError::Failed { output }.to_string();
        assert!(text.ends_with("failed (error: no Rust toolchain found)"), "{text}");
    }
}
