//! The fuzz targets of `fuzz/`, each for a moment: its corpus, and so many inputs made of it.
//!
//! cargo-fuzz wants a nightly compiler for the sanitizer's and the coverage's flags. The stable one knows them too and takes
//! them with `RUSTC_BOOTSTRAP`, which is set here and nowhere else: what is shipped is built without.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, bail};

use crate::process;

/// Inputs of a run: half a minute for all targets together, of which the slowest manages some hundred a second.
const RUNS: u32 = 1000;

/// The same inputs each time.
const SEED: u32 = 1;

/// No run takes longer, however slow the machine, in seconds.
const MAX_RUN_S: u32 = 10;

/// Where the targets are built, and where an input that breaks one is left.
const TARGET_DIR: &str = "target/fuzz";
const ARTIFACTS: &str = "target/fuzz/artifacts/";

/// Where inputs are put that a run finds worth keeping.
const SCRATCH: &str = "target/fuzz/scratch";

/// What is missing to run them here; `None` when nothing is.
pub(crate) fn missing(root: &Path) -> Option<String> {
    if !process::succeeds(cargo_fuzz(root, "--version").env_remove("RUSTC_BOOTSTRAP")) {
        return Some("cargo-fuzz is not installed: `cargo install --locked cargo-fuzz`".into());
    }
    let compiler = process::succeeds(Command::new("c++").arg("--version"));
    (!compiler).then(|| "there is no C++ compiler for libFuzzer: `apt-get install g++`".into())
}

/// Builds all targets and runs each.
///
/// # Errors
/// A target that cannot be built, and the first one that an input broke, with the command that runs that input again.
pub(crate) fn smoke(root: &Path) -> anyhow::Result<()> {
    let targets = process::read(&mut cargo_fuzz(root, "list"))?;
    process::run(cargo_fuzz(root, "build").args(["--release", "--target-dir", TARGET_DIR]))?;
    fs::create_dir_all(root.join(ARTIFACTS)).with_context(|| format!("cannot create {ARTIFACTS}"))?;
    for target in targets.lines() {
        run_target(root, target)?;
    }
    Ok(())
}

fn run_target(root: &Path, target: &str) -> anyhow::Result<()> {
    // The first folder is added to, and what is new is not kept.
    let scratch = root.join(SCRATCH);
    if scratch.is_dir() {
        fs::remove_dir_all(&scratch).with_context(|| format!("cannot empty {SCRATCH}"))?;
    }
    fs::create_dir_all(&scratch).with_context(|| format!("cannot create {SCRATCH}"))?;
    let corpus = format!("fuzz/corpus/{target}");
    if !root.join(&corpus).is_dir() {
        bail!("{target} has no corpus: fuzz it, and keep a few small inputs in {corpus}");
    }
    let mut command = cargo_fuzz(root, "run");
    command.args(["--release", "--target-dir", TARGET_DIR, target]).arg(SCRATCH).arg(corpus).arg("--");
    command.arg(format!("-runs={RUNS}")).arg(format!("-seed={SEED}"));
    command.arg(format!("-max_total_time={MAX_RUN_S}")).arg(format!("-artifact_prefix={ARTIFACTS}"));
    command.args(["-max_len=4096", "-timeout=10", "-verbosity=0", "-print_funcs=0"]);
    process::run(&mut command).with_context(|| {
        format!(
            "an input that breaks {target} is in {ARTIFACTS}; run it again with\n  \
             RUSTC_BOOTSTRAP=1 cargo fuzz run --release --target-dir {TARGET_DIR} {target} {ARTIFACTS}<FILE>"
        )
    })
}

fn cargo_fuzz(root: &Path, command: &str) -> Command {
    let mut cargo = Command::new("cargo");
    cargo.args(["fuzz", command]).env("RUSTC_BOOTSTRAP", "1").current_dir(root);
    cargo
}
