//! What moves while a command works: a bar over bytes, or a sign of life.

use std::io::{self, Read};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Label, bar, bytes done and rate, in one line that is cleared when dropped.
const TEMPLATE: &str = "  {msg} {bar:24.cyan/dim} {bytes:>10} of {total_bytes}  {binary_bytes_per_sec:.dim}";

/// Label, bar, count, and what is said of it.
const COUNT_TEMPLATE: &str = "  {prefix} {bar:24.cyan/dim} {human_pos} of {human_len}  {msg:.dim}";

/// Sign of life, label, time.
const SPINNER_TEMPLATE: &str = "  {spinner:.cyan} {msg} {elapsed:.dim}";

/// Often enough to be seen to move.
const SPINNER_TICK: Duration = Duration::from_millis(100);

/// A bar that draws on standard error, or nowhere when that is no terminal.
#[derive(Debug)]
pub(crate) struct ByteProgress(ProgressBar);

impl ByteProgress {
    pub(super) fn new(label: &str, total_bytes: u64, hidden: bool) -> Self {
        let target = if hidden { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        let bar = ProgressBar::with_draw_target(Some(total_bytes), target).with_message(label.to_owned());
        // The template is a constant and a test reads it.
        if let Ok(style) = ProgressStyle::with_template(TEMPLATE) {
            bar.set_style(style.progress_chars("━╸─"));
        }
        Self(bar)
    }

    /// Moves the bar by `bytes`.
    pub(crate) fn advance(&self, bytes: u64) {
        self.0.inc(bytes);
    }

    /// Moves the bar to `bytes` from its start.
    pub(crate) fn set(&self, bytes: u64) {
        self.0.set_position(bytes);
    }

    /// Where the bar is.
    #[cfg(test)]
    pub(crate) fn position(&self) -> u64 {
        self.0.position()
    }

    /// Says what is done now.
    pub(crate) fn label(&self, label: &str) {
        self.0.set_message(label.to_owned());
    }

    /// A reader that moves the bar.
    pub(crate) fn watch<'a>(&'a self, reader: impl Read + 'a) -> impl Read + 'a {
        Watched { bar: self, reader }
    }
}

impl Drop for ByteProgress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// A bar that counts things, drawn as [`ByteProgress`] is.
#[derive(Debug)]
pub(crate) struct CountProgress(ProgressBar);

impl CountProgress {
    pub(super) fn new(label: &str, total: u64, hidden: bool) -> Self {
        let target = if hidden { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        let bar = ProgressBar::with_draw_target(Some(total), target).with_prefix(label.to_owned());
        // The template is a constant and a test reads it.
        if let Ok(style) = ProgressStyle::with_template(COUNT_TEMPLATE) {
            bar.set_style(style.progress_chars("━╸─"));
        }
        Self(bar)
    }

    /// One more.
    pub(crate) fn one(&self) {
        self.0.inc(1);
    }

    /// So many now, and what is to be said of it.
    pub(crate) fn set(&self, count: u64, message: impl Into<String>) {
        self.0.set_position(count);
        self.0.set_message(message.into());
    }
}

impl Drop for CountProgress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// A sign of life on standard error, or nothing when that is no terminal; cleared when dropped.
#[derive(Debug)]
pub(crate) struct Spinner(ProgressBar);

impl Spinner {
    pub(super) fn new(label: &str, hidden: bool) -> Self {
        let target = if hidden { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        let bar = ProgressBar::with_draw_target(None, target).with_message(label.to_owned());
        // The template is a constant and a test reads it.
        if let Ok(style) = ProgressStyle::with_template(SPINNER_TEMPLATE) {
            bar.set_style(style);
        }
        bar.enable_steady_tick(SPINNER_TICK);
        Self(bar)
    }
}

impl Drop for Spinner {
    fn drop(&mut self) {
        self.0.finish_and_clear();
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
