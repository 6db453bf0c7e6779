//! Why the server could not be asked, or what it said instead.

use std::io;

use api::problem::Problem;

use super::tls;
use crate::failure::Failure;

/// The next step, where the server cannot name it because it does not know these commands.
fn hint(problem: &Problem) -> Option<&'static str> {
    match problem.kind()? {
        "unauthorized" => Some(
            "name the server's data directory with --data, or give the token itself with --token or \
                 PITSTOP_TOKEN",
        ),
        "token-unknown" => Some(
            "see that --token or PITSTOP_TOKEN is of this server; without them the file admin.token of --data is read",
        ),
        "token-expired" | "token-revoked" => {
            Some("an admin makes another: `pitstop token new NAME --role ROLE`")
        }
        "forbidden" => Some(
            "`pitstop whoami` shows what this token is good for; an admin makes another: `pitstop token new NAME \
                 --role ROLE`",
        ),
        "not-found" => Some(match problem.detail.split(' ').nth(3)? {
            "device" => "`pitstop device list --search TEXT` finds it by a part of its id",
            "product" => "`pitstop product list` shows which there are",
            "release" => "`pitstop release list --product NAME` shows which there are",
            "rollout" => "`pitstop rollout list` shows which there are",
            "token" => "`pitstop token list` shows which there are",
            "webhook" => "`pitstop webhook list` shows which there are",
            _ => "the `list` of its kind shows what there is, such as `pitstop product list`",
        }),
        "image-published" => Some(
            "bring that release to devices with `pitstop rollout new`, or publish the image anew with --same-image",
        ),
        "publisher-key-untrusted" => {
            Some("sign with a key that they trust (--key), or publish it all the same with --untrusted-key")
        }
        "device-enrolled" => Some("`pitstop device revoke ID` first; `pitstop device delete ID` then"),
        "token-good" => Some("`pitstop token revoke ID` first; `pitstop token delete ID` then"),
        "product-in-use" => {
            Some("`pitstop device list --product NAME` and `pitstop release list --product NAME` show them")
        }
        "release-archived" => Some("`pitstop release unarchive RELEASE` takes it out of the archive"),
        "quota" => Some(
            "`pitstop product show NAME` tells how much its artifacts take; `pitstop artifact prune` deletes what no release has",
        ),
        "rollover-phase" => Some("`pitstop ca status` shows how far the rollover is"),
        "devices-behind" => Some("`pitstop ca status` shows who lacks it; --force goes on all the same"),
        "last-publisher-key" => {
            Some("`pitstop product key add` adds another; --force revokes it all the same")
        }
        "releases-need-newer-chips" => Some("`pitstop release archive RELEASE --product NAME` archives one"),
        "device-suspended" => Some("`pitstop device resume ID` takes the suspension back"),
        "sequence-not-newer" => Some("leave out --sequence to take the next number"),
        "internal" => Some("look at what `pitstop serve` prints, then try again"),
        _ => None,
    }
}

/// A request to the admin API that did not succeed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    /// Nobody listens there, or the network does not reach it.
    #[error("the server at {url} cannot be reached: {}", reason(.source))]
    Unreachable {
        /// Where it was looked for.
        url: String,
        /// What the network said.
        source: ureq::Error,
    },
    /// The server took the connection and said nothing for too long, or the connection broke.
    #[error("the connection to {url} failed: {}", reason(.source))]
    Broken {
        /// Whom it was to.
        url: String,
        /// What happened.
        source: ureq::Error,
    },
    /// There is no TLS, or a certificate that is not to be trusted. Nothing was sent.
    #[error("the server at {url} is not trusted: {why}")]
    Untrusted {
        /// Whom it was to.
        url: String,
        /// What is wrong with it.
        why: String,
        /// The next step.
        hint: &'static str,
    },
    /// The server refused, and said why.
    #[error("{}", in_options(&.problem.detail))]
    Refused {
        /// Why.
        problem: Problem,
    },
    /// Something answered, but not as a Pitstop server does.
    #[error("expected a Pitstop server at {url}, found {found}")]
    NotPitstop {
        /// Who answered.
        url: String,
        /// With what.
        found: String,
    },
}

/// Fields of the API that the server names, as options of these commands name them.
const OPTIONS: [(&str, &str); 13] = [
    ("same_image", "--same-image"),
    ("untrusted_key", "--untrusted-key"),
    ("without_descriptor", "--without-descriptor"),
    ("confirms_itself", "--confirms-itself"),
    ("revert_to", "--revert-to"),
    ("elf_digest", "--elf"),
    ("expires_at", "--expires"),
    ("allow_http", "--allow-http"),
    ("on_halt", "--on-halt"),
    ("min_run_s", "--min-run"),
    ("silence_deadline_s", "--silence-deadline"),
    ("quarantine_after", "--quarantine-after"),
    ("chip_revision", "--chip-revision"),
];

