//! A question before what cannot be undone.

use std::io::{self, BufRead, IsTerminal as _, Write as _};

use clap::Args;

use crate::failure::Failure;
use crate::ui::printable;

/// The option of commands that ask.
#[derive(Debug, Args)]
pub(crate) struct Consent {
    /// Do it without asking; needed where there is no terminal to ask at
    #[arg(long)]
    yes: bool,
}

impl Consent {
    /// Asks; only a yes is `Ok`.
    ///
    /// # Errors
    /// When the answer is another, or there is nobody to ask.
    pub(crate) fn to(&self, question: &str) -> Result<(), Failure> {
        if self.yes {
            return Ok(());
        }
        if !(io::stdin().is_terminal() && io::stderr().is_terminal()) {
            return Err(Failure::usage(format!("there is no terminal to ask at: {question}"))
                .hint("--yes does it without asking"));
        }
        // Nobody can answer what cannot be asked: the answer is read all the same, and is not a yes.
        let _ = write!(anstream::stderr().lock(), "{} [y/N] ", printable(question));
        let is_meant = is_yes(&mut io::stdin().lock())
            .map_err(|error| Failure::new(format!("the answer cannot be read: {error}")))?;
        if is_meant { Ok(()) } else { Err(Failure::new("nothing was changed")) }
    }
}

fn is_yes(input: &mut impl BufRead) -> io::Result<bool> {
    let mut line = String::new();
    input.read_line(&mut line)?;
    let answer = line.trim();
    Ok(answer.eq_ignore_ascii_case("y") || answer.eq_ignore_ascii_case("yes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_yes_is_said() {
        for yes in ["y\n", "Yes\r\n", " y \n"] {
            assert!(is_yes(&mut yes.as_bytes()).unwrap(), "{yes:?}");
        }
        for no in ["", "\n", "n\n", "yeah\n", "1\n"] {
            assert!(!is_yes(&mut no.as_bytes()).unwrap(), "{no:?}");
        }
    }
}
