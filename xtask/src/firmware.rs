//! `cargo xtask firmware`: updater and example applications, built for their chips and made into images.

mod flash_writes;
mod size;
mod table;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail, ensure};

use crate::image::{self, Chip};
use crate::toolchain::{self, TARGET_WITH_CAS, Toolchain};
use crate::{default_firmware_dir, process};
use size::Record;
pub(crate) use size::Size;
#[cfg(feature = "gate")]
pub(crate) use table::UPDATER_PREFIX;
use table::{IMAGES, Image, Kind, UPDATER_SLOT_BYTES};

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
    /// Note the sizes in firmware/sizes.csv, from which later builds tell what grew
    #[arg(long)]
    record: bool,
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
    let sizes = build_some(root, &toolchain, &out, |image| {
        (arguments.only.is_empty() || arguments.only.iter().any(|name| name == image.name))
            && arguments.chip.is_none_or(|chip| chip == image.chip)
    })?;
    if arguments.record {
        let mut record = Record::read(root)?;
        sizes.iter().for_each(|(name, size)| record.set(name, *size));
        record.write(root)?;
    }
    Ok(())
}

/// Builds `<name>.bin` for every image of the table into the folder `out`, beside it the program that it was made from as
/// `<name>.elf`, and checks what was built.
///
/// A file whose content would not change is left alone, its time included. Prints a table of sizes, and what grew.
///
/// Errors: an image that cannot be built, describes itself wrongly or would write flash with interrupts on; an updater
/// that is larger than [`Image::most_bytes`].
pub(crate) fn build(root: &Path, toolchain: &Toolchain, out: &Path) -> anyhow::Result<()> {
    build_some(root, toolchain, out, |_| true).map(drop)
}

/// [`build`] for the images that are `wanted`; returns their sizes by name.
pub(crate) fn build_some(
    root: &Path,
    toolchain: &Toolchain,
    out: &Path,
    wanted: impl Fn(&Image) -> bool,
) -> anyhow::Result<Vec<(&'static str, Size)>> {
    fs::create_dir_all(out).with_context(|| format!("cannot create {}", out.display()))?;
    let record = Record::read(root)?;
    let mut sizes = Vec::new();
    let mut rows = Vec::new();
    let mut too_large = Vec::new();
    for image in IMAGES.iter().filter(|image| wanted(image)) {
        let (size, version) =
            build_one(root, toolchain, out, image).with_context(|| format!("image {}", image.name))?;
        if let Some(most_bytes) = image.most_bytes().filter(|most_bytes| size.bytes > *most_bytes) {
            too_large
                .push(format!("{} has {} bytes, at most {most_bytes} are allowed", image.name, size.bytes));
        }
        rows.push(row(image, &version, size, record.of(image.name)));
        sizes.push((image.name, size));
    }

    println!("\nimages in {}:", out.display());
    println!(
        "{:<26} {:>10} {:>10} {:>10}  since firmware/sizes.csv",
        "image", "version", "bytes", "to spare"
    );
    for row in rows {
        println!("{row}");
    }
    if !too_large.is_empty() {
        bail!("too large: {} (see Image::most_bytes)", too_large.join("; "));
    }
    Ok(sizes)
}

/// Builds one image; returns its size and the version it states.
fn build_one(
    root: &Path,
    toolchain: &Toolchain,
    out: &Path,
    image: &Image,
) -> anyhow::Result<(Size, String)> {
    flash_writes::check(&dependencies(root, toolchain, image)?)?;
    let bytes = make(root, toolchain, out, image)?;

    let found = image::describe(&bytes, image.chip)?;
    ensure!(
        found.project_name == image.binary && image.version.is_none_or(|version| version == found.version),
        "it describes itself as {found:?}, expected {} {}",
        image.binary,
        image.version.unwrap_or("of any version")
    );

    Ok((Size::of(&bytes)?, found.version))
}

/// Builds images without a look at what was built: with a planted fault it is not what it should be.
///
/// Errors: one cannot be built.
#[cfg(feature = "gate")]
pub(crate) fn make_some(
    root: &Path,
    toolchain: &Toolchain,
    out: &Path,
    names: &[&str],
) -> anyhow::Result<()> {
    fs::create_dir_all(out).with_context(|| format!("cannot create {}", out.display()))?;
    for image in IMAGES.iter().filter(|image| names.contains(&image.name)) {
        make(root, toolchain, out, image).with_context(|| format!("image {}", image.name))?;
    }
    Ok(())
}

/// Builds one image, and leaves it and its program in the folder `out`.
fn make(root: &Path, toolchain: &Toolchain, out: &Path, image: &Image) -> anyhow::Result<Vec<u8>> {
    let elf = build_elf(root, toolchain, image)?;
    let elf = fs::read(&elf).with_context(|| format!("cannot read {}", elf.display()))?;
    let bytes = image::from_elf(&elf, image.chip)?;
    write_if_other(&out.join(format!("{}.elf", image.name)), &elf)?;
    write_if_other(&out.join(format!("{}.bin", image.name)), &bytes)?;
    Ok(bytes)
}

