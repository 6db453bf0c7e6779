//! A progress bar over bytes.

use std::io::{self, Read};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Label, bar, bytes done and rate, in one line that is cleared when dropped.
const TEMPLATE: &str = "  {msg} {bar:24.cyan/dim} {bytes:>10} of {total_bytes}  {binary_bytes_per_sec:.dim}";

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
    fn the_template_is_one() {
        ProgressStyle::with_template(TEMPLATE).unwrap();
    }
}
