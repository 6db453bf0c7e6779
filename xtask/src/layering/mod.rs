//! `cargo xtask layering`: who may depend on whom (ARCHITECTURE.md).
//!
//! ```text
//! flashfmt, manifest, wire -> updater -> updater-io -> firmware, sim
//! manifest, wire -> rollout -> api -> dashboard -> server
//! flashfmt, manifest, wire -> server
//! everything -> pitstop
//! ```
//!
//! An arrow reads "used by". Nothing uses `server` but `pitstop`, and tests; nothing uses `sim` but `pitstop`, tests,
//! and `xtask`, which drives tests. [`TABLE`] spells the arrows out; a crate without a row is a fault, so that a new
//! crate cannot come in without a decision about its place.
//!
//! The crates that run on the chip have a second rule: [`HOST_ONLY`] libraries are not for them, neither directly (an
//! optional dependency counts) nor through another library.

mod circles;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::bail;
use cargo_metadata::{DependencyKind, MetadataCommand, Package, Target};

use crate::process;
use crate::toolchain::TARGET;

/// Where a crate runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Runs {
    /// On the chip, and in the simulator as well.
    OnDevice,
    /// On a host only.
    OnHost,
    /// On the chip only: a member of the firmware's workspace.
    InFirmware,
}

/// One crate and the crates of this repository that it may depend on.
struct Row {
    name: &'static str,
    runs: Runs,
    may_use: &'static [&'static str],
}

const TABLE: &[Row] = &[
    Row { name: "flashfmt", runs: Runs::OnDevice, may_use: &[] },
    // Used by the firmware alone: it is no part of a pit stop.
    Row { name: "improv", runs: Runs::OnDevice, may_use: &[] },
    Row { name: "manifest", runs: Runs::OnDevice, may_use: &[] },
    // What TLS computes with, for the firmware and for the simulator: updater-io is given a provider and knows none.
    Row { name: "tls-crypto", runs: Runs::OnDevice, may_use: &[] },
    Row { name: "wire", runs: Runs::OnDevice, may_use: &[] },
    Row { name: "updater", runs: Runs::OnDevice, may_use: &["flashfmt", "manifest", "wire"] },
    Row { name: "updater-io", runs: Runs::OnDevice, may_use: &["flashfmt", "manifest", "updater", "wire"] },
    Row {
        name: "sim",
        runs: Runs::OnHost,
        may_use: &["flashfmt", "manifest", "tls-crypto", "updater", "updater-io", "wire"],
    },
    // Runs images of the firmware. Its flash and its bootloader are sim's, so that both worlds have one.
    Row { name: "chip", runs: Runs::OnHost, may_use: &["flashfmt", "sim", "updater"] },
    // Drives an emulated chip from outside: for the demo and for `emulate`, and no part of what runs on it.
    Row { name: "emulator", runs: Runs::OnHost, may_use: &["chip", "flashfmt", "sim"] },
    // Pure: the server asks it, and the command line writes and shows plans.
    Row { name: "rollout", runs: Runs::OnHost, may_use: &["manifest", "wire"] },
    // The half of it that judges images is pure; the server asks it about releases.
    Row { name: "chainload", runs: Runs::InFirmware, may_use: &["flashfmt"] },
    // What the admin API takes and answers: values, and nothing that judges them.
    Row { name: "api", runs: Runs::OnHost, may_use: &["rollout"] },
    // It is given the admin API as a service: what it needs to know of Pitstop, the API says.
    Row { name: "dashboard", runs: Runs::OnHost, may_use: &["api", "rollout"] },
    Row {
        name: "server",
        runs: Runs::OnHost,
        // Of the chain-loader the pure half: what it could not start is not published.
        may_use: &["api", "chainload", "dashboard", "flashfmt", "manifest", "rollout", "wire"],
    },
    Row {
        name: "pitstop",
        runs: Runs::OnHost,
        may_use: &[
            "api",
            "emulator",
            "flashfmt",
            "manifest",
            "rollout",
            "server",
            "sim",
            "updater",
            "updater-io",
            "wire",
        ],
    },
    // `emulate` drives tests, for which sim has the hostile servers.
    Row {
        name: "xtask",
        runs: Runs::OnHost,
        may_use: &["chip", "emulator", "flashfmt", "sim", "tls-crypto"],
    },
    Row {
        name: "updater-firmware",
        runs: Runs::InFirmware,
        may_use: &["chainload", "flashfmt", "improv", "tls-crypto", "updater", "updater-io", "wire"],
    },
    // It shows everything to everybody's parsers, and nobody uses it. What it tests of the server are files, by their paths.
    Row {
        name: "fuzz",
        runs: Runs::OnHost,
        may_use: &[
            "chainload",
            "flashfmt",
            "improv",
            "manifest",
            "rollout",
            "tls-crypto",
            "updater",
            "updater-io",
            "wire",
        ],
    },
    // The example applications are unaware ones: that is what they are examples of.
    Row { name: "entry-state", runs: Runs::InFirmware, may_use: &[] },
    Row { name: "hang", runs: Runs::InFirmware, may_use: &[] },
    Row { name: "hello", runs: Runs::InFirmware, may_use: &[] },
    Row { name: "nvs-eraser", runs: Runs::InFirmware, may_use: &[] },
    Row { name: "panicky", runs: Runs::InFirmware, may_use: &[] },
    Row { name: "rubbish", runs: Runs::InFirmware, may_use: &[] },
    Row { name: "sleeper", runs: Runs::InFirmware, may_use: &[] },
    Row { name: "ticker", runs: Runs::InFirmware, may_use: &[] },
];

