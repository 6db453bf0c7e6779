//! `pitstop keys`: publisher keys, made and kept on the publisher's machine.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde::Serialize;

use crate::failure::Failure;
use crate::keyfile::{KeyFile, MAX_NAME_BYTES};
use crate::ui::{Cell, Page, Ui, hints};

const EXAMPLES: &str = "\
Examples:
  pitstop keys new
  pitstop keys new --out alice.key --name alice";

/// Publisher keys.
#[derive(Debug, Subcommand)]
pub(crate) enum Keys {
    /// Make a publisher key; whoever holds it can publish, so keep it off the server
    #[command(after_help = EXAMPLES)]
    New(New),

    /// Show the public half of a key file
    Show(Show),
}

/// `keys new`.
#[derive(Debug, Args)]
pub(crate) struct New {
    /// Where to write the key; a file that exists is never overwritten
    #[arg(long, value_name = "FILE", default_value = "publisher.key")]
    out: PathBuf,

    /// Whose key it is, kept in the file and shown with the product
    #[arg(long, value_name = "NAME", default_value = "publisher", value_parser = name)]
    name: String,
}

/// `keys show`.
#[derive(Debug, Args)]
pub(crate) struct Show {
    /// The key file
    #[arg(value_name = "FILE", default_value = "publisher.key")]
    file: PathBuf,
}

/// A key for people and scripts; the secret stays in the file.
#[derive(Serialize)]
struct KeyReport {
    file: String,
    name: String,
    id: String,
    public_key: String,
}

impl Keys {
    /// Runs the command.
    pub(crate) fn run(self, ui: &Ui) -> Result<(), Failure> {
        match self {
            Self::New(New { out, name }) => {
                let report = KeyReport::of(&out, &KeyFile::create(&out, &name)?);
                ui.result(&report, || {
                    report.page("Made a publisher key").note(
                        "The file is the secret: only you can read it. Keep a copy in a safe place; without it, \
                         devices that trust this key alone can never be updated again.",
                    )
                    .next(
                        "Next, make a product that trusts it:",
                        [format!("pitstop product new lamp --chip esp32c3 --key {}", hints::word(&report.file))],
                    )
                })
            }
            Self::Show(Show { file }) => {
                let report = KeyReport::of(&file, &KeyFile::read(&file)?);
                ui.result(&report, || report.page("Publisher key"))
            }
        }
    }
}

impl KeyReport {
    fn of(path: &Path, file: &KeyFile) -> Self {
        let public = file.public();
        Self {
            file: path.display().to_string(),
            name: file.name.clone(),
            id: hex::encode(public.id()),
            public_key: hex::encode(public.to_sec1()),
        }
    }

    fn page(&self, heading: &str) -> Page {
        Page::titled(heading).facts([
            ("file", Cell::from(&self.file)),
            ("name", Cell::from(&self.name)),
            ("id", Cell::from(&self.id)),
            ("public", Cell::from(&self.public_key)),
        ])
    }
}

/// A name that fits one line of a key file.
fn name(text: &str) -> Result<String, String> {
    let text = text.trim();
    if text.is_empty() || text.len() > MAX_NAME_BYTES || text.chars().any(char::is_control) {
        return Err(format!("expected 1 to {MAX_NAME_BYTES} characters in one line"));
    }
    Ok(text.to_owned())
}
