//! `pitstop completions` and `pitstop man`: what shells and readers of manuals want, out of the options' own definitions.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use clap_complete::Shell;
use serde::Serialize;

use crate::failure::Failure;
use crate::ui::{Page, Ui};

const COMPLETIONS_EXAMPLES: &str = "\
Examples:
  pitstop completions bash > ~/.local/share/bash-completion/completions/pitstop
  pitstop completions zsh > ~/.zfunc/_pitstop              with ~/.zfunc in fpath
  pitstop completions fish > ~/.config/fish/completions/pitstop.fish
  pitstop completions powershell >> $PROFILE";

const MAN_EXAMPLES: &str = "\
Examples:
  pitstop man ~/.local/share/man/man1
  man pitstop-flash";

/// `completions`.
#[derive(Debug, Args)]
#[command(after_help = COMPLETIONS_EXAMPLES)]
pub(crate) struct Completions {
    /// The shell
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

/// `man`.
#[derive(Debug, Args)]
#[command(after_help = MAN_EXAMPLES)]
pub(crate) struct Man {
    /// The folder that the pages are written to; made if it is not there
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

/// What was written.
#[derive(Serialize)]
struct Written {
    folder: PathBuf,
    pages: usize,
}

impl Completions {
    /// Prints the script for `command`, all of this program.
    pub(crate) fn run(self, mut command: clap::Command, ui: &Ui) -> Result<(), Failure> {
        let mut script = Vec::new();
        let name = command.get_name().to_owned();
        clap_complete::generate(self.shell, &mut command, name, &mut script);
        let script = String::from_utf8_lossy(&script).into_owned();
        ui.result(&script, || Page::verbatim(&script))
    }
}

impl Man {
    /// Writes a page for `command` and one for each command below it.
    pub(crate) fn run(self, command: clap::Command, ui: &Ui) -> Result<(), Failure> {
        let Self { folder } = self;
        let failed = |error: std::io::Error| {
            Failure::new(format!("the manual cannot be written to {}: {error}", folder.display()))
        };
        std::fs::create_dir_all(&folder).map_err(failed)?;
        let mut pages = Vec::new();
        let mut command = command.disable_help_subcommand(true);
        command.build();
        collect(command, &mut pages);
        for (name, page) in &pages {
            let mut file = std::fs::File::create(folder.join(format!("{name}.1"))).map_err(failed)?;
            file.write_all(page).map_err(failed)?;
        }
        let written = Written { pages: pages.len(), folder: folder.clone() };
        ui.result(&written, || {
            Page::titled(format!("Wrote {} pages to {}", written.pages, folder.display()))
                .next("Read one:", ["man pitstop-flash"])
        })
    }
}

/// Name and text of the page of `command`, and of those below it, which are named after all above them, as `git-log(1)` is.
fn collect(command: clap::Command, pages: &mut Vec<(String, Vec<u8>)>) {
    for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
        collect(below.clone(), pages);
    }
    let name = command.get_display_name().unwrap_or(command.get_name()).to_owned();
    let mut page = Vec::new();
    // Writing to a Vec does not fail.
    let _ = clap_mangen::Man::new(command).render(&mut page);
    pages.push((name, page));
}