/// Libraries that need an operating system, or C and assembler that the chip's build does not have.
const HOST_ONLY: &[&str] = &["axum", "rcgen", "ring", "sqlx", "tokio"];

/// A dependency as a crate's `Cargo.toml` declares it.
struct Dependency {
    name: String,
    kind: DependencyKind,
    /// Given by path: a crate of this repository.
    local: bool,
}

/// A crate of this repository and what its `Cargo.toml` declares.
struct Crate {
    name: String,
    /// The root files of its library and programs.
    roots: Vec<PathBuf>,
    dependencies: Vec<Dependency>,
}

/// Checks both workspaces.
///
/// Errors: every arrow that is not in the table.
pub(crate) fn run(root: &Path) -> anyhow::Result<()> {
    let mut crates = declared(&root.join("Cargo.toml"))?;
    crates.extend(declared(&root.join("firmware/Cargo.toml"))?);
    let mut faults = check_arrows(TABLE, &crates);
    for row in TABLE.iter().filter(|row| row.runs == Runs::OnDevice) {
        faults.extend(check_tree(row.name, &resolved(root, row.name)?));
    }
    for root_file in crates.iter().flat_map(|found| &found.roots) {
        faults.extend(circles::find(root_file, root)?.iter().map(circles::Circle::to_string));
    }
    if !faults.is_empty() {
        bail!("the layering is broken (CONTRIBUTING.md, Layering):\n  {}", faults.join("\n  "));
    }
    println!(
        "layering: {} crates are where they belong, and no files of one use each other in a circle",
        crates.len()
    );
    Ok(())
}

/// The members of a workspace.
fn declared(manifest: &Path) -> anyhow::Result<Vec<Crate>> {
    let metadata = MetadataCommand::new().manifest_path(manifest).no_deps().exec()?;
    let dependency = |dependency: &cargo_metadata::Dependency| Dependency {
        name: dependency.name.clone(),
        kind: dependency.kind,
        local: dependency.path.is_some(),
    };
    let packages = metadata.workspace_packages().into_iter();
    Ok(packages
        .map(|package| Crate {
            name: package.name.to_string(),
            roots: roots(package),
            dependencies: package.dependencies.iter().map(dependency).collect(),
        })
        .collect())
}

fn roots(package: &Package) -> Vec<PathBuf> {
    let is_built = |target: &&Target| target.is_lib() || target.is_bin();
    let targets = package.targets.iter().filter(is_built);
    targets.map(|target| target.src_path.clone().into_std_path_buf()).collect()
}

/// Everything the crate is built from for the chip, one `name vX.Y.Z …` a line.
///
/// `cargo tree` and not `cargo metadata`: the latter joins the features of the whole workspace, so that `ring`, which
/// the server's rustls uses, would seem to be used by the device's rustls as well.
fn resolved(root: &Path, name: &str) -> anyhow::Result<String> {
    let arguments = ["--edges", "normal,build", "--no-default-features", "--prefix", "none", "--locked"];
    process::read(
        Command::new("cargo")
            .args(["tree", "--package", name, "--target", TARGET])
            .args(arguments)
            .current_dir(root),
    )
}

