//! The steps of the gate, cheap ones first within what their builds share.

use std::env;
use std::path::Path;
use std::process::Command;

use anyhow::bail;

use super::{Gate, Outcome, Step};
use crate::toolchain::{self, TARGET, TARGET_WITH_CAS};
use crate::workspace::ALL;
use crate::{
    api as promises, backends, browser as dashboard, default_firmware_dir, firmware, golden, layering,
    process, workflows as actions, workspace,
};
use crate::{emulate, lab, mutants as planted};

pub(super) const STEPS: &[Step] = &[
    Step { name: "fmt", run: fmt },
    Step { name: "layering", run: layering },
    Step { name: "golden", run: golden },
    Step { name: "api", run: api },
    Step { name: "workflows", run: workflows },
    Step { name: "clippy", run: clippy },
    Step { name: "tests", run: tests },
    Step { name: "mutants", run: mutants },
    Step { name: "server-backends", run: server_backends },
    Step { name: "api-fuzz", run: api_fuzz },
    Step { name: "features", run: features },
    Step { name: "browser", run: browser },
    Step { name: "doc-tests", run: doc_tests },
    Step { name: "doc", run: doc },
    Step { name: "chainload", run: chainload },
    Step { name: "no-std", run: no_std },
    Step { name: "firmware", run: firmware },
    Step { name: "emulate", run: emulate },
    Step { name: "deny", run: deny },
    Step { name: "advisories", run: advisories },
];

/// Crates that must build for the chip as rustc knows it. Each is built alone, so that a feature which another crate
/// turns on cannot hide what is missing.
const NO_STD_CRATES: [&str; 5] = ["flashfmt", "improv", "manifest", "wire", "updater"];

/// Crates that use rustls, which keeps its configuration in an `Arc`: the chip has no compare-and-swap instruction, so
/// they need the target that promises to bring a replacement.
const NO_STD_CRATES_WITH_ARC: [&str; 2] = ["tls-crypto", "updater-io"];

/// Exit code of `cargo deny fetch` when the data cannot be had (wrong usage would be 2).
const DENY_FETCH_FAILED: i32 = 1;

/// Both workspaces, as `--manifest-path` takes them.
const MANIFESTS: [&str; 2] = ["Cargo.toml", "firmware/Cargo.toml"];

fn cargo(gate: &Gate<'_>) -> Command {
    workspace::cargo(gate.root)
}

fn run(command: &mut Command) -> anyhow::Result<Outcome> {
    process::run(command).map(|()| Outcome::Passed)
}

fn fmt(gate: &Gate<'_>) -> anyhow::Result<Outcome> {
    for manifest in MANIFESTS {
        process::run(cargo(gate).args(["fmt", "--all", "--check", "--manifest-path", manifest]))?;
    }
    Ok(Outcome::Passed)
}

fn layering(gate: &Gate<'_>) -> anyhow::Result<Outcome> {
    layering::run(gate.root).map(|()| Outcome::Passed)
}

fn golden(gate: &Gate<'_>) -> anyhow::Result<Outcome> {
    Ok(match golden::run(gate.root)? {
        golden::Outcome::Unchanged(count) => {
            println!("{}", golden::Outcome::Unchanged(count));
            Outcome::Passed
        }
        // Not a tool that could be installed: continuous integration often has a shallow clone.
        golden::Outcome::Skipped(reason) => Outcome::Skipped(reason),
    })
}

fn api(gate: &Gate<'_>) -> anyhow::Result<Outcome> {
    promises::check(gate.root).map(|()| Outcome::Passed)
}

fn workflows(gate: &Gate<'_>) -> anyhow::Result<Outcome> {
    match actions::missing() {
        Some(reason) => gate.missing(reason),
        None => actions::check(gate.root).map(|()| Outcome::Passed),
    }
}

fn clippy(gate: &Gate<'_>) -> anyhow::Result<Outcome> {
    run(cargo(gate).arg("clippy").args(ALL).args(["--all-targets", "--", "--deny", "warnings"]))
}

