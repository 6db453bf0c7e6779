//! The command line of Pitstop: one binary that serves, demonstrates, and administrates.
//!
//! A library, so that it is compiled while the server's code is still being generated: a binary would wait for that. Nobody
//! else is to use it.
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
//! standard error. With `--json` the last line of standard error is the failure as JSON (RFC 9457).

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
mod text_file;
mod ui;

use std::process::ExitCode;

use clap::Parser;

/// The program.
pub fn main() -> ExitCode {
    let cli = match cli::Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let ui = ui::Ui::new(cli.json);
    match cli.command.run(&ui) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            ui.failure(&failure);
            failure.exit_code()
        }
    }
}

/// What clap says: help, version, or wrong usage, which scripts get as they get every failure.
fn usage(error: &clap::Error) -> ExitCode {
    let is_json = std::env::args_os().any(|argument| argument == "--json");
    if error.use_stderr() && is_json {
        let text = error.to_string();
        let message = without_usage(&text);
        let failure = failure::Failure::usage(message.trim_start_matches("error: ")).hint("see --help");
        ui::Ui::new(true).failure(&failure);
        return failure.exit_code();
    }
    // Nobody is left to tell when the output is closed.
    let _ = error.print();
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

/// What clap says is wrong, in one line: what is missing or possible stands in lines of its own.
fn without_usage(text: &str) -> String {
    let told = text.lines().map(str::trim).take_while(|line| !line.starts_with("Usage:"));
    told.filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_is_told_what_is_missing() {
        let text = "error: the following required arguments were not provided:\n  --product <NAME>\n\n\
                    Usage: pitstop release list --product <NAME>\n\nFor more information, try '--help'.\n";
        let expected = "error: the following required arguments were not provided: --product <NAME>";
        assert_eq!(without_usage(text), expected);
    }
}