/// Faults in what is declared. Tests may use every crate of the repository, so dev-dependencies are free.
fn check_arrows(table: &[Row], crates: &[Crate]) -> Vec<String> {
    let mut faults = Vec::new();
    for row in table {
        if !crates.iter().any(|found| found.name == row.name) {
            faults.push(format!("{} has a row in the table, but there is no such crate", row.name));
        }
    }
    for found in crates {
        let Some(row) = table.iter().find(|row| row.name == found.name) else {
            faults
                .push(format!("{} has no row in the table: decide who may use it, and add one", found.name));
            continue;
        };
        for dependency in &found.dependencies {
            let name = dependency.name.as_str();
            if dependency.kind == DependencyKind::Development {
                continue;
            }
            if dependency.local && !row.may_use.contains(&name) {
                faults.push(format!("{} must not depend on {name}", found.name));
            }
            let on_device = match row.runs {
                Runs::OnDevice | Runs::InFirmware => true,
                Runs::OnHost => false,
            };
            if on_device && HOST_ONLY.contains(&name) {
                faults.push(format!("{} runs on the chip and must not depend on {name}", found.name));
            }
        }
    }
    faults
}

/// Faults in what a crate that runs on the chip is built from.
fn check_tree(name: &str, tree: &str) -> Vec<String> {
    let libraries = tree.lines().filter_map(|line| line.split(' ').next());
    let mut forbidden = libraries.filter(|library| HOST_ONLY.contains(library)).collect::<Vec<_>>();
    forbidden.sort_unstable();
    forbidden.dedup();
    let fault = |library| {
        format!("{name} runs on the chip, but is built from {library} (`cargo tree -p {name} -i {library}`)")
    };
    forbidden.into_iter().map(fault).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The repository as the table wants it: every crate uses all that it may.
    fn allowed() -> Vec<Crate> {
        let local =
            |name: &&str| Dependency { name: (*name).into(), kind: DependencyKind::Normal, local: true };
        let row = |row: &Row| Crate {
            name: row.name.into(),
            roots: Vec::new(),
            dependencies: row.may_use.iter().map(local).collect(),
        };
        TABLE.iter().map(row).collect()
    }

    fn plant(user: &str, name: &str, kind: DependencyKind, local: bool) -> Vec<String> {
        let mut crates = allowed();
        let found = crates.iter_mut().find(|found| found.name == user).unwrap();
        found.dependencies.push(Dependency { name: name.into(), kind, local });
        check_arrows(TABLE, &crates)
    }

    #[test]
    fn the_table_allows_itself() {
        assert_eq!(check_arrows(TABLE, &allowed()), Vec::<String>::new());
    }

    #[test]
    fn the_table_has_no_circle() {
        // Rows stand in an order in which each uses only rows above it.
        for (index, row) in TABLE.iter().enumerate() {
            for used in row.may_use {
                let above = TABLE[..index].iter().any(|row| row.name == *used);
                assert!(above, "{} uses {used}, which is not above it", row.name);
            }
        }
    }

    #[test]
    fn forbidden_arrows_are_caught() {
        for (user, name) in [
            ("flashfmt", "wire"),
            ("wire", "manifest"),
            ("updater", "updater-io"),
            ("updater-io", "sim"),
            ("server", "sim"),
            ("server", "updater"),
            ("rollout", "server"),
            ("server", "fuzz"),
            ("dashboard", "server"),
            ("api", "server"),
            ("sim", "server"),
            ("xtask", "pitstop"),
            ("hello", "wire"),
        ] {
            for kind in [DependencyKind::Normal, DependencyKind::Build] {
                assert_eq!(plant(user, name, kind, true), [format!("{user} must not depend on {name}")]);
            }
        }
    }

    #[test]
    fn tests_may_use_everything() {
        assert_eq!(plant("updater-io", "sim", DependencyKind::Development, true), Vec::<String>::new());
        assert_eq!(plant("updater-io", "tokio", DependencyKind::Development, false), Vec::<String>::new());
    }

    #[test]
    fn host_only_libraries_are_caught_on_the_device_side() {
        for library in HOST_ONLY {
            assert_eq!(plant("updater-io", library, DependencyKind::Normal, false).len(), 1);
            assert_eq!(plant("server", library, DependencyKind::Normal, false).len(), 0);
        }
    }

    #[test]
    fn host_only_libraries_are_caught_deep_in_the_tree() {
        let tree = "updater-io v0.1.0 (/somewhere)\nrustls v0.23.46\nring v0.17.14\nring v0.17.14 (*)\nstrings v1.0.0";
        let faults = check_tree("updater-io", tree);
        assert_eq!(faults.len(), 1);
        assert!(faults[0].contains("built from ring"));
    }

    #[test]
    fn unknown_and_lost_crates_are_caught() {
        let mut crates = allowed();
        crates.push(Crate { name: "newcomer".into(), roots: Vec::new(), dependencies: Vec::new() });
        crates.retain(|found| found.name != "wire");
        let faults = check_arrows(TABLE, &crates);
        assert_eq!(faults.len(), 2);
        assert!(faults[0].contains("wire has a row"));
        assert!(faults[1].contains("newcomer has no row"));
    }
}