fn tests(gate: &Gate<'_>) -> anyhow::Result<Outcome> {
    if process::succeeds(cargo(gate).args(["nextest", "--version"])) {
        let at_a_time = ["--test-threads", &workspace::tests_at_a_time()];
        return run(cargo(gate).args(["nextest", "run", "--no-fail-fast"]).args(at_a_time).args(ALL));
    }
    println!("cargo-nextest is not installed, using cargo test");
    run(workspace::test(gate.root).args(["--lib", "--bins", "--tests", "--no-fail-fast"]))
}

/// A few faults of each kind; `cargo xtask mutants` plants all of them.
fn mutants(gate: &Gate<'_>) -> anyhow::Result<Outcome> {
    planted::run_mutants(gate.root, &planted::Arguments::quick())?;
    gate.discard("target/mutants/build")?;
    Ok(Outcome::Passed)
}

fn server_backends(gate: &Gate<'_>) -> anyhow::Result<Outcome> {
    match backends::find() {
        Ok(tools) => {
            backends::run(gate.root, &tools)?;
            // Not `missing`: nothing that could be installed would help.
            let skipped = || Outcome::Skipped(backends::NO_SMALL_DISK.to_owned());
            Ok(if tools.has_small_disk() { Outcome::Passed } else { skipped() })
        }
        Err(backends::Missing(reason)) => gate.missing(reason),
    }
}

/// A server on loopback, and schemathesis (PyPI) with requests made out of its OpenAPI document. The test starts both; it is
/// ignored among the tests, because they run without schemathesis too.
fn api_fuzz(gate: &Gate<'_>) -> anyhow::Result<Outcome> {
    let program = env::var("PITSTOP_SCHEMATHESIS").unwrap_or_else(|_| "schemathesis".to_owned());
    if !process::succeeds(Command::new(&program).arg("--version")) {
        return gate.missing(format!(
            "schemathesis is not there (looked for {program}): `pipx install schemathesis`, or name it in \
             PITSTOP_SCHEMATHESIS"
        ));
    }
    let test = ["--test", "it", "--", "--ignored", "--exact", "fuzz::schemathesis_finds_nothing"];
    run(workspace::test(gate.root).args(test))
}

fn browser(gate: &Gate<'_>) -> anyhow::Result<Outcome> {
    match dashboard::missing() {
        Some(reason) => gate.missing(reason),
        None => dashboard::test(gate.root).map(|()| Outcome::Passed),
    }
}

/// The command line as it is installed, and with nothing that it can do without. All other steps build it with everything.
fn features(gate: &Gate<'_>) -> anyhow::Result<Outcome> {
    for choice in [&[][..], &["--no-default-features"]] {
        let program = ["--package", "pitstop", "--bin", "pitstop", "--locked"];
        let lints = ["--", "--deny", "warnings"];
        process::run(cargo(gate).arg("clippy").args(program).args(choice).args(lints))?;
    }
    Ok(Outcome::Passed)
}

fn doc_tests(gate: &Gate<'_>) -> anyhow::Result<Outcome> {
    run(workspace::test(gate.root).args(["--doc", "--no-fail-fast"]))
}

fn doc(gate: &Gate<'_>) -> anyhow::Result<Outcome> {
    run(cargo(gate).arg("doc").args(ALL).arg("--no-deps").env("RUSTDOCFLAGS", "--deny warnings"))
}

/// The half of the chain-loader that touches no hardware. It is in the firmware's workspace, and yet for the host here:
/// `firmware/.cargo/config.toml` is read from within only.
fn chainload(gate: &Gate<'_>) -> anyhow::Result<Outcome> {
    let package = ["--manifest-path", "firmware/chainload/Cargo.toml", "--target-dir", "target/chainload"];
    let lints = ["--all-targets", "--locked", "--", "--deny", "warnings"];
    process::run(cargo(gate).arg("clippy").args(package).args(lints))?;
    run(cargo(gate).arg("test").args(package).arg("--locked"))
}

