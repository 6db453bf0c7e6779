//! What moves while a command works: a bar over bytes, or a sign of life. Where there is no terminal, lines.

use std::cell::Cell;
use std::io::{self, IsTerminal, Read, Write};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::text::{in_a_line, printable, size};

/// Label, bar, bytes done and rate, in one line that is cleared when dropped.
const TEMPLATE: &str = "  {msg} {bar:24.cyan/dim} {bytes:>10} of {total_bytes}  {binary_bytes_per_sec:.dim}";

/// Label, bar, count, and what is said of it.
const COUNT_TEMPLATE: &str = "  {prefix} {bar:24.cyan/dim} {human_pos} of {human_len}  {msg:.dim}";

/// Sign of life, label, time.
const SPINNER_TEMPLATE: &str = "  {spinner:.cyan} {msg} {elapsed:.dim}";

/// Often enough to be seen to move.
const SPINNER_TICK: Duration = Duration::from_millis(100);

/// Where there is no terminal, a line says so often how far it is. What is done before the first has none.
const LINE_EVERY: Duration = Duration::from_secs(3);

/// Lines in place of what moves, where standard error is no terminal.
#[derive(Debug)]
struct Lines {
    shown: bool,
    last: Cell<Instant>,
}

impl Lines {
    fn new(hidden: bool) -> Self {
        Self { shown: !hidden && !io::stderr().is_terminal(), last: Cell::new(Instant::now()) }
    }

    fn now(&self, text: &str) {
        if self.shown {
            self.last.set(Instant::now());
            // Nobody is left to tell when standard error is closed.
            let _ = writeln!(anstream::stderr().lock(), "{}", printable(text));
        }
    }

    fn sometimes(&self, text: impl FnOnce() -> String) {
        if self.shown && self.last.get().elapsed() >= LINE_EVERY {
            self.now(&text());
        }
    }
}

/// A bar that draws on standard error, or lines when that is no terminal.
#[derive(Debug)]
pub(crate) struct ByteProgress {
    bar: ProgressBar,
    lines: Lines,
}

impl ByteProgress {
    pub(super) fn new(label: &str, total_bytes: u64, hidden: bool) -> Self {
        let target = if hidden { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        let bar = ProgressBar::with_draw_target(Some(total_bytes), target).with_message(label.to_owned());
        // The template is a constant and a test reads it.
        if let Ok(style) = ProgressStyle::with_template(TEMPLATE) {
            bar.set_style(style.progress_chars("━╸─"));
        }
        Self { bar, lines: Lines::new(hidden) }
    }

    /// Moves the bar by `bytes`.
    pub(crate) fn advance(&self, bytes: u64) {
        self.bar.inc(bytes);
        self.line();
    }

    /// Moves the bar to `bytes` from its start.
    pub(crate) fn set(&self, bytes: u64) {
        self.bar.set_position(bytes);
        self.line();
    }

    fn line(&self) {
        let (done, all) = (self.bar.position(), self.bar.length().unwrap_or(0));
        self.lines
            .sometimes(|| format!("{}: {} of {}", self.bar.message().trim_end(), size(done), size(all)));
    }

    /// Where the bar is.
    #[cfg(test)]
    pub(crate) fn position(&self) -> u64 {
        self.bar.position()
    }

    /// Says what is done now.
    #[cfg(feature = "board")]
    pub(crate) fn label(&self, label: &str) {
        self.bar.set_message(label.to_owned());
    }

    /// A reader that moves the bar.
    pub(crate) fn watch<'a>(&'a self, reader: impl Read + 'a) -> impl Read + 'a {
        Watched { bar: self, reader }
    }
}

impl Drop for ByteProgress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// A bar that counts things, drawn as [`ByteProgress`] is.
#[derive(Debug)]
pub(crate) struct CountProgress {
    bar: ProgressBar,
    lines: Lines,
}

impl CountProgress {
    pub(super) fn new(label: &str, total: u64, hidden: bool) -> Self {
        let target = if hidden { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        let bar = ProgressBar::with_draw_target(Some(total), target).with_prefix(label.to_owned());
        // The template is a constant and a test reads it.
        if let Ok(style) = ProgressStyle::with_template(COUNT_TEMPLATE) {
            bar.set_style(style.progress_chars("━╸─"));
        }
        Self { bar, lines: Lines::new(hidden) }
    }

    /// One more.
    pub(crate) fn one(&self) {
        self.bar.inc(1);
        self.line();
    }

    /// So many now, and what is to be said of it.
    pub(crate) fn set(&self, count: u64, message: impl Into<String>) {
        self.bar.set_position(count);
        self.bar.set_message(message.into());
        self.line();
    }

    fn line(&self) {
        let (done, all) = (self.bar.position(), self.bar.length().unwrap_or(0));
        self.lines.sometimes(|| {
            let message = self.bar.message();
            let message = if message.is_empty() { String::new() } else { format!(" ({message})") };
            format!("{}: {done} of {all}{message}", self.bar.prefix())
        });
    }
}

impl Drop for CountProgress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// A sign of life on standard error, or lines when that is no terminal; cleared when dropped.
#[derive(Debug)]
pub(crate) struct Spinner {
    bar: ProgressBar,
    label: String,
    lines: Lines,
}

impl Spinner {
    pub(super) fn new(label: &str, hidden: bool) -> Self {
        let target = if hidden { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        let bar = ProgressBar::with_draw_target(None, target).with_message(label.to_owned());
        // The template is a constant and a test reads it.
        if let Ok(style) = ProgressStyle::with_template(SPINNER_TEMPLATE) {
            bar.set_style(style);
        }
        bar.enable_steady_tick(SPINNER_TICK);
        let lines = Lines::new(hidden);
        lines.now(label);
        Self { bar, label: label.to_owned(), lines }
    }

    /// Says how far it is.
    pub(crate) fn note(&self, text: &str) {
        self.bar.set_message(format!("{} ({})", self.label, in_a_line(text)));
        self.lines.sometimes(|| format!("{}: {text}", self.label));
    }

    /// A reader that says how much has come.
    pub(crate) fn watch<'a>(&'a self, reader: impl Read + 'a) -> impl Read + 'a {
        Counted { spinner: self, reader, bytes: 0 }
    }
}

impl Drop for Spinner {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

struct Watched<'a, R> {
    bar: &'a ByteProgress,
    reader: R,
}

impl<R: Read> Read for Watched<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read_bytes = self.reader.read(buffer)?;
        self.bar.advance(read_bytes as u64);
        Ok(read_bytes)
    }
}

struct Counted<'a, R> {
    spinner: &'a Spinner,
    reader: R,
    bytes: u64,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read_bytes = self.reader.read(buffer)?;
        self.bytes += read_bytes as u64;
        self.spinner.note(&size(self.bytes));
        Ok(read_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_templates_are_some() {
        ProgressStyle::with_template(TEMPLATE).unwrap();
        ProgressStyle::with_template(SPINNER_TEMPLATE).unwrap();
        ProgressStyle::with_template(COUNT_TEMPLATE).unwrap();
    }
}
