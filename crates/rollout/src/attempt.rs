//! How one device does with the release of a rollout.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// How a device does with the release that it was offered.
///
/// ```text
///   Offered ── report, or it runs at a check-in ──► Installed ── it runs at a later start ──► Healthy
///
///   Offered, Installed, Healthy, Silent, Unheard ── an outcome that is a failure ──► Failed
///   Installed ── something else runs ──► Failed
///   Failed ── report, or it runs ──► Installed
///   all that run it ── the last run ended in a crash ──► Crashed (Healthy: unless the rollout is finished)
///   Crashed ── it runs, no crash, and the rollout is finished ──► Healthy
///   Offered, Installed ── the deadline passed ──► Silent (a device that is usually heard), Unheard (any other)
///   Silent, Unheard ── it runs ──► Healthy, something else runs ──► Offered, report ──► Installed
///
///   After a run that shows nothing: Offered, Failed, Silent, Unheard ── it is in the slot ──► Installed.
/// ```
///
/// A run shows nothing when it was the updater's, or too short ([`crate::Runs`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(
    feature = "openapi",
    schema(description = "How a device does with the release that it was offered.")
)]
pub enum Attempt {
    /// It was offered the release.
    Offered,
    /// It installed the release.
    Installed,
    /// It was seen at a later start, running the release.
    Healthy,
    /// It refused the release, failed to install it, or runs another one although it had installed this.
    Failed,
    /// It was seen after the application crashed.
    Crashed,
    /// It was not seen in time, by its own cadence ([`crate::Cadence`]).
    Silent,
    /// It was not seen in time, and nobody knows how often it is seen: no failure, and no evidence.
    Unheard,
}

/// What the run of the application before a check-in shows ([`crate::Runs`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LastRun {
    /// It did not end in a crash.
    Ended,
    /// It ended in a crash, or as one of too many short ones.
    Crashed,
    /// Nothing: there was none, because the updater crashed before it handed over, or it was a short one. The device is
    /// alive, and no more is known.
    None,
}

/// What the server learns about a device that was offered a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// It reports that it installed the release.
    Installed,
    /// It tells of a failure of the release ([`crate::is_failure`]).
    Failed,
    /// It checks in.
    Seen {
        /// Whether it runs the release.
        runs_it: bool,
        /// How the run before this start ended.
        last_run: LastRun,
        /// Whether this is a later start than the one in which it was first known to be installed.
        new_start: bool,
    },
    /// It was not heard for longer than it is usually not heard.
    Silence,
    /// It was not heard for the product's deadline, and how often it is usually heard is not known.
    NotHeard,
}

impl Attempt {
    /// Every state.
    pub const ALL: [Self; 7] = [
        Self::Offered,
        Self::Installed,
        Self::Healthy,
        Self::Failed,
        Self::Crashed,
        Self::Silent,
        Self::Unheard,
    ];

    /// The state after a sign; `is_finished` is that of the rollout ([`crate::State::is_finished`]).
    #[must_use]
    pub fn observe(self, sign: Sign, is_finished: bool) -> Self {
        match sign {
            Sign::Installed => match self {
                Self::Offered | Self::Installed | Self::Failed | Self::Silent | Self::Unheard => {
                    Self::Installed
                }
                Self::Healthy | Self::Crashed => self,
            },
            Sign::Failed => match self {
                Self::Offered
                | Self::Installed
                | Self::Healthy
                | Self::Failed
                | Self::Silent
                | Self::Unheard => Self::Failed,
                Self::Crashed => self,
            },
            Sign::Silence => match self {
                Self::Offered | Self::Installed | Self::Unheard => Self::Silent,
                Self::Healthy | Self::Failed | Self::Crashed | Self::Silent => self,
            },
            Sign::NotHeard => match self {
                Self::Offered | Self::Installed => Self::Unheard,
                Self::Healthy | Self::Failed | Self::Crashed | Self::Silent | Self::Unheard => self,
            },
            Sign::Seen { runs_it: false, .. } => match self {
                Self::Offered | Self::Silent | Self::Unheard => Self::Offered,
                Self::Installed => Self::Failed,
                Self::Healthy | Self::Failed | Self::Crashed => self,
            },
            Sign::Seen { runs_it: true, last_run: LastRun::Crashed, .. } => match self {
                Self::Healthy if is_finished => self,
                Self::Offered
                | Self::Installed
                | Self::Healthy
                | Self::Failed
                | Self::Crashed
                | Self::Silent
                | Self::Unheard => Self::Crashed,
            },
            Sign::Seen { runs_it: true, last_run: LastRun::None, .. } => match self {
                Self::Offered | Self::Installed | Self::Failed | Self::Silent | Self::Unheard => {
                    Self::Installed
                }
                Self::Healthy | Self::Crashed => self,
            },
            Sign::Seen { runs_it: true, last_run: LastRun::Ended, new_start } => match self {
                Self::Offered | Self::Failed => Self::Installed,
                Self::Installed if !new_start => self,
                Self::Crashed if !is_finished => self,
                Self::Installed | Self::Healthy | Self::Crashed | Self::Silent | Self::Unheard => {
                    Self::Healthy
                }
            },
        }
    }

