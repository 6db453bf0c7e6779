//! How a command fails: one sentence, and the next step.

use std::process::ExitCode;

use serde::Serialize;

/// What a person reads when a command could not do its work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    message: String,
    hint: Option<String>,
    kind: Kind,
    /// What the server calls it: type and title of its problem.
    of_server: Option<(String, String)>,
}

/// A failure for scripts (RFC 9457 section 3.1). There is no `status`, which is HTTP's; `hint` and `exit_code` are extensions.
#[derive(Debug, Serialize)]
pub(crate) struct Problem<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    title: &'a str,
    detail: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<&'a str>,
    exit_code: u8,
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
        Self { message: message.into(), hint: None, kind: Kind::Failed, of_server: None }
    }

    /// A failure of usage, exit code 2 like clap's own.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None, kind: Kind::Usage, of_server: None }
    }

    /// An end other than the one that was waited for, with an exit code of its own.
    pub(crate) fn ended(exit_code: u8, message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None, kind: Kind::Ended(exit_code), of_server: None }
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

    /// Keeps what the server calls it.
    pub(crate) fn of_server(mut self, kind: &str, title: &str) -> Self {
        self.of_server = Some((kind.to_owned(), title.to_owned()));
        self
    }

    /// The same for scripts.
    pub(crate) fn problem(&self) -> Problem<'_> {
        let (kind, title) = match (&self.of_server, self.kind) {
            (Some((kind, title)), _) => (kind.as_str(), title.as_str()),
            (None, Kind::Failed) => ("urn:pitstop:problem:command-failed", "The command failed"),
            (None, Kind::Usage) => ("urn:pitstop:problem:command-usage", "Wrong usage"),
            (None, Kind::Ended(_)) => {
                ("urn:pitstop:problem:command-ended", "It ended in another way than was waited for")
            }
        };
        Problem { kind, title, detail: &self.message, hint: self.next_step(), exit_code: self.code() }
    }

    fn code(&self) -> u8 {
        match self.kind {
            Kind::Failed => 1,
            Kind::Usage => 2,
            Kind::Ended(code) => code,
        }
    }

    /// 1 for a failure, 2 for wrong usage, others where a help text tells them.
    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.code())
    }
}
