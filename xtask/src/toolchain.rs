//! Which Rust toolchain can build for the chip, on this machine.
//!
//! Two are known to work. They are tried in this order:
//!
//! 1. **rustup**: the toolchain named in `firmware/rust-toolchain.toml` with the target's own `core` and `alloc`.
//!    When nothing else is there, [`find_or_install`] asks rustup to download it.
//! 2. **distribution**: `/usr/bin/rustc` and `/usr/bin/cargo` with the standard library's sources and a linker (Debian:
//!    `rustc-web cargo-web rust-web-src lld-19`). Their `core` and `alloc` are built from source, which stable Rust allows
//!    only with `RUSTC_BOOTSTRAP=1`.
//!
//! [`find`] only looks (it starts `rustc` twice at most); it neither builds nor downloads.

use std::env;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process;

/// The target of the ESP32-C3 as rustc names it.
pub(crate) const TARGET: &str = "riscv32imc-unknown-none-elf";

/// The target of the ESP32-C6, which has atomic instructions.
pub(crate) const TARGET_ESP32C6: &str = "riscv32imac-unknown-none-elf";

/// [`TARGET`] with `"atomic-cas": true`, relative to the repository: for crates that need `alloc::sync::Arc`.
pub(crate) const TARGET_WITH_CAS: &str = "firmware/targets/riscv32imc-unknown-none-elf.json";

/// esp-hal 1.2 states this as its `rust-version`.
const OLDEST_RUSTC: (u32, u32) = (1, 95);

/// The first LLVM whose linker relaxes RISC-V code (LLVM 15 release notes, "LLD").
const OLDEST_LLD: u32 = 15;

/// What makes the updater small, on top of its profile: no frame pointers, shorter calls and addresses where the linker
/// sees that they reach, equal functions once, panics without their text and place (the updater restarts and the engine
/// counts it, so nobody reads them), and no `Debug` output: what is printed has a `Display`.
const SIZE_RUSTFLAGS: [&str; 10] = [
    // In place of linkall.x in firmware/.cargo/config.toml, whose flags these replace.
    "-Clink-arg=-Tupdater.x",
    "-Clink-arg=--icf=all",
    // What is loaded twice is loaded twice: keeping it costs more instructions than it saves. `--relax-gp` is not here: with
    // it the updater breaks while it enrolls (docs/performance.md).
    "-Cllvm-args=-enable-load-pre=false",
    // A function this small is no longer than the call of it. LLVM's own limit for small code is 5.
    "-Cllvm-args=-inline-threshold=8",
    "-Cforce-frame-pointers=no",
    "-Ctarget-feature=+relax",
    "-Zlocation-detail=none",
    "-Zunstable-options",
    "-Cpanic=immediate-abort",
    "-Zfmt-debug=none",
];

/// Smaller variants of what `core` and `alloc` do fast otherwise, sorting most of all: the updater sorts a handful.
const SIZE_LIBRARY_FEATURES: &str = "optimize_for_size";

/// Where distributions put their compiler. Not searched for on `PATH`: rustup's proxies come first there.
const DISTRIBUTION_BIN: &str = "/usr/bin";

/// A toolchain that can build for [`TARGET`] and [`TARGET_ESP32C6`].
#[derive(Debug)]
pub(crate) struct Toolchain {
    source: Source,
    /// As rustc prints it, such as `rustc 1.95.0 (59807616e 2026-04-14)`.
    version: String,
    /// Folder with `bin/rustc` and `lib/rustlib`.
    sysroot: PathBuf,
    cargo: PathBuf,
    rustc: PathBuf,
}

#[derive(Debug)]
enum Source {
    /// `core` and `alloc` for both targets are installed.
    Rustup,
    /// `core` and `alloc` are built from source, and linked by the given linker.
    Distribution { linker: PathBuf },
}

/// No toolchain can build for the chip; says what was looked for and what to install.
#[derive(Debug)]
pub(crate) struct Missing {
    rustup: String,
    distribution: String,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "no Rust toolchain for {TARGET} and {TARGET_ESP32C6} found\n\
             - rustup: {}\n\
             - distribution: {}\n\
             install one of them:\n\
             - rustup: `cd firmware && rustup toolchain install` (reads firmware/rust-toolchain.toml)\n\
             - Debian: `apt-get install rustc-web cargo-web rust-web-src lld-19`",
            self.rustup, self.distribution
        )
    }
}

impl std::error::Error for Missing {}

impl fmt::Display for Toolchain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            Source::Rustup => write!(f, "rustup, {}", self.version),
            Source::Distribution { linker } => {
                write!(
                    f,
                    "distribution, {} with core and alloc from source, {}",
                    self.version,
                    linker.display()
                )
            }
        }
    }
}

