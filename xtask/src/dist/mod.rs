//! `cargo xtask dist`: what a release consists of, in one folder.
//!
//! | file | what |
//! | --- | --- |
//! | `pitstop-<version>-<target>.tar.gz` | the program, stripped, with the updaters' images inside; licences |
//! | `pitstop-<version>-<target>.debug.gz` | the program with its symbols and lines, for backtraces and profilers |
//! | `pitstop-<version>-<architecture>.oci.tar` | the program as a container image: an OCI image layout |
//! | `updater-<chip>-<version>.bin` | the updater of each chip |
//! | `*.cdx.json` | the bill of materials of each, CycloneDX 1.5 |
//! | `THIRD-PARTY.txt` | licences of everything in them |
//! | `SHA256SUMS` | for `sha256sum --check` |
//!
//! Nothing in it is of the time when it was built: files have the time of the commit.

mod archive;
mod licences;
mod oci;
mod packages;
mod sbom;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail, ensure};
use sha2::{Digest as _, Sha256};

use crate::{firmware, process, toolchain};
use archive::{Archive, gzip};
use packages::Packages;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// A new folder for the release [default: target/distrib]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// What names the files of a release.
struct Release {
    version: String,
    /// As rustc names the machine that it builds for.
    target: String,
    /// Seconds since 1970, of the commit.
    at_s: u64,
}

/// Makes a release, and starts what it made.
///
/// Errors: [`toolchain::Missing`]; something cannot be built, written or started.
pub(crate) fn run(root: &Path, arguments: &Arguments) -> anyhow::Result<()> {
    let out = arguments.out.clone().unwrap_or_else(|| root.join("target/distrib"));
    if out.exists() {
        ensure!(
            out.join("SHA256SUMS").exists(),
            "{} is there and is no release: name another folder",
            out.display()
        );
        fs::remove_dir_all(&out).with_context(|| format!("cannot remove the former {}", out.display()))?;
    }
    fs::create_dir_all(&out).with_context(|| format!("cannot make {}", out.display()))?;
    let release = Release::of(root)?;
    let updaters = build_updaters(root, &release, &out)?;
    let program = build_program(root, &updaters)?;
    let packages = Packages::of_program(root, &release.target)?;
    let mut licences = licences::collect(&packages)?;
    write(&out, &format!("pitstop-{}.cdx.json", release.version), &sbom::of(&packages, release.at_s)?)?;
    for chip in updaters.chips() {
        let packages = Packages::of_updater(root, chip)?;
        licences.extend(licences::collect(&packages)?);
        let name = format!("updater-{chip}-{}.cdx.json", release.version);
        write(&out, &name, &sbom::of(&packages, release.at_s)?)?;
    }
    let licences = licences::text(&licences);
    write(&out, "THIRD-PARTY.txt", licences.as_bytes())?;

    let name = format!("pitstop-{}-{}", release.version, release.target);
    let mut archive = Archive::new(release.at_s);
    archive.file(&format!("{name}/pitstop"), &read(&program.stripped)?, 0o755)?;
    for file in ["README.md", "CHANGELOG.md", "LICENSE-APACHE", "LICENSE-MIT"] {
        archive.file(&format!("{name}/{file}"), &read(&root.join(file))?, 0o644)?;
    }
    archive.file(&format!("{name}/THIRD-PARTY.txt"), licences.as_bytes(), 0o644)?;
    write(&out, &format!("{name}.tar.gz"), &gzip(&archive.finish()?)?)?;
    write(&out, &format!("{name}.debug.gz"), &gzip(&read(&program.whole)?)?)?;

    let image = oci::image(&program.stripped, licences.as_bytes(), &release)?;
    image.check(&release.version)?;
    write(
        &out,
        &format!("pitstop-{}-{}.oci.tar", release.version, std::env::consts::ARCH),
        &image.layout()?,
    )?;
    write_sums(&out)?;
    println!("\na release in {}:", out.display());
    for (name, bytes) in files(&out)? {
        println!("{:>12}  {name}", bytes.len());
    }
    Ok(())
}