/// Leaves a file alone that has this content, its time included.
fn write_if_other(file: &Path, content: &[u8]) -> anyhow::Result<()> {
    if fs::read(file).ok().as_deref() != Some(content) {
        fs::write(file, content).with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(())
}

/// The packages that the image uses by itself, with their features, as [`flash_writes::check`] reads them.
fn dependencies(root: &Path, toolchain: &Toolchain, image: &Image) -> anyhow::Result<String> {
    let mut cargo = toolchain.cargo();
    cargo.args([
        "tree",
        "--locked",
        "--edges",
        "normal",
        "--prefix",
        "none",
        // A crate in between brings the driver into images that never write flash.
        "--depth",
        "1",
        "--format",
        flash_writes::FORMAT,
    ]);
    choose(&mut cargo, image);
    process::read(cargo.args(["--target", image.target()]).current_dir(toolchain::firmware_dir(root)))
}

/// Package and features of an image.
fn choose(cargo: &mut Command, image: &Image) {
    cargo.args(["--package", image.package]);
    if !image.features.is_empty() {
        cargo.args(["--no-default-features", "--features"]).arg(image.features.join(","));
    }
}

fn build_elf(root: &Path, toolchain: &Toolchain, image: &Image) -> anyhow::Result<PathBuf> {
    let folder = toolchain::firmware_dir(root);
    // Of their own: the updater's flags are others.
    let target_dir = match image.kind {
        Kind::Application => folder.join("target"),
        Kind::Updater => folder.join("target").join("updater"),
    };
    let target = match (image.chip, image.kind) {
        (Chip::Esp32c3, Kind::Updater) => root.join(TARGET_WITH_CAS).into_os_string(),
        // The ESP32-C6 has the atomic instructions that `Arc` needs.
        (Chip::Esp32c3, Kind::Application) | (Chip::Esp32c6, Kind::Application | Kind::Updater) => {
            image.target().into()
        }
    };
    let mut cargo = match image.kind {
        Kind::Application => toolchain.cargo(),
        Kind::Updater => toolchain.cargo_for_size().with_context(|| {
            "the sources of the standard library are needed: `cd firmware && rustup component add rust-src`"
        })?,
    };
    cargo.args(["build", "--release", "--locked", "--bin", image.binary]);
    choose(&mut cargo, image);
    cargo.arg("--target").arg(target).arg("--target-dir").arg(&target_dir);
    if let (Kind::Application, Some(version)) = (image.kind, image.version) {
        // Read by the one application that is built in two versions.
        cargo.env("HELLO_VERSION", version);
    }
    // firmware/.cargo/config.toml is read only from within.
    process::run(cargo.current_dir(&folder))?;
    // Cargo names the output folder after a target file's stem, which is the built-in target's name.
    Ok(target_dir.join(image.target()).join("release").join(image.binary))
}

fn row(image: &Image, version: &str, size: Size, before: Option<Size>) -> String {
    let to_spare = image.most_bytes().map(|_| UPDATER_SLOT_BYTES as i128 - size.bytes as i128);
    let to_spare = to_spare.map(|bytes| bytes.to_string()).unwrap_or_default();
    let since = before.map_or_else(|| "not recorded".to_owned(), |before| size.since(before));
    let (file, bytes) = (format!("{}.bin", image.name), size.bytes);
    format!("{file:<26} {version:>10} {bytes:>10} {to_spare:>10}  {since}").trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn updaters_have_a_limit_within_their_slot() {
        for image in IMAGES {
            match image.kind {
                Kind::Application => assert_eq!(image.most_bytes(), None),
                Kind::Updater => assert!(image.most_bytes().unwrap() + 48 * 1024 <= UPDATER_SLOT_BYTES),
            }
        }
    }

    #[test]
    fn what_is_recorded_is_within_its_limit() {
        let record = Record::read(crate::repository_root()).unwrap();
        for image in IMAGES {
            if let (Some(most_bytes), Some(size)) = (image.most_bytes(), record.of(image.name)) {
                assert!(size.bytes <= most_bytes, "{}: {} bytes", image.name, size.bytes);
            }
        }
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
    fn rows_show_what_updaters_have_to_spare_and_what_grew() {
        let of = |name: &str| IMAGES.iter().find(|image| image.name == name).unwrap();
        let mut image = vec![0; 900_000];
        let before = Size::of(&image).unwrap();
        image.truncate(48_000);
        let now = Size::of(&image).unwrap();
        assert_eq!(
            row(of("updater-esp32c6"), "0.1.0", before, None),
            "updater-esp32c6.bin             0.1.0     900000      83040  not recorded"
        );
        assert_eq!(
            row(of("hello-1.0.0"), "1.0.0", now, Some(before)),
            "hello-1.0.0.bin                 1.0.0      48000             -852000 bytes"
        );
        assert_eq!(
            row(of("hello-1.0.0"), "1.0.0", now, Some(now)),
            "hello-1.0.0.bin                 1.0.0      48000"
        );
    }
}