impl Toolchain {
    /// A `cargo` that builds for the chip, to be given its subcommand and arguments.
    ///
    /// The caller chooses folder, target and target folder. Variables that would carry the host's choices into the
    /// build are removed.
    pub(crate) fn cargo(&self) -> Command {
        let mut command = Command::new(&self.cargo);
        // RUSTUP_TOOLCHAIN is set by the `cargo` that started this program and would override rust-toolchain.toml;
        // the flags are meant for the host, and would replace those of firmware/.cargo/config.toml.
        for name in ["RUSTUP_TOOLCHAIN", "RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_TARGET"] {
            command.env_remove(name);
        }
        command.env("RUSTC", &self.rustc);
        match &self.source {
            Source::Rustup => {}
            Source::Distribution { linker } => {
                command.env("RUSTC_BOOTSTRAP", "1");
                command.env("CARGO_UNSTABLE_BUILD_STD", "core,alloc");
                command.env("CARGO_TARGET_RISCV32IMC_UNKNOWN_NONE_ELF_LINKER", linker);
                command.env("CARGO_TARGET_RISCV32IMAC_UNKNOWN_NONE_ELF_LINKER", linker);
                // Set by `cargo run` to the libraries of the host's toolchain.
                command.env_remove("LD_LIBRARY_PATH");
            }
        }
        command
    }

    /// [`Toolchain::cargo_from_source`] with all that makes the result small.
    pub(crate) fn cargo_for_size(&self) -> Option<Command> {
        let mut command = self.cargo_from_source()?;
        // The separator that cargo asks for.
        command.env("CARGO_ENCODED_RUSTFLAGS", SIZE_RUSTFLAGS.join("\u{1f}"));
        command.env("CARGO_UNSTABLE_BUILD_STD_FEATURES", SIZE_LIBRARY_FEATURES);
        Some(command)
    }

    /// A `cargo` for [`TARGET_WITH_CAS`], or `None` when the standard library's sources are not there.
    ///
    /// Building `core` for a target file needs unstable options, which `RUSTC_BOOTSTRAP=1` allows on stable Rust.
    pub(crate) fn cargo_from_source(&self) -> Option<Command> {
        has_library_source(&self.sysroot).then(|| {
            let mut command = self.cargo();
            command.env("RUSTC_BOOTSTRAP", "1");
            command.env("CARGO_UNSTABLE_BUILD_STD", "core,alloc");
            command.env("CARGO_UNSTABLE_JSON_TARGET_SPEC", "true");
            command
        })
    }
}

/// Looks for a toolchain; downloads nothing.
pub(crate) fn find(root: &Path) -> Result<Toolchain, Missing> {
    let rustup = match find_rustup(root) {
        Ok(toolchain) => return Ok(toolchain),
        Err(reason) => reason,
    };
    find_distribution().map_err(|distribution| Missing { rustup, distribution })
}

/// Looks for a toolchain, and asks rustup to download one when there is none.
///
/// `RUSTUP_AUTO_INSTALL=0`, rustup's own switch, forbids the download.
pub(crate) fn find_or_install(root: &Path) -> Result<Toolchain, Missing> {
    let missing = match find(root) {
        Ok(toolchain) => return Ok(toolchain),
        Err(missing) => missing,
    };
    if env::var_os("RUSTUP_AUTO_INSTALL").is_some_and(|value| value == "0") {
        return Err(missing);
    }
    // Without a name, rustup installs what the toolchain file of the folder asks for, its targets included.
    let mut install = Command::new("rustup");
    install.args(["toolchain", "install"]).current_dir(firmware_dir(root)).env_remove("RUSTUP_TOOLCHAIN");
    match process::run(&mut install) {
        Ok(()) => find(root),
        Err(error) => Err(Missing { rustup: format!("{}; {error:#}", missing.rustup), ..missing }),
    }
}

/// The firmware's workspace.
pub(crate) fn firmware_dir(root: &Path) -> PathBuf {
    root.join("firmware")
}

fn find_rustup(root: &Path) -> Result<Toolchain, String> {
    // In this folder rustup's proxy picks the toolchain of firmware/rust-toolchain.toml.
    let rustc = || {
        let mut command = Command::new("rustc");
        command
            .current_dir(firmware_dir(root))
            .env_remove("RUSTUP_TOOLCHAIN")
            .env("RUSTUP_AUTO_INSTALL", "0");
        command
    };
    let sysroot =
        process::read(rustc().args(["--print", "sysroot"])).map_err(|error| format!("{error:#}"))?;
    let sysroot = PathBuf::from(sysroot);
    for target in [TARGET, TARGET_ESP32C6] {
        let library = sysroot.join("lib/rustlib").join(target).join("lib");
        if !library.is_dir() {
            return Err(format!("{} does not exist", library.display()));
        }
    }
    let version = process::read(rustc().arg("--version")).map_err(|error| format!("{error:#}"))?;
    check_version(&version)?;
    // The programs themselves instead of rustup's proxies: their choice must not depend on the current folder.
    let (cargo, rustc) = (sysroot.join("bin/cargo"), sysroot.join("bin/rustc"));
    Ok(Toolchain { source: Source::Rustup, version, sysroot, cargo, rustc })
}

