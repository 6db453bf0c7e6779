//! The command line of Pitstop: one binary that serves, demonstrates, and administrates.
//!
//! | module | what |
//! | --- | --- |
//! | `cli` | the options, by clap |
//! | `commands` | one file per resource: what each command does |
//! | `demo` | the main job on a virtual device or an emulated chip, told as a story |
//! | `simulate` | many light devices against a server |
//! | `client` | the typed client of the admin API |
//! | `keyfile`, `publisher` | the publisher's key file, and public keys as options name them |
//! | `layouts`, `fit` | flash layouts, and whether an application fits one |
//! | `flash` | from files to a flash: the plan, the bootloader, the vault; chip and flash file |
//! | `inspect` | an image file and what it says |
//! | `publish` | planning a release, without IO |
//! | `ui` | text, tables, progress and JSON for people and scripts |
//!
//! Exit codes: 0 done, 1 failed, 2 wrong usage. Results go to standard output; errors, progress and logs go to
//! standard error.

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod cli;
mod client;
mod commands;
mod demo;
mod failure;
mod firmware;
mod fit;
mod flash;
mod inspect;
mod keyfile;
mod layouts;
mod publish;
mod publisher;
mod simulate;
mod ui;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    let ui = ui::Ui::new(cli.json);
    match cli.command.run(&ui) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            ui.failure(&failure);
            failure.exit_code()
        }
    }
}
