//! How one device does with the release of a rollout.

use std::str::FromStr;

use serde::{Deserialize, Serialize};
use wire::ResetCause;

/// How a device does with the release that it was offered.
///
/// ```text
///   Offered ── report, or it runs at a check-in ──► Installed ── it runs at a later start ──► Healthy
///
///   Offered, Installed, Healthy, Silent ── an outcome that is a failure ──► Failed
///   Installed ── something else runs ──► Failed
///   Failed ── report, or it runs ──► Installed
///   all that run it ── the last run ended in a crash ──► Crashed (Healthy: unless the rollout is finished)
///   Crashed ── it runs, no crash, and the rollout is finished ──► Healthy
///   Offered, Installed ── the deadline passed ──► Silent
///   Silent ── it runs ──► Healthy, something else runs ──► Offered, report ──► Installed
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
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
    /// It was not seen in time.
    Silent,
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
        /// Whether its last run ended in a crash ([`is_crash`]).
        crashed: bool,
        /// Whether this is a later start than the one in which it was first known to be installed.
        new_start: bool,
    },
    /// Its deadline passed.
    Deadline,
}

impl Attempt {
    /// Every state.
    pub const ALL: [Self; 6] =
        [Self::Offered, Self::Installed, Self::Healthy, Self::Failed, Self::Crashed, Self::Silent];

    /// The state after a sign; `is_finished` is that of the rollout ([`crate::State::is_finished`]).
    #[must_use]
    pub fn observe(self, sign: Sign, is_finished: bool) -> Self {
        match sign {
            Sign::Installed => match self {
                Self::Offered | Self::Installed | Self::Failed | Self::Silent => Self::Installed,
                Self::Healthy | Self::Crashed => self,
            },
            Sign::Failed => match self {
                Self::Offered | Self::Installed | Self::Healthy | Self::Failed | Self::Silent => Self::Failed,
                Self::Crashed => self,
            },
            Sign::Deadline => match self {
                Self::Offered | Self::Installed => Self::Silent,
                Self::Healthy | Self::Failed | Self::Crashed | Self::Silent => self,
            },
            Sign::Seen { runs_it: false, .. } => match self {
                Self::Offered | Self::Silent => Self::Offered,
                Self::Installed => Self::Failed,
                Self::Healthy | Self::Failed | Self::Crashed => self,
            },
            Sign::Seen { runs_it: true, crashed: true, .. } => match self {
                Self::Healthy if is_finished => self,
                Self::Offered
                | Self::Installed
                | Self::Healthy
                | Self::Failed
                | Self::Crashed
                | Self::Silent => Self::Crashed,
            },
            Sign::Seen { runs_it: true, crashed: false, new_start } => match self {
                Self::Offered | Self::Failed => Self::Installed,
                Self::Installed if !new_start => self,
                Self::Crashed if !is_finished => self,
                Self::Installed | Self::Healthy | Self::Crashed | Self::Silent => Self::Healthy,
            },
        }
    }

    /// Whether the server waits for the device: until its deadline it is not silent.
    #[must_use]
    pub fn is_pending(self) -> bool {
        match self {
            Self::Offered | Self::Installed => true,
            Self::Healthy | Self::Failed | Self::Crashed | Self::Silent => false,
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
        }
    }
}

/// Whether a reset cause counts as a crash of the application. A brownout does: an application that draws more
/// current than the supply gives is as bad as one that panics.
#[must_use]
pub fn is_crash(cause: ResetCause) -> bool {
    match cause {
        ResetCause::Panic | ResetCause::Watchdog | ResetCause::Brownout => true,
        ResetCause::Unknown
        | ResetCause::PowerOn
        | ResetCause::Software
        | ResetCause::DeepSleep
        | ResetCause::External => false,
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

    const fn seen(runs_it: bool, crashed: bool, new_start: bool) -> Sign {
        Sign::Seen { runs_it, crashed, new_start }
    }

    #[test]
    fn every_sign_in_every_state() {
        let signs = [
            ("report", Sign::Installed, false),
            ("failure", Sign::Failed, false),
            ("runs it", seen(true, false, false), false),
            ("runs it at a new start", seen(true, false, true), false),
            ("crashed", seen(true, true, true), false),
            ("crashed, finished", seen(true, true, true), true),
            ("good, finished", seen(true, false, true), true),
            ("runs another", seen(false, false, true), false),
            ("another crashed", seen(false, true, true), false),
            ("deadline", Sign::Deadline, false),
        ];
        let table: Vec<_> = signs
            .iter()
            .map(|(name, sign, is_finished)| {
                let after = Attempt::ALL.map(|attempt| attempt.observe(*sign, *is_finished).name());
                format!("{name:22} | {}", after.map(|name| format!("{name:9}")).join(" "))
            })
            .collect();
        // Columns: offered, installed, healthy, failed, crashed, silent.
        let expected = [
            "report                 | installed installed healthy   installed crashed   installed",
            "failure                | failed    failed    failed    failed    crashed   failed   ",
            "runs it                | installed installed healthy   installed crashed   healthy  ",
            "runs it at a new start | installed healthy   healthy   installed crashed   healthy  ",
            "crashed                | crashed   crashed   crashed   crashed   crashed   crashed  ",
            "crashed, finished      | crashed   crashed   healthy   crashed   crashed   crashed  ",
            "good, finished         | installed healthy   healthy   installed healthy   healthy  ",
            "runs another           | offered   failed    healthy   failed    crashed   offered  ",
            "another crashed        | offered   failed    healthy   failed    crashed   offered  ",
            "deadline               | silent    silent    healthy   failed    crashed   silent   ",
        ];
        assert_eq!(table, expected);
    }

    #[test]
    fn what_the_application_did_not_ask_for_is_a_crash() {
        let crashes: Vec<_> = (0..=8).map(ResetCause::from_code).filter(|cause| is_crash(*cause)).collect();
        assert_eq!(crashes, [ResetCause::Panic, ResetCause::Watchdog, ResetCause::Brownout]);
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