fn find_distribution() -> Result<Toolchain, String> {
    let bin = Path::new(DISTRIBUTION_BIN);
    let (cargo, rustc) = (bin.join("cargo"), bin.join("rustc"));
    for program in [&cargo, &rustc] {
        if !program.exists() {
            return Err(format!("{} does not exist", program.display()));
        }
    }
    let ask = |argument: &[&str]| {
        process::read(Command::new(&rustc).args(argument).env_remove("LD_LIBRARY_PATH"))
            .map_err(|error| format!("{error:#}"))
    };
    let version = ask(&["--version"])?;
    check_version(&version)?;
    let sysroot = PathBuf::from(ask(&["--print", "sysroot"])?);
    if !has_library_source(&sysroot) {
        return Err(format!("{version} is there, but not the sources of its standard library"));
    }
    let linker = find_linker(&sysroot).ok_or_else(|| {
        format!("no linker found: neither rust-lld nor LLVM's ld.lld of version {OLDEST_LLD} or newer")
    })?;
    Ok(Toolchain { source: Source::Distribution { linker }, version, sysroot, cargo, rustc })
}

/// Sources of `core` and `alloc`, and the lock file that cargo needs to build them.
fn has_library_source(sysroot: &Path) -> bool {
    sysroot.join("lib/rustlib/src/rust/library/Cargo.lock").exists()
}

/// The `rust-lld` that some toolchains bring along, else an `ld.lld` on `PATH` that is new enough; distributions give it
/// a name with its version, too.
fn find_linker(sysroot: &Path) -> Option<PathBuf> {
    let hosts = sysroot.join("lib/rustlib").read_dir().into_iter().flatten().flatten();
    if let Some(own) = hosts.map(|host| host.path().join("bin/rust-lld")).find(|file| file.is_file()) {
        return Some(own);
    }
    let path = env::var_os("PATH")?;
    let names = || (OLDEST_LLD..OLDEST_LLD + 20).rev().map(|version| format!("ld.lld-{version}"));
    env::split_paths(&path)
        .flat_map(|folder| {
            std::iter::once("ld.lld".to_owned()).chain(names()).map(move |name| folder.join(name))
        })
        .find(|file| file.is_file() && lld_version(file).is_some_and(|version| version >= OLDEST_LLD))
}

/// The major version of an `ld.lld`, which calls itself such as `Debian LLD 19.1.7 (compatible with GNU linkers)`.
fn lld_version(file: &Path) -> Option<u32> {
    let text = process::read(Command::new(file).arg("--version")).ok()?;
    major_lld_version(&text)
}

fn major_lld_version(text: &str) -> Option<u32> {
    text.split_once("LLD ")?.1.split('.').next()?.parse().ok()
}

/// Refuses a compiler older than [`OLDEST_RUSTC`]. `version` is such as `rustc 1.95.0 (59807616e 2026-04-14)`.
fn check_version(version: &str) -> Result<(), String> {
    let (major, minor) = OLDEST_RUSTC;
    let number = || {
        let mut parts = version.split(' ').nth(1)?.split('.');
        Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
    };
    match number() {
        Some(found) if found >= OLDEST_RUSTC => Ok(()),
        Some(_) => Err(format!("{version} is too old, {major}.{minor} is needed")),
        None => Err(format!("cannot read a version from {version:?}, {major}.{minor} or newer is needed")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        assert_eq!(check_version("rustc 1.95.0 (59807616e 2026-04-14)"), Ok(()));
        assert_eq!(check_version("rustc 1.97.0-nightly (e50aa6fba 2026-05-19)"), Ok(()));
        assert_eq!(check_version("rustc 2.0.0"), Ok(()));
        assert!(check_version("rustc 1.63.0").unwrap_err().contains("too old"));
        assert!(check_version("command not found").unwrap_err().contains("cannot read"));
    }

    #[test]
    fn missing_names_both_ways_to_install() {
        let text = Missing { rustup: "absent".into(), distribution: "absent too".into() }.to_string();
        for expected in [TARGET, "rustup toolchain install", "apt-get install", "absent too"] {
            assert!(text.contains(expected), "{expected:?} is not in:\n{text}");
        }
    }

    #[test]
    fn linker_of_the_sysroot_is_found() {
        let sysroot = tempfile::tempdir().unwrap();
        let bin = sysroot.path().join("lib/rustlib/x86_64-unknown-linux-gnu/bin");
        std::fs::create_dir_all(&bin).unwrap();
        std::fs::write(bin.join("rust-lld"), "").unwrap();
        assert_eq!(find_linker(sysroot.path()), Some(bin.join("rust-lld")));
    }

    #[test]
    fn lld_versions() {
        assert_eq!(major_lld_version("Debian LLD 14.0.6 (compatible with GNU linkers)"), Some(14));
        assert_eq!(major_lld_version("LLD 19.1.7 (compatible with GNU linkers)"), Some(19));
        assert_eq!(major_lld_version("GNU ld (GNU Binutils for Debian) 2.40"), None);
    }

    #[test]
    fn target_with_cas_differs_from_the_built_in_one_only_there() {
        let text = std::fs::read_to_string(crate::repository_root().join(TARGET_WITH_CAS)).unwrap();
        assert!(text.contains("\"atomic-cas\": true"));
        assert!(text.contains("+forced-atomics"));
    }
}