fn no_std(gate: &Gate<'_>) -> anyhow::Result<Outcome> {
    let toolchain = match toolchain::find_or_install(gate.root) {
        Ok(toolchain) => toolchain,
        Err(missing) => return gate.missing(missing.to_string()),
    };
    println!("toolchain: {toolchain}");
    for name in NO_STD_CRATES {
        process::run(&mut device_build(toolchain.cargo(), gate.root, name, TARGET))?;
    }
    for name in NO_STD_CRATES_WITH_ARC {
        let Some(cargo) = toolchain.cargo_from_source() else {
            return gate.missing(format!(
                "{name} needs the sources of the standard library: `cd firmware && rustup component add rust-src`"
            ));
        };
        process::run(&mut device_build(cargo, gate.root, name, TARGET_WITH_CAS))?;
    }
    Ok(Outcome::Passed)
}

/// Only the library, and in a folder of its own: another compiler than the host's may be at work.
///
/// Nothing of this is ever run, so it is built without optimisation and debug information, four times as fast.
fn device_build(mut cargo: Command, root: &Path, name: &str, target: &str) -> Command {
    cargo
        .args(["build", "--lib", "--package", name, "--no-default-features", "--locked", "--target", target])
        .args(["--target-dir", "target/device", "--config", "profile.dev.debug=false"])
        .args(["--config", "profile.dev.package.'*'.opt-level=0"])
        // Clippy sees the host's features only; what they hide must not pass here.
        .env("RUSTFLAGS", "--deny warnings")
        .current_dir(root);
    cargo
}

fn firmware(gate: &Gate<'_>) -> anyhow::Result<Outcome> {
    let toolchain = match toolchain::find_or_install(gate.root) {
        Ok(toolchain) => toolchain,
        Err(missing) => return gate.missing(missing.to_string()),
    };
    println!("toolchain: {toolchain}");
    firmware::build(gate.root, &toolchain, &default_firmware_dir(gate.root)).map(|()| Outcome::Passed)
}

fn emulate(gate: &Gate<'_>) -> anyhow::Result<Outcome> {
    match emulate::run(gate.root, &emulate::Arguments::default()) {
        Ok(emulate::Ending::Passed) => {
            lab::run(gate.root, &lab::Arguments::default())?;
            // `pitstop demo --chip`: ignored among the tests, which run without a toolchain for the chip too.
            run(workspace::test(gate.root).args(["--test", "demo", "--", "--ignored"]))
        }
        // No packager has it, so that continuous integration may lack it.
        Ok(emulate::Ending::Skipped(reason)) => Ok(Outcome::Skipped(reason)),
        Err(error) => match error.downcast::<toolchain::Missing>() {
            Ok(missing) => gate.missing(missing.to_string()),
            Err(error) => Err(error),
        },
    }
}

fn deny(gate: &Gate<'_>) -> anyhow::Result<Outcome> {
    if let Some(outcome) = cargo_deny_missing(gate) {
        return outcome;
    }
    check_deny(gate, &["check", "bans", "licenses", "sources"])
}

fn advisories(gate: &Gate<'_>) -> anyhow::Result<Outcome> {
    if let Some(outcome) = cargo_deny_missing(gate) {
        return outcome;
    }
    // Fetched apart from the check: a database that cannot be reached is no vulnerability, and no proof of none.
    let fetched = process::status(cargo(gate).args(["deny", "--config", "deny.toml", "fetch", "db"]))?;
    match fetched.code() {
        Some(0) => {}
        Some(DENY_FETCH_FAILED) => {
            return Ok(Outcome::Skipped(
                "the advisory database cannot be reached, nothing was checked".into(),
            ));
        }
        _ => bail!("`cargo deny fetch db` failed: {fetched}"),
    }
    check_deny(gate, &["check", "advisories"])
}

fn check_deny(gate: &Gate<'_>, check: &[&str]) -> anyhow::Result<Outcome> {
    for manifest in MANIFESTS {
        let arguments = ["deny", "--locked", "--config", "deny.toml", "--manifest-path", manifest];
        process::run(cargo(gate).args(arguments).args(check))?;
    }
    Ok(Outcome::Passed)
}

fn cargo_deny_missing(gate: &Gate<'_>) -> Option<anyhow::Result<Outcome>> {
    let installed = process::succeeds(cargo(gate).args(["deny", "--version"]));
    (!installed)
        .then(|| gate.missing("cargo-deny is not installed: `cargo install --locked cargo-deny`".into()))
}
