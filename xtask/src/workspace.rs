//! The one build of the workspace that the gate's steps share.
//!
//! Cargo compiles a crate once for each set of features that it is asked for, and what a command builds decides them: without
//! the tests' own dependencies, or with one package alone, most of the tree would be compiled anew. So every step builds
//! tests, of all packages, with the same features.

use std::env;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use anyhow::Context as _;

use crate::process;

/// What is built: all packages, with the optional part of the command line that nothing else has.
pub(crate) const ALL: [&str; 4] = ["--workspace", "--features", "pitstop/otlp", "--locked"];

/// Tests at a time on each processor: many of them wait, for a time limit to pass or for a server to notice.
const TESTS_PER_PROCESSOR: usize = 2;

/// Cargo, as a person's shell would start it. The variables by which `cargo run` tells this program its own package have build
/// scripts (ring's) run again, and half of the tree compiled again, whenever the two take turns.
pub(crate) fn cargo(root: &Path) -> Command {
    let mut command = Command::new("cargo");
    let of_package = |name: &str| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
    for (name, _) in env::vars_os().filter(|(name, _)| name.to_str().is_some_and(of_package)) {
        command.env_remove(name);
    }
    command.current_dir(root);
    command
}

/// `cargo test`, of all packages.
pub(crate) fn test(root: &Path) -> Command {
    let mut command = cargo(root);
    command.env("RUST_TEST_THREADS", tests_at_a_time()).arg("test").args(ALL);
    command
}

/// How many tests run at a time.
pub(crate) fn tests_at_a_time() -> String {
    (thread::available_parallelism().map_or(1, NonZero::get) * TESTS_PER_PROCESSOR).to_string()
}

/// Builds the command line; returns the program.
///
/// # Errors
/// It does not compile.
pub(crate) fn pitstop(root: &Path) -> anyhow::Result<PathBuf> {
    // Cargo builds a package's programs for its tests.
    process::run(test(root).args(["--no-run", "--test", "demo"]))?;
    // This program is built by the same cargo, into the same folder.
    let here = env::current_exe().context("this program does not know where it is")?;
    Ok(here.with_file_name(format!("pitstop{}", env::consts::EXE_SUFFIX)))
}
