//! A question before what cannot be undone.

use clap::Args;

use crate::commands::ask;
use crate::failure::Failure;
use crate::ui::counted;

/// The number of more devices than this is to be typed.
const MANY: u64 = 100;

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
        self.ask(question, None)
    }

    /// Asks about so many devices: of many the number is to be typed.
    ///
    /// # Errors
    /// As [`Consent::to`].
    pub(crate) fn to_devices(&self, question: &str, count: u64) -> Result<(), Failure> {
        self.ask(question, (count > MANY).then_some(count))
    }

    fn ask(&self, question: &str, number: Option<u64>) -> Result<(), Failure> {
        if self.yes {
            return Ok(());
        }
        if !ask::is_somebody_there() {
            return Err(Failure::usage(format!("there is no terminal to ask at: {question}"))
                .hint("--yes does it without asking"));
        }
        let wanted = match number {
            Some(number) => format!("Type {number} to go on:"),
            None => "[y/N]".to_owned(),
        };
        let answer = ask::line(&format!("{question} {wanted}"))?.unwrap_or_default();
        if is_yes(&answer, number) { Ok(()) } else { Err(Failure::new("nothing was changed")) }
    }
}

/// Whether the answer is yes, or the number where one is asked for.
fn is_yes(answer: &str, number: Option<u64>) -> bool {
    match number {
        Some(number) => answer == number.to_string(),
        None => answer.eq_ignore_ascii_case("y") || answer.eq_ignore_ascii_case("yes"),
    }
}

/// `1 device`, `2 devices`.
pub(crate) fn devices(count: u64) -> String {
    counted(count, "device")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_yes_is_said_and_a_number_is_typed() {
        for yes in ["y", "Yes"] {
            assert!(is_yes(yes, None), "{yes:?}");
        }
        for no in ["", "n", "yeah", "1"] {
            assert!(!is_yes(no, None), "{no:?}");
        }
        assert!(is_yes("101", Some(101)));
        for no in ["y", "100", "1010", "", "0101"] {
            assert!(!is_yes(no, Some(101)), "{no:?}");
        }
    }

    #[test]
    fn many_devices_are_more_than_a_hundred() {
        let asks = Consent { yes: false };
        // The tests have no terminal: what is asked is in the refusal.
        let refused = asks.to_devices("Revoke 101 devices?", 101).unwrap_err();
        assert_eq!(refused.message(), "there is no terminal to ask at: Revoke 101 devices?");
        assert_eq!(Consent { yes: true }.to_devices("Revoke 101 devices?", 101), Ok(()));
        assert_eq!((devices(1), devices(2)), ("1 device".to_owned(), "2 devices".to_owned()));
    }
}
