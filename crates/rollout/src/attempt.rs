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
///
///   After a crash of the updater: Offered, Failed, Silent ── it is in the slot ──► Installed, and nothing is judged.
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

/// How the run of the application before a check-in ended, as far as its reset cause tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LastRun {
    /// Not by a crash.
    Ended,
    /// By a crash.
    Crashed,
    /// There was none: the updater crashed before it handed over. The device is alive, and no more is known.
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
            Sign::Seen { runs_it: true, last_run: LastRun::Crashed, .. } => match self {
                Self::Healthy if is_finished => self,
                Self::Offered
                | Self::Installed
                | Self::Healthy
                | Self::Failed
                | Self::Crashed
                | Self::Silent => Self::Crashed,
            },
            Sign::Seen { runs_it: true, last_run: LastRun::None, .. } => match self {
                Self::Offered | Self::Installed | Self::Failed | Self::Silent => Self::Installed,
                Self::Healthy | Self::Crashed => self,
            },
            Sign::Seen { runs_it: true, last_run: LastRun::Ended, new_start } => match self {
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

impl LastRun {
    /// What a reset cause tells. A brownout counts as a crash: an application that draws more current than the supply
    /// gives is as bad as one that panics.
    #[must_use]
    pub fn of(cause: ResetCause) -> Self {
        match cause {
            ResetCause::Panic | ResetCause::Watchdog | ResetCause::Brownout => Self::Crashed,
            ResetCause::UpdaterCrash => Self::None,
            ResetCause::Unknown
            | ResetCause::PowerOn
            | ResetCause::Software
            | ResetCause::DeepSleep
            | ResetCause::External => Self::Ended,
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
            "updater crashed        | installed installed healthy   installed crashed   installed",
            "the same, finished     | installed installed healthy   installed crashed   installed",
            "good, finished         | installed healthy   healthy   installed healthy   healthy  ",
            "runs another           | offered   failed    healthy   failed    crashed   offered  ",
            "another crashed        | offered   failed    healthy   failed    crashed   offered  ",
            "deadline               | silent    silent    healthy   failed    crashed   silent   ",
        ];
        assert_eq!(table, expected);
    }

    #[test]
    fn what_the_application_did_not_ask_for_is_a_crash() {
        let causes = |of| -> Vec<_> {
            (0..=9).map(ResetCause::from_code).filter(|cause| LastRun::of(*cause) == of).collect()
        };
        assert_eq!(causes(LastRun::Crashed), [ResetCause::Panic, ResetCause::Watchdog, ResetCause::Brownout]);
        assert_eq!(
            causes(LastRun::None),
            [ResetCause::UpdaterCrash],
            "it is the updater's, and shows no run"
        );
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