    /// The state after a sign in a later epoch of the rollout than the one in which the device was counted last, when the
    /// later one counts it; `None`: the device stays where it was counted.
    ///
    /// An epoch begins with a resume after a halt: what led to the halt counts no more, and everything that happens from
    /// then on does, with the same devices too. So a crash is told again, a good run after a crash is a good run, and
    /// being seen with what failed before is nothing new.
    #[must_use]
    pub fn observe_anew(self, sign: Sign, is_finished: bool) -> Option<Self> {
        let before = match (self, sign) {
            (Self::Crashed, Sign::Seen { runs_it: true, .. } | Sign::Failed) => Self::Installed,
            _ => self,
        };
        let after = before.observe(sign, is_finished);
        let is_told_again = match after {
            Self::Healthy => matches!(sign, Sign::Seen { runs_it: true, last_run: LastRun::Ended, .. }),
            Self::Crashed => matches!(sign, Sign::Seen { runs_it: true, last_run: LastRun::Crashed, .. }),
            Self::Failed => sign == Sign::Failed,
            Self::Offered | Self::Installed | Self::Silent | Self::Unheard => false,
        };
        (after != self || is_told_again).then_some(after)
    }

    /// Whether the server waits for the device: until its deadline it is not silent.
    #[must_use]
    pub fn is_pending(self) -> bool {
        match self {
            Self::Offered | Self::Installed => true,
            Self::Healthy | Self::Failed | Self::Crashed | Self::Silent | Self::Unheard => false,
        }
    }

    /// The word in the database and in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Offered => "offered",
            Self::Installed => "installed",
            Self::Healthy => "healthy",
            Self::Failed => "failed",
            Self::Crashed => "crashed",
            Self::Silent => "silent",
            Self::Unheard => "unheard",
        }
    }
}

impl FromStr for Attempt {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|attempt| attempt.name() == text).ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            format!("expected a state of an attempt ({names}), found {text:?}")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seen(runs_it: bool, last_run: LastRun, new_start: bool) -> Sign {
        Sign::Seen { runs_it, last_run, new_start }
    }

    #[test]
    fn every_sign_in_every_state() {
        let signs = [
            ("report", Sign::Installed, false),
            ("failure", Sign::Failed, false),
            ("runs it", seen(true, LastRun::Ended, false), false),
            ("runs it at a new start", seen(true, LastRun::Ended, true), false),
            ("crashed", seen(true, LastRun::Crashed, true), false),
            ("crashed, finished", seen(true, LastRun::Crashed, true), true),
            ("updater crashed", seen(true, LastRun::None, true), false),
            ("the same, finished", seen(true, LastRun::None, true), true),
            ("good, finished", seen(true, LastRun::Ended, true), true),
            ("runs another", seen(false, LastRun::Ended, true), false),
            ("another crashed", seen(false, LastRun::Crashed, true), false),
            ("not heard for long", Sign::Silence, false),
            ("not heard", Sign::NotHeard, false),
        ];
        let table: Vec<_> = signs
            .iter()
            .map(|(name, sign, is_finished)| {
                let after = Attempt::ALL.map(|attempt| attempt.observe(*sign, *is_finished).name());
                format!("{name:22} | {}", after.map(|name| format!("{name:9}")).join(" "))
            })
            .collect();
        // Columns: offered, installed, healthy, failed, crashed, silent, unheard.
        let expected = [
            "report                 | installed installed healthy   installed crashed   installed installed",
            "failure                | failed    failed    failed    failed    crashed   failed    failed   ",
            "runs it                | installed installed healthy   installed crashed   healthy   healthy  ",
            "runs it at a new start | installed healthy   healthy   installed crashed   healthy   healthy  ",
            "crashed                | crashed   crashed   crashed   crashed   crashed   crashed   crashed  ",
            "crashed, finished      | crashed   crashed   healthy   crashed   crashed   crashed   crashed  ",
            "updater crashed        | installed installed healthy   installed crashed   installed installed",
            "the same, finished     | installed installed healthy   installed crashed   installed installed",
            "good, finished         | installed healthy   healthy   installed healthy   healthy   healthy  ",
            "runs another           | offered   failed    healthy   failed    crashed   offered   offered  ",
            "another crashed        | offered   failed    healthy   failed    crashed   offered   offered  ",
            "not heard for long     | silent    silent    healthy   failed    crashed   silent    silent   ",
            "not heard              | unheard   unheard   healthy   failed    crashed   silent    unheard  ",
        ];
        assert_eq!(table, expected);
    }

    #[test]
    fn a_later_epoch_counts_what_happens_in_it() {
        let again = |sign: Sign| Attempt::ALL.map(|attempt| attempt.observe_anew(sign, false));
        // Columns: offered, installed, healthy, failed, crashed, silent, unheard.
        use Attempt::{Crashed, Failed, Healthy, Installed, Offered};
        let healthy = Some(Healthy);
        let installed = Some(Installed);
        assert_eq!(
            again(seen(true, LastRun::Ended, true)),
            [installed, healthy, healthy, installed, healthy, healthy, healthy],
            "a good run after a crash is a good run"
        );
        assert_eq!(again(seen(true, LastRun::Crashed, true)), [Some(Crashed); 7]);
        assert_eq!(
            again(seen(false, LastRun::Ended, true)),
            [None, Some(Failed), None, None, None, Some(Offered), Some(Offered)],
            "being seen with what failed before is nothing new"
        );
        assert_eq!(again(Sign::Failed), [Some(Failed); 7]);
    }

    #[test]
    fn names_are_those_of_json() {
        for attempt in Attempt::ALL {
            assert_eq!(serde_json::to_value(attempt).unwrap(), attempt.name());
            assert_eq!(attempt.name().parse(), Ok(attempt));
        }
        assert!("lost".parse::<Attempt>().is_err());
    }
}