/// A sentence of the server's with the options of these commands in place of the API's fields.
fn in_options(text: &str) -> String {
    let is_of_word = |char: char| char.is_ascii_alphanumeric() || char == '_';
    let mut told = String::new();
    let mut word = String::new();
    for char in text.chars().map(Some).chain([None]) {
        if let Some(char) = char.filter(|char| is_of_word(*char)) {
            word.push(char);
            continue;
        }
        told += OPTIONS.iter().find(|(field, _)| *field == word).map_or(word.as_str(), |(_, option)| option);
        word.clear();
        told.extend(char);
    }
    told
}

/// The reason without ureq's word before it.
fn reason(error: &ureq::Error) -> String {
    match error {
        ureq::Error::Io(error) => error.to_string(),
        other => other.to_string(),
    }
}

impl ClientError {
    /// Sorts ureq's errors by what can be done about them.
    pub(super) fn from_transport(url: &str, source: ureq::Error) -> Self {
        let url = url.to_owned();
        if let Some((why, hint)) = tls::refused(&source) {
            return Self::Untrusted { url, why, hint };
        }
        match &source {
            ureq::Error::Io(error) if error.kind() != io::ErrorKind::ConnectionRefused => {
                Self::Broken { url, source }
            }
            ureq::Error::Io(_)
            | ureq::Error::HostNotFound
            | ureq::Error::ConnectionFailed
            | ureq::Error::Timeout(ureq::Timeout::Connect | ureq::Timeout::Resolve) => {
                Self::Unreachable { url, source }
            }
            // ureq's error is non-exhaustive; what remains broke on the way.
            _ => Self::Broken { url, source },
        }
    }

    /// Whether the server answered that there is no such thing.
    pub(crate) fn is_not_found(&self) -> bool {
        self.kind() == Some("not-found")
    }

    /// Whether the server answered that there is such a thing already.
    pub(crate) fn is_taken(&self) -> bool {
        self.kind() == Some("exists")
    }

    /// The kind of the server's problem.
    fn kind(&self) -> Option<&str> {
        match self {
            Self::Refused { problem } => problem.kind(),
            Self::Unreachable { .. }
            | Self::Broken { .. }
            | Self::Untrusted { .. }
            | Self::NotPitstop { .. } => None,
        }
    }

    /// Whether the same request may go well in a moment: the connection broke, or the server is busy, perhaps with this very
    /// request.
    pub(super) fn may_go_well_later(&self) -> bool {
        match self {
            Self::Broken { .. } => true,
            Self::Refused { problem } => {
                matches!(problem.kind(), Some("idempotency-in-flight" | "busy" | "unavailable"))
            }
            Self::Unreachable { .. } | Self::Untrusted { .. } | Self::NotPitstop { .. } => false,
        }
    }

    /// Whether the server refused, and said why.
    pub(crate) fn is_refused(&self) -> bool {
        matches!(self, Self::Refused { .. })
    }

    /// The next step.
    fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Unreachable { .. } => {
                Some("start it with `pitstop serve`, or name a running one with --url or PITSTOP_URL")
            }
            Self::Broken { .. } => Some("look at what `pitstop serve` prints, then try again"),
            Self::Untrusted { hint, .. } => Some(hint),
            Self::Refused { problem } => hint(problem),
            Self::NotPitstop { .. } => {
                Some("is it the admin listener, and of this version? `pitstop serve` prints its address")
            }
        }
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let failure = Failure::new(error.to_string()).maybe_hint(error.hint().map(str::to_owned));
        match &error {
            ClientError::Refused { problem } => failure.of_server(&problem.r#type, &problem.title),
            ClientError::Unreachable { .. }
            | ClientError::Broken { .. }
            | ClientError::Untrusted { .. }
            | ClientError::NotPitstop { .. } => failure,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_the_api_are_told_as_options() {
        assert_eq!(
            in_options(
                "publish it as a new one with same_image, or \u{201c}sames_image\u{201d}; the manifest's revert_to"
            ),
            "publish it as a new one with --same-image, or \u{201c}sames_image\u{201d}; the manifest's --revert-to"
        );
        assert_eq!(in_options("expected 1, found 2"), "expected 1, found 2");
    }
}
