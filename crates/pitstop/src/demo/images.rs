//! The two applications of the demo: the user's, this repository's firmware, or composed ones.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use flashfmt::image::compose;
use flashfmt::{AppDescriptor, StreamVerifier};

use crate::failure::Failure;
use crate::firmware;
use crate::inspect::ImageFile;
use crate::ui::Spinner;

/// Versions of the demo's own applications.
const VERSIONS: [&str; 2] = ["1.0.0", "1.1.0"];

/// Two versions of one application.
pub(super) struct Images {
    pub(super) first: Application,
    pub(super) second: Application,
    pub(super) origin: Origin,
}

/// An application and its version for people.
pub(super) struct Application {
    pub(super) version: String,
    pub(super) image: ImageFile,
}

/// Where the images come from.
pub(super) enum Origin {
    /// `--app`.
    Given,
    /// `firmware/apps/hello` of this repository.
    Firmware,
    /// Composed here, for this reason.
    Composed(String),
}

/// How an image of this repository may be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Build {
    /// Only when it was built before: building takes minutes.
    No,
    /// Built with a toolchain that is there, or that rustup downloads.
    Yes,
}

impl Images {
    /// The user's images, or the best that can be had; the rest is as in [`built`].
    pub(super) fn find(
        given: &[PathBuf],
        build: Build,
        building: impl Fn(&str, &str) -> Spinner,
    ) -> Result<Self, Failure> {
        if let [first, second] = given {
            let read = |path: &Path, otherwise: &str| -> Result<Application, Failure> {
                let image = ImageFile::read(path)?;
                let own = image.summary.app_desc.as_ref().map(|app| app.version.as_str().to_owned());
                let version = own.filter(|version| !version.is_empty()).unwrap_or_else(|| otherwise.into());
                Ok(Application { version, image })
            };
            let (mut first, mut second) = (read(first, VERSIONS[0])?, read(second, VERSIONS[1])?);
            if first.version == second.version {
                // Versions of app descriptors are often constants; the digest tells builds apart.
                first.version += "-a";
                second.version += "-b";
            }
            return Ok(Self { first, second, origin: Origin::Given });
        }
        let hello = |version: &str| -> Result<Application, String> {
            let image = built(&format!("hello-{version}"), build, &building)?;
            Ok(Application { version: version.into(), image })
        };
        match hello(VERSIONS[0]).and_then(|first| Ok((first, hello(VERSIONS[1])?))) {
            Ok((first, second)) => Ok(Self { first, second, origin: Origin::Firmware }),
            Err(reason) => {
                let [first, second] = [compose(VERSIONS[0])?, compose(VERSIONS[1])?];
                Ok(Self { first, second, origin: Origin::Composed(reason) })
            }
        }
    }
}

/// An image of this repository's firmware by its name: the one that was built since its sources were changed, or built now,
/// when it may be. `building` is told the name and the toolchain then, and shows that it goes on. `Err` says why there is no
/// image.
pub(super) fn built(
    name: &str,
    build: Build,
    building: impl Fn(&str, &str) -> Spinner,
) -> Result<ImageFile, String> {
    let root = firmware::repository().ok_or("this pitstop runs outside its repository")?;
    let path = firmware::path(root, name);
    let read = || ImageFile::read(&path);
    let there = read().ok();
    let is_new = there.is_some() && !firmware::has_newer_sources(root, &path);
    match (there, build) {
        (Some(image), _) if is_new => return Ok(image),
        (_, Build::No) => return Err("--build-apps builds real ones".into()),
        (_, Build::Yes) => {}
    }
    let toolchain = toolchain(&root.join("firmware"))
        .or_else(|| can_download().then_some("a toolchain that rustup downloads first"))
        .ok_or("no toolchain for the chip is installed")?;
    let _goes_on = building(name, toolchain);
    firmware::build(root, name).map_err(|error| error.to_string())?;
    read().map_err(|error| error.to_string())
}

/// A quick look for what `cargo xtask firmware` would use, without compiling `xtask` to ask it.
fn toolchain(firmware: &Path) -> Option<&'static str> {
    let output = |program: &str, args: &[&str]| -> Option<String> {
        let output =
            Command::new(program).args(args).current_dir(firmware).stderr(Stdio::null()).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let rustup = output("rustup", &["target", "list", "--installed"]);
    if rustup.is_some_and(|targets| targets.contains("riscv32imc-unknown-none-elf")) {
        return Some("rustup's toolchain");
    }
    let sysroot = output("/usr/bin/rustc", &["--print", "sysroot"])?;
    let sources = Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library/core");
    (sources.is_dir() && has_lld()).then_some("Debian's toolchain")
}

/// Whether `cargo xtask firmware` can have rustup download what `firmware/rust-toolchain.toml` names.
fn can_download() -> bool {
    let is_forbidden = std::env::var_os("RUSTUP_AUTO_INSTALL").is_some_and(|value| value == "0");
    let rustup = || Command::new("rustup").arg("--version").stderr(Stdio::null()).output();
    !is_forbidden && rustup().is_ok_and(|output| output.status.success())
}

/// Debian names LLVM's linker `ld.lld`, or with its version: `ld.lld-19`.
fn has_lld() -> bool {
    let is_lld = |entry: std::io::Result<std::fs::DirEntry>| {
        entry.is_ok_and(|entry| {
            let name = entry.file_name();
            name == "ld.lld" || name.to_string_lossy().starts_with("ld.lld-")
        })
    };
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .filter_map(|folder| folder.read_dir().ok())
        .any(|mut folder| folder.any(is_lld))
}

/// A valid image of an application: header, segments, app descriptor, checksum, SHA-256.
pub(super) fn compose(version: &str) -> Result<Application, Failure> {
    /// Enough for three chunks, so that there is something to see.
    const RODATA_BYTES: usize = 96 * 1024;
    let rodata: Vec<u8> = version.bytes().cycle().take(RODATA_BYTES).collect();
    let bytes = compose::esp32c3(&AppDescriptor::new("hello", version), &rodata, &[0x13; 4096], &[0x13; 256])
        .map_err(|error| Failure::new(format!("the demo's image cannot be composed: {error}")))?;
    let mut verifier = StreamVerifier::new(u32::MAX);
    let summary = verifier
        .update(&bytes)
        .and_then(|_| verifier.finish())
        .map_err(|error| Failure::new(format!("the demo's composed image is wrong: {error}")))?;
    Ok(Application { version: version.into(), image: ImageFile { bytes, summary } })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn composed_images_differ_and_take_three_chunks() {
        let [first, second] = VERSIONS.map(|version| compose(version).unwrap());
        assert_ne!(first.image.summary.digest, second.image.summary.digest);
        assert!(first.image.bytes.len() > 2 * manifest::CHUNK_BYTES as usize);
        let app = first.image.summary.app_desc.unwrap();
        assert_eq!((app.project_name.as_str(), app.version.as_str()), ("hello", "1.0.0"));
    }
}
