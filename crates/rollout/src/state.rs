//! The states of a rollout, and what an operator may do in each.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Where a rollout is.
///
/// ```text
///            start           the newest wave has soaked and has its evidence, or an operator approves
///   Draft ─────────► Running ◄──┐ (opens the next wave)
///                    │ ▲ │ └────┘
///   the next wave    │ │ │ the last wave opens
///   is manual        │ │ └────────────────► Open ── the devices have it ──► Completed
///                    ▼ │ approve
///           AwaitingApproval
///
///   Running, AwaitingApproval, Open ── pause ──► Paused ── resume ──► Running, Open
///   Running, AwaitingApproval, Open, Completed ── a limit is exceeded ──► Halted ── resume ──► Running, Open
///   Running, AwaitingApproval, Open, Paused ── a newer rollout of the channel starts ──► Superseded
///   every state but Aborted ── abort ──► Aborted
/// ```
///
/// A rollout of a single wave is open from its start on. A completed rollout stays in force: new devices get its release,
/// and its limits still hold. A superseded one is in force for devices that have nothing to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "openapi", schema(as = RolloutState))]
pub enum State {
    /// Made, and not started.
    Draft,
    /// Its release is offered to the waves that are open, and more are to come.
    Running,
    /// As running; the next wave waits for an operator.
    AwaitingApproval,
    /// All waves are open; not all devices have the release yet.
    Open,
    /// An operator stopped it for a while: nothing is offered.
    Paused,
    /// It stopped itself: nothing is offered.
    Halted,
    /// An operator stopped it for good: devices go back where that is allowed.
    Aborted,
    /// The devices have the release.
    Completed,
    /// A newer rollout of its channel took its place: no further wave opens.
    Superseded,
}

/// What an operator may do with a rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "their names say it")]
pub enum Action {
    Start,
    Pause,
    Resume,
    Abort,
    Approve,
}

/// An action that does not fit the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{action} needs a rollout that is {}, found one that is {found}", expected(*action))]
pub struct ActionError {
    /// What was asked for.
    pub action: Action,
    /// The state of the rollout.
    pub found: State,
}

impl State {
    /// Every state.
    pub const ALL: [Self; 9] = [
        Self::Draft,
        Self::Running,
        Self::AwaitingApproval,
        Self::Open,
        Self::Paused,
        Self::Halted,
        Self::Aborted,
        Self::Completed,
        Self::Superseded,
    ];

    /// The state after an operator's action; [`State::Running`] stands for [`crate::Plan::under_way`]. [`Action::Approve`]
    /// opens the next wave as well, whatever evidence there is, and [`Action::Resume`] begins the soak anew and makes a
    /// halt forget what led to it.
    ///
    /// # Errors
    /// [`ActionError`] when the action does not fit the state.
    pub fn apply(self, action: Action) -> Result<Self, ActionError> {
        match (action, self) {
            (Action::Start, Self::Draft)
            | (Action::Resume, Self::Paused | Self::Halted)
            | (Action::Approve, Self::Running | Self::AwaitingApproval) => Ok(Self::Running),
            (Action::Pause, Self::Running | Self::AwaitingApproval | Self::Open) => Ok(Self::Paused),
            (
                Action::Abort,
                Self::Draft
                | Self::Running
                | Self::AwaitingApproval
                | Self::Open
                | Self::Paused
                | Self::Halted
                | Self::Completed
                | Self::Superseded,
            ) => Ok(Self::Aborted),
            (
                Action::Start | Action::Pause | Action::Resume | Action::Abort | Action::Approve,
                Self::Draft
                | Self::Running
                | Self::AwaitingApproval
                | Self::Open
                | Self::Paused
                | Self::Halted
                | Self::Aborted
                | Self::Completed
                | Self::Superseded,
            ) => Err(ActionError { action, found: self }),
        }
    }

    /// Whether the release is offered to a device; `runs_something`: it has an application that it can start.
    #[must_use]
    pub fn offers(self, runs_something: bool) -> bool {
        match self {
            Self::Running | Self::AwaitingApproval | Self::Open | Self::Completed => true,
            Self::Superseded => !runs_something,
            Self::Draft | Self::Paused | Self::Halted | Self::Aborted => false,
        }
    }

    /// Whether nothing is left to do: the devices have the release, or it is over.
    #[must_use]
    pub fn is_finished(self) -> bool {
        match self {
            Self::Completed | Self::Aborted | Self::Superseded => true,
            Self::Draft
            | Self::Running
            | Self::AwaitingApproval
            | Self::Open
            | Self::Paused
            | Self::Halted => false,
        }
    }

    /// Whether it was stopped before the devices had the release: by an operator, or by its limits.
    #[must_use]
    pub fn is_stopped(self) -> bool {
        match self {
            Self::Aborted | Self::Halted => true,
            Self::Draft
            | Self::Running
            | Self::AwaitingApproval
            | Self::Open
            | Self::Paused
            | Self::Completed
            | Self::Superseded => false,
        }
    }

    /// The word in the database and in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Draft => "draft",
            Self::Running => "running",
            Self::AwaitingApproval => "awaiting-approval",
            Self::Open => "open",
            Self::Paused => "paused",
            Self::Halted => "halted",
            Self::Aborted => "aborted",
            Self::Completed => "completed",
            Self::Superseded => "superseded",
        }
    }
}

impl Action {
    /// The word in paths and in the audit log.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Abort => "abort",
            Self::Approve => "approve",
        }
    }
}

fn expected(action: Action) -> &'static str {
    match action {
        Action::Start => "draft",
        Action::Pause => "running, awaiting-approval or open",
        Action::Resume => "paused or halted",
        Action::Abort => "not aborted",
        Action::Approve => "running or awaiting-approval",
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for State {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|state| state.name() == text).ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            format!("expected a state of a rollout ({names}), found {text:?}")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_operator_may_do() {
        let actions = [Action::Start, Action::Pause, Action::Resume, Action::Abort, Action::Approve];
        let allowed = |state: State| {
            let allowed = actions
                .into_iter()
                .filter_map(|action| state.apply(action).ok().map(|after| format!("{action} -> {after}")));
            allowed.collect::<Vec<_>>().join(", ")
        };
        for (state, expected) in [
            (State::Draft, "start -> running, abort -> aborted"),
            (State::Running, "pause -> paused, abort -> aborted, approve -> running"),
            (State::AwaitingApproval, "pause -> paused, abort -> aborted, approve -> running"),
            (State::Open, "pause -> paused, abort -> aborted"),
            (State::Paused, "resume -> running, abort -> aborted"),
            (State::Halted, "resume -> running, abort -> aborted"),
            (State::Aborted, ""),
            (State::Completed, "abort -> aborted"),
            (State::Superseded, "abort -> aborted"),
        ] {
            assert_eq!(allowed(state), expected, "{state}");
        }
        assert_eq!(
            State::Paused.apply(Action::Pause).unwrap_err().to_string(),
            "pause needs a rollout that is running, awaiting-approval or open, found one that is paused"
        );
    }

    #[test]
    fn names_are_those_of_json() {
        for state in State::ALL {
            assert_eq!(serde_json::to_value(state).unwrap(), state.name());
            assert_eq!(state.name().parse(), Ok(state));
        }
        assert!("done".parse::<State>().unwrap_err().contains("draft, running"));
    }
}
