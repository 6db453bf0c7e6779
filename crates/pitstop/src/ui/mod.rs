//! Text, tables, progress and JSON for people and scripts.
//!
//! A command builds a [`Page`] (a plain value) and shows it once. Colours are written always and taken out at
//! the edge when standard output is no terminal or `NO_COLOR` is set.

pub(crate) mod hints;
mod page;
mod progress;
mod style;
mod text;

pub(crate) use page::{Cell, Page};
pub(crate) use progress::{ByteProgress, CountProgress, Spinner};
pub(crate) use style::{CLAP_STYLES, Tone, paint};
pub(crate) use text::{ago, bytes, counted, printable, short_digest, size};

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};

use serde::Serialize;

use crate::failure::Failure;

/// Where a command's results go: pages for people, or JSON for scripts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ui {
    json: bool,
}

impl Ui {
    /// With `json`, [`Ui::result`] prints JSON and nothing else is printed on standard output.
    pub(crate) fn new(json: bool) -> Self {
        Self { json }
    }

    /// Whether `--json` was given.
    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// Shows a result: `value` as one indented JSON document with `--json`, the page otherwise.
    ///
    /// # Errors
    /// When standard output cannot be written, other than by a reader that went away.
    pub(crate) fn result(&self, value: &impl Serialize, page: impl FnOnce() -> Page) -> Result<(), Failure> {
        if !self.json {
            return write_out(&page());
        }
        let text = serde_json::to_string_pretty(value).map_err(not_json)?;
        write_out(&format_args!("{text}\n"))
    }

    /// Shows one event of a command that goes on: `value` as one line of JSON with `--json`, the text otherwise, which is
    /// written as it is.
    ///
    /// # Errors
    /// As [`Ui::result`].
    pub(crate) fn event<T: Display>(
        &self,
        value: &impl Serialize,
        text: impl FnOnce() -> T,
    ) -> Result<(), Failure> {
        if !self.json {
            return write_out(&text());
        }
        let line = serde_json::to_string(value).map_err(not_json)?;
        write_out(&format_args!("{line}\n"))
    }

    /// Shows one line on standard output, for people only. It is written as it is: texts of others go through [`printable`].
    ///
    /// # Errors
    /// As [`Ui::result`].
    pub(crate) fn line(&self, line: impl Display) -> Result<(), Failure> {
        if self.is_json() { Ok(()) } else { write_out(&format_args!("{line}\n")) }
    }

    /// Says on standard error why the command failed and what to do next; with `--json` as one line of JSON, the last.
    pub(crate) fn failure(&self, failure: &Failure) {
        if self.json
            && let Ok(line) = serde_json::to_string(&failure.problem())
        {
            // Nobody is left to tell when standard error is closed.
            let _ = writeln!(io::stderr().lock(), "{line}");
            return;
        }
        let mut text = labelled(Tone::Bad, "error:", failure.message());
        if let Some(hint) = failure.next_step() {
            text += &labelled(Tone::Command, "hint:", &hints::prose(hint));
        }
        // Nobody is left to tell when standard error is closed.
        let _ = anstream::stderr().lock().write_all(text.as_bytes());
    }

    /// Warns on standard error, with `--json` too.
    pub(crate) fn warning(&self, text: &str) {
        warning(text);
    }

    /// A progress bar for `total_bytes`, drawn on standard error when that is a terminal; otherwise a line from time to time.
    /// Neither with `--json`.
    pub(crate) fn byte_progress(&self, label: &str, total_bytes: u64) -> ByteProgress {
        ByteProgress::new(label, total_bytes, self.json)
    }

    /// A progress bar over `total` things, drawn as [`Ui::byte_progress`] is.
    pub(crate) fn count_progress(&self, label: &str, total: u64) -> CountProgress {
        CountProgress::new(label, total, self.json)
    }

    /// A sign of life while something takes long, drawn as [`Ui::byte_progress`] is.
    pub(crate) fn spinner(&self, label: &str) -> Spinner {
        Spinner::new(label, self.json)
    }
}

/// Warns on standard error.
pub(crate) fn warning(text: &str) {
    // Nobody is left to tell when standard error is closed.
    let _ = anstream::stderr().lock().write_all(labelled(Tone::Warn, "warning:", text).as_bytes());
}

fn not_json(error: serde_json::Error) -> Failure {
    Failure::new(format!("the result cannot be written as JSON: {error}"))
}

/// A line that begins with a label. On a terminal it is broken between words, below the text and not the label;
/// elsewhere it stays one line, for `grep` and logs.
fn labelled(tone: Tone, label: &str, text: &str) -> String {
    let text = &*printable(text);
    let label_columns = label.len() + 1;
    let text = if io::stderr().is_terminal() {
        let columns = textwrap::termwidth().saturating_sub(label_columns);
        textwrap::wrap(text, page::by_words(columns)).join(&format!("\n{:label_columns$}", ""))
    } else {
        text.to_owned()
    };
    format!("{} {text}\n", paint(tone, label))
}

/// Writes all of it at once. A reader that went away (`pitstop device list | head`) is no failure.
fn write_out(text: &dyn Display) -> Result<(), Failure> {
    let mut out = anstream::stdout().lock();
    match write!(out, "{text}").and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::new(format!("standard output cannot be written: {error}")))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}
