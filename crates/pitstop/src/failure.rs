//! How a command fails: one sentence, and the next step.

use std::process::ExitCode;

/// What a person reads when a command could not do its work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    message: String,
    hint: Option<String>,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// The command was right, the world was not.
    Failed,
    /// The command contradicts itself.
    Usage,
    /// It ended in another way than the one that was waited for; its help text tells the exit code.
    Ended(u8),
}

impl Failure {
    /// A failure with what was expected and found, exit code 1.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None, kind: Kind::Failed }
    }

    /// A failure of usage, exit code 2 like clap's own.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None, kind: Kind::Usage }
    }

    /// An end other than the one that was waited for, with an exit code of its own.
    pub(crate) fn ended(exit_code: u8, message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None, kind: Kind::Ended(exit_code) }
    }

    /// Adds the next step.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds the next step when there is one.
    pub(crate) fn maybe_hint(mut self, hint: Option<String>) -> Self {
        self.hint = hint;
        self
    }

    /// What went wrong.
    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    /// The next step.
    pub(crate) fn next_step(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// 1 for a failure, 2 for wrong usage, others where a help text tells them.
    pub(crate) fn exit_code(&self) -> ExitCode {
        match self.kind {
            Kind::Failed => ExitCode::from(1),
            Kind::Usage => ExitCode::from(2),
            Kind::Ended(code) => ExitCode::from(code),
        }
    }
}
