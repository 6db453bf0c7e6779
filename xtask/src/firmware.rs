//! `cargo xtask firmware`: updater and example applications, built for their chips and made into images.

mod table;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};

use crate::image::{self, Chip};
use crate::toolchain::{self, TARGET, TARGET_ESP32C6, TARGET_WITH_CAS, Toolchain};
use crate::{default_firmware_dir, process};
use table::{IMAGES, Image, Kind};

/// Size of the partition `factory` in every built-in layout (`layouts/*.csv`).
const UPDATER_SLOT_BYTES: usize = 0xF_0000;

/// What an updater image must leave free of its slot, for what is fixed and added in the years a device is in use.
///
/// The ESP32-C6's radio library is 80 KB larger than the ESP32-C3's. Its updater has run nowhere yet, so what is left is
/// what its first release will have to make do with.
const fn margin_bytes(chip: Chip) -> usize {
    match chip {
        Chip::Esp32c3 => 48 * 1024,
        Chip::Esp32c6 => 24 * 1024,
    }
}

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Build only this image; may be given more than once
    #[arg(long, value_name = "IMAGE", value_parser = table::names())]
    only: Vec<String>,
    /// Build only for this chip
    #[arg(long)]
    chip: Option<Chip>,
    /// Folder for the images [default: target/firmware]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Only say which toolchain would be used; builds and downloads nothing
    #[arg(long)]
    probe: bool,
}

/// Builds the chosen images, or with `--probe` only names the toolchain.
///
/// Errors: [`toolchain::Missing`] when nothing here can build for the chips.
pub(crate) fn run(root: &Path, arguments: &Arguments) -> anyhow::Result<()> {
    if arguments.probe {
        println!("toolchain: {}", toolchain::find(root)?);
        return Ok(());
    }
    let toolchain = toolchain::find_or_install(root)?;
    println!("toolchain: {toolchain}");
    let out = arguments.out.clone().unwrap_or_else(|| default_firmware_dir(root));
    build_some(root, &toolchain, &out, |image| {
        (arguments.only.is_empty() || arguments.only.iter().any(|name| name == image.name))
            && arguments.chip.is_none_or(|chip| chip == image.chip)
    })
}

/// Builds `<name>.bin` for every image of the table into the folder `out`, and checks what was built.
///
/// A file whose content would not change is left alone, its time included. Prints a table of sizes.
///
/// Errors: an image that cannot be built or describes itself wrongly; an updater that leaves less than
/// [`margin_bytes`] of its slot free.
pub(crate) fn build(root: &Path, toolchain: &Toolchain, out: &Path) -> anyhow::Result<()> {
    build_some(root, toolchain, out, |_| true)
}

/// [`build`] for the images that are `wanted`.
pub(crate) fn build_some(
    root: &Path,
    toolchain: &Toolchain,
    out: &Path,
    wanted: impl Fn(&Image) -> bool,
) -> anyhow::Result<()> {
    fs::create_dir_all(out).with_context(|| format!("cannot create {}", out.display()))?;
    let mut rows = Vec::new();
    let mut too_large = Vec::new();
    for image in IMAGES.iter().filter(|image| wanted(image)) {
        let (length_bytes, version) =
            build_one(root, toolchain, out, image).with_context(|| format!("image {}", image.name))?;
        if !fits(image, length_bytes) {
            too_large.push(image.name);
        }
        rows.push(row(image, &version, length_bytes));
    }

    println!("\nimages in {}:", out.display());
    println!("{:<26} {:>10} {:>10}  {:>10} {:>10}", "image", "version", "bytes", "slot", "margin");
    for row in rows {
        println!("{row}");
    }
    if !too_large.is_empty() {
        bail!(
            "too large: {}; an updater must leave a margin in its {UPDATER_SLOT_BYTES} bytes (see margin_bytes)",
            too_large.join(", ")
        );
    }
    Ok(())
}

