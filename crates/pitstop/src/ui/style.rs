//! The few colours there are.

use std::fmt::{self, Display};

use anstyle::{AnsiColor, Effects, Style};
use clap::builder::Styles;

use super::text::printable;

/// What a piece of text means; the colour follows from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    /// Ordinary text.
    Plain,
    /// The first line of a page.
    Heading,
    /// Labels and what may be overlooked.
    Dim,
    /// As it should be.
    Good,
    /// Worth a look.
    Warn,
    /// Wrong.
    Bad,
    /// Something to type.
    Command,
}

impl Tone {
    /// The terminal style of this tone.
    pub(crate) const fn style(self) -> Style {
        match self {
            Self::Plain => Style::new(),
            Self::Heading => Style::new().effects(Effects::BOLD),
            Self::Dim => Style::new().effects(Effects::DIMMED),
            Self::Good => AnsiColor::Green.on_default(),
            Self::Warn => AnsiColor::Yellow.on_default(),
            Self::Bad => AnsiColor::Red.on_default().effects(Effects::BOLD),
            Self::Command => AnsiColor::Cyan.on_default(),
        }
    }
}

/// The same tones for clap's help and errors.
pub(crate) const CLAP_STYLES: Styles = Styles::styled()
    .header(Tone::Heading.style())
    .usage(Tone::Heading.style())
    .literal(Tone::Command.style())
    .placeholder(Style::new())
    .error(Tone::Bad.style())
    .valid(Tone::Good.style())
    .invalid(Tone::Warn.style());

/// `text` in the colour of `tone`. Of the text itself nothing is left that a terminal would obey.
pub(crate) fn paint(tone: Tone, text: impl Display) -> impl Display {
    Painted { tone, text }
}

struct Painted<T> {
    tone: Tone,
    text: T,
}

impl<T: Display> Display for Painted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let style = self.tone.style();
        write!(f, "{style}{}{style:#}", printable(&self.text.to_string()))
    }
}
