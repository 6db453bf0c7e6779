//! `cargo xtask fuzz`: libFuzzer's search on the fuzz targets of `fuzz/`. The gate has their tests.
//!
//! cargo-fuzz wants a nightly compiler for the sanitizer's and the coverage's flags. The stable one knows them too and takes
//! them with `RUSTC_BOOTSTRAP`, which is set here and nowhere else: what is shipped is built without.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, bail};

use crate::process;

/// What is built and where, for `build` and `run` alike.
const BUILD: [&str; 4] = ["--features", "libfuzzer", "--target-dir", "target/fuzz"];

/// Where a search keeps what it finds, a folder for each target; the next one begins with that.
const FOUND: &str = "target/fuzz/found";

/// Where an input that breaks a target is left, a folder for each.
const ARTIFACTS: &str = "target/fuzz/artifacts";

#[derive(clap::Args)]
#[command(
    after_help = "Needs cargo-fuzz and a C++ compiler. A search begins with the target's corpus in fuzz/corpus/ and with what the
last one left in target/fuzz/found/; CONTRIBUTING.md (Fuzzing) says what to do with what it finds.

Examples:
  cargo xtask fuzz                       every target for a minute
  cargo xtask fuzz vault --seconds 3600  one of them for an hour
  cargo test -p fuzz                     what the gate runs: the corpora, and the same inputs made of them each time"
)]
pub(crate) struct Arguments {
    /// The target; all of them, one after the other, when it is not given
    target: Option<String>,
    /// How long each is searched
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,
}

/// Builds targets and searches each.
///
/// # Errors
/// A tool that is missing, a target that there is not or that cannot be built, and all that an input broke, with the command
/// that runs that input again.
pub(crate) fn search(root: &Path, arguments: &Arguments) -> anyhow::Result<()> {
    if let Some(reason) = missing(root) {
        bail!(reason);
    }
    let listed = process::read(&mut cargo_fuzz(root, "list"))?;
    let mut targets: Vec<_> = listed.lines().collect();
    if let Some(target) = &arguments.target {
        if !targets.contains(&target.as_str()) {
            bail!("there is no fuzz target {target}; there are {}", targets.join(", "));
        }
        targets.retain(|name| name == target);
    }
    process::run(cargo_fuzz(root, "build").args(BUILD).args(&arguments.target))?;
    let mut broken = Vec::new();
    for (index, target) in targets.iter().enumerate() {
        println!("{target} ({} of {}), {} s", index + 1, targets.len(), arguments.seconds);
        if !search_target(root, target, arguments.seconds)? {
            broken.push(*target);
        }
    }
    if broken.is_empty() {
        println!("nothing was broken; inputs that reach new code are in {FOUND}/TARGET/");
        return Ok(());
    }
    let commands: String = broken
        .iter()
        .map(|target| {
            let file = format!("{ARTIFACTS}/{target}/FILE");
            format!("\n  FUZZ_INPUT={file} cargo test -p fuzz --test targets {target} -- --exact --nocapture")
        })
        .collect();
    bail!("broken: {}; see the inputs and run them again with{commands}", broken.join(", "))
}

/// What is missing to run them here; `None` when nothing is.
fn missing(root: &Path) -> Option<String> {
    if !process::succeeds(cargo_fuzz(root, "--version").env_remove("RUSTC_BOOTSTRAP")) {
        return Some("cargo-fuzz is not installed: `cargo install --locked cargo-fuzz`".into());
    }
    let compiler = process::succeeds(Command::new("c++").arg("--version"));
    (!compiler).then(|| "there is no C++ compiler for libFuzzer: `apt-get install g++`".into())
}

/// Says whether the target withstood it all.
fn search_target(root: &Path, target: &str, seconds: u32) -> anyhow::Result<bool> {
    let (found, artifacts) = (format!("{FOUND}/{target}"), format!("{ARTIFACTS}/{target}/"));
    for folder in [&found, &artifacts] {
        fs::create_dir_all(root.join(folder)).with_context(|| format!("cannot create {folder}"))?;
    }
    let mut command = cargo_fuzz(root, "run");
    // The first folder is added to.
    command.args(BUILD).args([target, &found, &format!("fuzz/corpus/{target}"), "--"]);
    command.arg(format!("-max_total_time={seconds}")).arg(format!("-artifact_prefix={artifacts}"));
    command.args(["-max_len=4096", "-timeout=10", "-print_funcs=0"]);
    Ok(process::status(&mut command)?.success())
}

fn cargo_fuzz(root: &Path, command: &str) -> Command {
    let mut cargo = Command::new("cargo");
    cargo.args(["fuzz", command]).env("RUSTC_BOOTSTRAP", "1").current_dir(root);
    cargo
}