/// Builds one image; returns its length in bytes and the version it states.
fn build_one(
    root: &Path,
    toolchain: &Toolchain,
    out: &Path,
    image: &Image,
) -> anyhow::Result<(usize, String)> {
    let elf = build_elf(root, toolchain, image)?;
    let elf = fs::read(&elf).with_context(|| format!("cannot read {}", elf.display()))?;
    let bytes = image::from_elf(&elf, image.chip)?;

    let found = image::describe(&bytes, image.chip)?;
    ensure!(
        found.project_name == image.binary && image.version.is_none_or(|version| version == found.version),
        "it describes itself as {found:?}, expected {} {}",
        image.binary,
        image.version.unwrap_or("of any version")
    );

    let file = out.join(format!("{}.bin", image.name));
    if fs::read(&file).ok().as_deref() != Some(&bytes[..]) {
        fs::write(&file, &bytes).with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok((bytes.len(), found.version))
}

fn build_elf(root: &Path, toolchain: &Toolchain, image: &Image) -> anyhow::Result<PathBuf> {
    let folder = toolchain::firmware_dir(root);
    // Of their own: the updater's flags are others.
    let target_dir = match image.kind {
        Kind::Application => folder.join("target"),
        Kind::Updater => folder.join("target").join("updater"),
    };
    // Cargo names the output folder after a target file's stem, which is the built-in target's name.
    let (target, target_name) = match (image.chip, image.kind) {
        (Chip::Esp32c3, Kind::Application) => (TARGET.into(), TARGET),
        (Chip::Esp32c3, Kind::Updater) => (root.join(TARGET_WITH_CAS).into_os_string(), TARGET),
        // Has the atomic instructions that `Arc` needs.
        (Chip::Esp32c6, Kind::Application | Kind::Updater) => (TARGET_ESP32C6.into(), TARGET_ESP32C6),
    };
    let mut cargo = match image.kind {
        Kind::Application => toolchain.cargo(),
        Kind::Updater => toolchain.cargo_for_size(image.chip).with_context(|| {
            "the sources of the standard library are needed: `cd firmware && rustup component add rust-src`"
        })?,
    };
    cargo.args(["build", "--release", "--locked", "--package", image.package, "--bin", image.binary]);
    if !image.features.is_empty() {
        cargo.args(["--no-default-features", "--features"]).arg(image.features.join(","));
    }
    cargo.arg("--target").arg(target).arg("--target-dir").arg(&target_dir);
    if let (Kind::Application, Some(version)) = (image.kind, image.version) {
        // Read by the one application that is built in two versions.
        cargo.env("HELLO_VERSION", version);
    }
    // firmware/.cargo/config.toml is read only from within.
    process::run(cargo.current_dir(&folder))?;
    Ok(target_dir.join(target_name).join("release").join(image.binary))
}

/// Whether an image of this length may go where it belongs. An application's slot is its product's choice.
fn fits(image: &Image, length_bytes: usize) -> bool {
    match image.kind {
        Kind::Application => true,
        Kind::Updater => length_bytes + margin_bytes(image.chip) <= UPDATER_SLOT_BYTES,
    }
}

fn row(image: &Image, version: &str, length_bytes: usize) -> String {
    let (slot, margin) = match image.kind {
        Kind::Application => (String::new(), String::new()),
        Kind::Updater => {
            let margin_bytes = UPDATER_SLOT_BYTES as i128 - length_bytes as i128;
            (UPDATER_SLOT_BYTES.to_string(), margin_bytes.to_string())
        }
    };
    let file = format!("{}.bin", image.name);
    format!("{file:<26} {version:>10} {length_bytes:>10}  {slot:>10} {margin:>10}").trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_updater_must_leave_its_margin() {
        let is = |name: &'static str| move |image: &&Image| image.name == name;
        let updater = IMAGES.iter().find(is("updater-esp32c3")).unwrap();
        let application = IMAGES.iter().find(is("hello-1.0.0")).unwrap();
        let largest_bytes = UPDATER_SLOT_BYTES - 48 * 1024;
        assert!(fits(updater, largest_bytes));
        assert!(!fits(updater, largest_bytes + 1));
        assert!(fits(application, UPDATER_SLOT_BYTES));
    }

    #[test]
    fn the_slot_is_that_of_the_layouts() {
        let layouts = crate::repository_root().join("layouts");
        for file in ["4mb.csv", "8mb.csv", "16mb.csv"] {
            let text = fs::read_to_string(layouts.join(file)).unwrap();
            let line = text.lines().find(|line| line.starts_with("factory,")).unwrap();
            let size = line.rsplit(',').next().unwrap().trim().trim_start_matches("0x");
            assert_eq!(usize::from_str_radix(size, 16), Ok(UPDATER_SLOT_BYTES), "{file}");
        }
    }

    #[test]
    fn rows_show_the_margin_of_updaters_only() {
        let of = |name: &str| IMAGES.iter().find(|image| image.name == name).unwrap();
        assert_eq!(
            row(of("updater-esp32c6"), "0.1.0", 900_000),
            "updater-esp32c6.bin             0.1.0     900000      983040      83040"
        );
        assert_eq!(
            row(of("hello-1.0.0"), "1.0.0", 48_000),
            "hello-1.0.0.bin                 1.0.0      48000"
        );
    }
}
