//! Questions at a terminal.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use crate::failure::Failure;
use crate::ui::printable;

/// Whether there is somebody to ask.
pub(crate) fn is_somebody_there() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// Asks, and reads a line. `None` when the input has ended.
///
/// # Errors
/// When the terminal cannot be read.
pub(crate) fn line(question: &str) -> Result<Option<String>, Failure> {
    // Nobody can answer what cannot be asked: the answer is read all the same.
    let _ = write!(anstream::stderr().lock(), "{} ", printable(question));
    let mut line = String::new();
    let read_bytes = io::stdin()
        .lock()
        .read_line(&mut line)
        .map_err(|error| Failure::new(format!("the answer cannot be read: {error}")))?;
    Ok((read_bytes > 0).then(|| line.trim().to_owned()))
}

/// Asks until the answer is one that `parse` takes; what is wrong with another one is told.
///
/// # Errors
/// When the input ends, or the terminal cannot be read.
pub(crate) fn until<T>(question: &str, parse: impl Fn(&str) -> Result<T, String>) -> Result<T, Failure> {
    loop {
        let Some(answer) = line(question)? else {
            return Err(Failure::new(format!("the input ended before an answer: {question}")));
        };
        match parse(&answer) {
            Ok(value) => return Ok(value),
            Err(problem) => {
                // As above.
                let _ = writeln!(anstream::stderr().lock(), "  {}", printable(&problem));
            }
        }
    }
}
