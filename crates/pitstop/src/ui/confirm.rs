//! A question before what cannot be undone.

use std::io::{self, IsTerminal};

use console::Term;

use super::{Ui, printable};
use crate::failure::Failure;

impl Ui {
    /// Asks whether to go on after `what`, a sentence without its end; `yes` (`--yes`) is the answer beforehand.
    ///
    /// # Errors
    /// When the answer is no, or when nobody can be asked.
    pub(crate) fn confirm(&self, what: &str, yes: bool) -> Result<(), Failure> {
        if yes {
            return Ok(());
        }
        let terminal = Term::stderr();
        if !io::stdin().is_terminal() || !terminal.is_term() {
            return Err(Failure::new(format!("{what}; there is no terminal to ask on, so nothing was done"))
                .hint("give --yes to go on all the same"));
        }
        let asked = terminal
            .write_str(&format!("{}. Go on? [y/N] ", printable(what)))
            .and_then(|()| terminal.read_line());
        let answer = asked.map_err(|error| Failure::new(format!("the terminal cannot be read: {error}")))?;
        match answer.trim().to_ascii_lowercase().as_str() {
            "y" | "yes" => Ok(()),
            _ => Err(Failure::new("nothing was done, because the answer was not yes")),
        }
    }
}
