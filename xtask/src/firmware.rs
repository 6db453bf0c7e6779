//! `cargo xtask firmware`: the example application, built for the chip and made into images.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};

use crate::toolchain::{self, TARGET, Toolchain};
use crate::{default_firmware_dir, image, process};

/// The example application, as its crate and its app descriptor are named.
const APPLICATION: &str = "hello";

/// Versions that are built from the one source: one to install, one to update to.
const VERSIONS: [&str; 2] = ["1.0.0", "1.1.0"];

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Folder for the images [default: target/firmware]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Only say which toolchain would be used; builds and downloads nothing
    #[arg(long)]
    probe: bool,
}

/// Builds every version of the example application, or with `--probe` only names the toolchain.
///
/// Errors: [`toolchain::Missing`] when nothing here can build for the chip.
pub(crate) fn run(root: &Path, arguments: &Arguments) -> anyhow::Result<()> {
    if arguments.probe {
        println!("toolchain: {}", toolchain::find(root)?);
        return Ok(());
    }
    let toolchain = toolchain::find_or_install(root)?;
    println!("toolchain: {toolchain}");
    let out = arguments.out.clone().unwrap_or_else(|| default_firmware_dir(root));
    build(root, &toolchain, &out)
}

/// Builds `hello-<version>.bin` for each version into the folder `out`, and checks what was built.
///
/// A file whose content would not change is left alone, its time included.
pub(crate) fn build(root: &Path, toolchain: &Toolchain, out: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(out).with_context(|| format!("cannot create {}", out.display()))?;
    for version in VERSIONS {
        let elf = build_elf(root, toolchain, version)?;
        let elf = fs::read(&elf).with_context(|| format!("cannot read {}", elf.display()))?;
        let image = image::from_elf(&elf)?;

        let found = image::describe(&image)?;
        let expected =
            image::Description { project_name: APPLICATION.to_owned(), version: version.to_owned() };
        ensure!(found == expected, "the image describes itself as {found:?}, expected {expected:?}");

        let file = out.join(format!("{APPLICATION}-{version}.bin"));
        if fs::read(&file).ok().as_deref() != Some(&image[..]) {
            fs::write(&file, &image).with_context(|| format!("cannot write {}", file.display()))?;
        }
        println!("{}: {} bytes", file.display(), image.len());
    }
    Ok(())
}

fn build_elf(root: &Path, toolchain: &Toolchain, version: &str) -> anyhow::Result<PathBuf> {
    let folder = toolchain::firmware_dir(root);
    let target = folder.join("target");
    let mut cargo = toolchain.cargo();
    cargo
        .args([
            "build",
            "--release",
            "--locked",
            "--package",
            APPLICATION,
            "--target",
            TARGET,
            "--target-dir",
        ])
        .arg(&target)
        .env("HELLO_VERSION", version)
        // firmware/.cargo/config.toml is read only from within.
        .current_dir(&folder);
    process::run(&mut cargo)?;
    Ok(target.join(TARGET).join("release").join(APPLICATION))
}