impl Release {
    fn of(root: &Path) -> anyhow::Result<Self> {
        let compiler = process::read(Command::new("rustc").arg("-vV").current_dir(root))?;
        let target = compiler.lines().find_map(|line| line.strip_prefix("host: "));
        let git = |format: &str| {
            process::read(
                Command::new("git").args(["log", "-1", &format!("--format={format}")]).current_dir(root),
            )
        };
        Ok(Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            target: target.context("rustc names no host")?.to_owned(),
            at_s: git("%ct")?.parse().context("git told no time")?,
        })
    }
}

/// The updaters' images, in a folder of their own.
struct Updaters {
    folder: PathBuf,
    names: Vec<&'static str>,
}

impl Updaters {
    fn chips(&self) -> impl Iterator<Item = &'static str> {
        self.names.iter().filter_map(|name| name.strip_prefix(firmware::UPDATER_PREFIX))
    }
}

fn build_updaters(root: &Path, release: &Release, out: &Path) -> anyhow::Result<Updaters> {
    let toolchain = toolchain::find_or_install(root)?;
    let folder = root.join("target/dist-updaters");
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    let built = firmware::build_some(root, &toolchain, &folder, |image| image.is_released())?;
    let updaters = Updaters { folder, names: built.into_iter().map(|(name, _)| name).collect() };
    ensure!(!updaters.names.is_empty(), "no updater was built");
    for name in &updaters.names {
        let image = read(&updaters.folder.join(format!("{name}.bin")))?;
        write(out, &format!("{name}-{}.bin", release.version), &image)?;
    }
    Ok(updaters)
}

/// The program, as it was linked and without symbols.
struct Program {
    whole: PathBuf,
    stripped: PathBuf,
}

fn build_program(root: &Path, updaters: &Updaters) -> anyhow::Result<Program> {
    let mut cargo = Command::new("cargo");
    cargo.args(["build", "--profile", "dist", "--locked", "--package", "pitstop"]);
    // Read by crates/pitstop/build.rs.
    process::run(cargo.env("PITSTOP_DIST_UPDATERS", &updaters.folder).current_dir(root))?;
    let folder = root.join("target/dist-build");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let program = Program { whole: target.join("dist/pitstop"), stripped: folder.join("pitstop") };
    process::run(Command::new("strip").arg("-o").args([&program.stripped, &program.whole]))?;
    Ok(program)
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

fn write(folder: &Path, name: &str, bytes: &[u8]) -> anyhow::Result<()> {
    fs::write(folder.join(name), bytes).with_context(|| format!("cannot write {name}"))
}

/// The files of a folder by name.
fn files(folder: &Path) -> anyhow::Result<Vec<(String, Vec<u8>)>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
            bail!("{}: a name that is no text", path.display());
        };
        files.push((name.to_owned(), read(&path)?));
    }
    files.sort();
    Ok(files)
}

/// `SHA256SUMS` of everything that is there, as `sha256sum` writes it.
fn write_sums(folder: &Path) -> anyhow::Result<()> {
    let line = |(name, bytes): (String, Vec<u8>)| format!("{}  {name}\n", hex(&Sha256::digest(bytes)));
    let sums: String = files(folder)?.into_iter().map(line).collect();
    write(folder, "SHA256SUMS", sums.as_bytes())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_what_sha256sum_checks() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), "b.bin", b"second").unwrap();
        write(folder.path(), "a.bin", b"first").unwrap();
        write_sums(folder.path()).unwrap();
        let check = || {
            process::read(
                Command::new("sha256sum").args(["--check", "SHA256SUMS"]).current_dir(folder.path()),
            )
        };
        assert_eq!(check().unwrap(), "a.bin: OK\nb.bin: OK");
        write(folder.path(), "b.bin", b"another").unwrap();
        assert!(check().is_err());
    }
}
