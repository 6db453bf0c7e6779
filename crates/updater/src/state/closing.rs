//! The end of a pit stop: a few steps that are written down when it is known how it ends, and then done.

use alloc::boxed::Box;
use alloc::vec::Vec;

use wire::{Outcome, PROTOCOL_VERSION, Reason, Report};

use super::State;
use super::session::{Link, Session};
use crate::action::Action;
use crate::event::Failure;
use crate::limits;
use crate::policy::{self, FailureClass};

/// The end of a pit stop, of which steps are left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closing {
    session: Session,
    /// Why it ends; `None` when there was nothing to do.
    reason: Option<Reason>,
    /// What is left to do, the next one last.
    left: Vec<Action>,
}

/// Ends a pit stop on a failure, with the release that it is about where that can be trusted.
pub(crate) fn refuse(
    mut session: Session,
    sequence: Option<u64>,
    failure: impl Into<Failure>,
) -> (State, Action) {
    let Failure { reason, retry_after_s } = failure.into();
    session.put_off_s = retry_after_s;
    let outcome = Some(Outcome { sequence, reason: reason.code() });
    Closing::begin(session, Some(reason), outcome)
}

/// Ends a pit stop on a failure that is no release's.
pub(crate) fn close(session: Session, failure: impl Into<Failure>) -> (State, Action) {
    refuse(session, None, failure)
}

impl Closing {
    /// Plans the last steps and begins them.
    pub(crate) fn begin(
        session: Session,
        reason: Option<Reason>,
        outcome: Option<Outcome>,
    ) -> (State, Action) {
        let mut left: Vec<Action> = [
            count(reason),
            note(&session, reason, outcome),
            raise_floor(&session),
            report(&session, outcome),
            clear_crashes(&session),
        ]
        .into_iter()
        .flatten()
        .collect();
        left.reverse();
        Box::new(Self { session, reason, left }).next()
    }

    pub(crate) fn session(&self) -> &Session {
        &self.session
    }

    /// Goes on with the next step, or ends.
    pub(crate) fn next(mut self: Box<Self>) -> (State, Action) {
        match self.left.pop() {
            Some(action) => (State::Closing(self), action),
            None => {
                let Self { mut session, reason, .. } = *self;
                session.start.retained.crashes = 0;
                session.finish(reason)
            }
        }
    }
}

/// The journal: a critical error.
fn count(reason: Option<Reason>) -> Option<Action> {
    let reason = reason.filter(|reason| policy::failure_class(*reason) == FailureClass::Device)?;
    Some(Action::CountCritical { reason })
}

/// The journal: crashes that it has counted are over. Last, for it says that the end was come to.
fn clear_crashes(session: &Session) -> Option<Action> {
    let over = session.survey.journal.crashes > 0 && session.start.ends_crashes();
    over.then_some(Action::ClearCrashes)
}

/// The vault: a refusal that it does not hold yet.
fn note(session: &Session, reason: Option<Reason>, outcome: Option<Outcome>) -> Option<Action> {
    let known = session.survey.vault.as_ref().ok()?.last_outcome;
    let refused = reason.is_some_and(|reason| policy::failure_class(reason) == FailureClass::Release);
    outcome.filter(|outcome| refused && known != Some(*outcome)).map(|outcome| Action::SaveNote { outcome })
}

fn raise_floor(session: &Session) -> Option<Action> {
    let stored_s = session.survey.vault.as_ref().ok()?.time_floor_s;
    match session.link {
        Link::Authenticated { server_time_s, .. }
            if session.vault_is_writable() && policy::time_floor_due(stored_s, server_time_s) =>
        {
            Some(Action::SaveTimeFloor { time_floor_s: server_time_s })
        }
        Link::Silent | Link::Authenticated { .. } => None,
    }
}

fn report(session: &Session, outcome: Option<Outcome>) -> Option<Action> {
    match session.link {
        // A server that asks for patience is not asked to listen.
        Link::Authenticated { .. } if session.put_off_s.is_none() => {
            let running = session.boot_slot().and_then(|slot| session.survey.running(slot));
            let report = Report {
                protocol: PROTOCOL_VERSION,
                outcome: outcome?,
                running_digest: running.map(|running| running.digest),
                downloaded_bytes: Some(session.downloaded_bytes),
                erased_bytes: Some(session.erased_bytes),
            };
            Some(Action::Report { report, timeout_ms: limits::REPORT_MS })
        }
        Link::Silent | Link::Authenticated { .. } => None,
    }
}
