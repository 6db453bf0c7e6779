//! The repository's own commands, run as `cargo xtask <command>`.
//!
//! | command | what it does |
//! | --- | --- |
//! | `ci` | the whole gate: everything that must pass before a change is merged |
//! | `campaign` | everything that can go wrong on a device or on the server, and whether the promise holds |
//! | `fuzz` | searches for inputs that break a fuzz target, with libFuzzer |
//! | `mutants` | plants faults in the code, and shows which test catches each |
//! | `firmware` | builds updater and example applications into ESP images |
//! | `dist` | makes a release: program, updaters, container image, bill of materials, licences |
//! | `bench-server` | measures the server against nginx |
//! | `emulate` | runs them against a real server on an emulated ESP32-C3 |
//! | `screenshots` | makes the screenshots of the dashboard anew |
//! | `api` | checks that the API breaks nobody who was written for a release |
//! | `layering` | checks the arrows between the crates |
//! | `golden` | checks that no golden file was ever edited |
//!
//! Exit codes: 0 done, 1 failed, 2 wrong usage, 3 (`firmware`, `dist` and `emulate`) no toolchain for the chip.

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

/// As std's, but for a reader that went away (`cargo xtask ci | head`): the work goes on, and its exit code counts.
macro_rules! println {
    () => { $crate::say(format_args!("\n")) };
    ($($text:tt)*) => { $crate::say(format_args!("{}\n", format_args!($($text)*))) };
}

#[cfg(feature = "gate")]
mod api;
#[cfg(feature = "gate")]
mod backends;
#[cfg(feature = "gate")]
mod bench_server;
#[cfg(feature = "gate")]
mod browser;
#[cfg(feature = "gate")]
mod campaign;
#[cfg(feature = "gate")]
mod ci;
#[cfg(feature = "gate")]
mod dist;
#[cfg(feature = "gate")]
mod emulate;
mod firmware;
#[cfg(feature = "gate")]
mod fuzz;
#[cfg(feature = "gate")]
mod golden;
mod image;
#[cfg(feature = "gate")]
mod lab;
#[cfg(feature = "gate")]
mod layering;
#[cfg(feature = "gate")]
mod mutants;
mod process;
#[cfg(feature = "gate")]
mod server_campaign;
#[cfg(feature = "gate")]
mod status;
#[cfg(feature = "gate")]
mod tables;
mod toolchain;
#[cfg(feature = "gate")]
mod workflows;
#[cfg(feature = "gate")]
mod workspace;

use std::fmt;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Exit code of `cargo xtask firmware` and `emulate` when no toolchain can build for the chip.
const EXIT_NO_TOOLCHAIN: u8 = 3;

/// Writes to standard output, if anybody reads it.
fn say(text: fmt::Arguments<'_>) {
    let _ = io::stdout().lock().write_fmt(text);
}

#[derive(Parser)]
#[command(name = "cargo xtask", about = "The repository's own commands", max_term_width = 110)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the whole gate: format, lints, tests, browser, docs, device builds, firmware, emulator, licences, layering, golden files
    #[cfg(feature = "gate")]
    Ci(ci::Arguments),
    /// Let everything go wrong on virtual devices and on the server, and check the promise of docs/fault-model.md
    #[cfg(feature = "gate")]
    Campaign(campaign::Arguments),
    /// Search for inputs that break a fuzz target, with libFuzzer; what the gate runs of them is among its tests
    #[cfg(feature = "gate")]
    Fuzz(fuzz::Arguments),
    /// Plant faults in engine, shell and formats, and show which test catches each
    #[cfg(feature = "gate")]
    Mutants(mutants::Arguments),
    /// Build updater and example applications into ESP images (exit code 3: no toolchain for the chip)
    Firmware(firmware::Arguments),
    /// Make a release: program, updaters, container image, bill of materials, licences (minutes)
    #[cfg(feature = "gate")]
    Dist(dist::Arguments),
    /// Run updater, server and applications together on an emulated ESP32-C3
    #[cfg(feature = "gate")]
    Emulate(emulate::Arguments),
    /// Run the updater's image in a world that is the same every time: count its instructions, cut its power at every moment
    #[cfg(feature = "gate")]
    Lab(lab::Arguments),
    /// Measure the server against nginx, and with a fleet of 100,000 devices (minutes)
    #[cfg(feature = "gate")]
    BenchServer(bench_server::Arguments),
    /// Make docs/screenshots/ anew: needs chromium and nodejs
    #[cfg(feature = "gate")]
    Screenshots,
    /// Write the tables of what was shown on which chip, from docs/status.toml
    #[cfg(feature = "gate")]
    Status,
    /// Check that the API holds what the documents of docs/openapi/ promised
    #[cfg(feature = "gate")]
    Api,
    /// Check who may depend on whom (ARCHITECTURE.md)
    #[cfg(feature = "gate")]
    Layering,
    /// Check that no golden file differs from what was first committed
    #[cfg(feature = "gate")]
    Golden,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let root = repository_root();
    let result = match arguments.command {
        #[cfg(feature = "gate")]
        Command::Ci(arguments) => ci::run(root, &arguments),
        #[cfg(feature = "gate")]
        Command::Campaign(arguments) => campaign::run_campaigns(root, &arguments),
        #[cfg(feature = "gate")]
        Command::Fuzz(arguments) => fuzz::search(root, &arguments),
        #[cfg(feature = "gate")]
        Command::Mutants(arguments) => mutants::run_mutants(root, &arguments),
        Command::Firmware(arguments) => firmware::run(root, &arguments),
        #[cfg(feature = "gate")]
        Command::Dist(arguments) => dist::run(root, &arguments),
        #[cfg(feature = "gate")]
        Command::Emulate(arguments) => emulate::run(root, &arguments).map(|ending| match ending {
            emulate::Ending::Passed => {}
            emulate::Ending::Skipped(reason) => println!("SKIPPED: {reason}"),
        }),
        #[cfg(feature = "gate")]
        Command::Lab(arguments) => lab::run(root, &arguments),
        #[cfg(feature = "gate")]
        Command::BenchServer(arguments) => bench_server::run_bench(root, &arguments),
        #[cfg(feature = "gate")]
        Command::Screenshots => browser::screenshots(root),
        #[cfg(feature = "gate")]
        Command::Status => status::run(root),
        #[cfg(feature = "gate")]
        Command::Api => api::check(root),
        #[cfg(feature = "gate")]
        Command::Layering => layering::run(root),
        #[cfg(feature = "gate")]
        Command::Golden => golden::run(root).map(|outcome| println!("{outcome}")),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            match error.downcast_ref::<toolchain::Missing>() {
                Some(_) => ExitCode::from(EXIT_NO_TOOLCHAIN),
                None => ExitCode::FAILURE,
            }
        }
    }
}

/// The folder that holds the workspace's `Cargo.toml`: the parent of this crate's folder.
fn repository_root() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here)
}

/// Where files built for the chip go unless told otherwise: `target/firmware`.
fn default_firmware_dir(root: &Path) -> PathBuf {
    root.join("target/firmware")
}
