//! Which slot can be started: verified one after the other, until one is as it should be.

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::session::Session;
use super::{State, chosen};
use crate::action::Action;
use crate::facts::{ImageFacts, SlotContent};
use crate::limits;
use crate::retained::{Phase, Retained};
use crate::slot::SlotIndex;

/// The choice under way. Verifying takes about a second a MiB, so that a slot is verified only when it is its turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    session: Box<Session>,
    /// The slot that is being verified.
    slot: SlotIndex,
    attempt: Attempt,
    /// Slots to look at after it, the next one last.
    left: Vec<SlotIndex>,
}

/// A read that fails may be right the next time, and this may be the only application.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Attempt {
    First,
    Second,
}

impl Choice {
    /// Begins with the slot that the record names, or without a record with the one that was handed over to last.
    pub(crate) fn begin(session: Box<Session>, now_ms: u64) -> (State, Action) {
        let survey = &session.survey;
        let first = survey.record().map_or(session.start.retained.slot, |record| record.slot);
        let worth_it = |slot: &SlotIndex| {
            let content = survey.slot(*slot).map(|facts| &facts.content);
            content == Some(&SlotContent::Headers) && Some(*slot) != session.suspect
        };
        let others = survey.indices().filter(|slot| *slot != first);
        let mut left: Vec<_> = [first].into_iter().chain(others).filter(worth_it).collect();
        left.reverse();
        Self::look_at_next(session, left, now_ms)
    }

    /// What the register says meanwhile. A third crash in a row is taken for the slot's, where another one could be started
    /// instead: it is left out at the start after it.
    pub(crate) fn retained(&self) -> Retained {
        let retained = self.session.start.retained;
        if self.left.is_empty() || retained.crashes + 1 < limits::CRASHES {
            return retained;
        }
        Retained { phase: Phase::HandingOver, slot: self.slot, ..retained }
    }

    fn look_at_next(session: Box<Session>, mut left: Vec<SlotIndex>, now_ms: u64) -> (State, Action) {
        match left.pop() {
            Some(slot) => Self { session, slot, attempt: Attempt::First, left }.look(),
            None => chosen(session, now_ms),
        }
    }

    fn look(self) -> (State, Action) {
        let slot = self.slot;
        (State::Choosing(Box::new(self)), Action::VerifySlot { slot })
    }

    /// A slot that holds something else than the record says is only taken when no other is as recorded.
    pub(crate) fn verified(self, image: ImageFacts, now_ms: u64) -> (State, Action) {
        let Self { mut session, slot, left, .. } = self;
        session.survey.set_content(slot, SlotContent::Verified(image));
        let as_recorded = session.survey.record().is_none_or(|record| session.holds(slot, record));
        Self::look_at_next(session, if as_recorded { Vec::new() } else { left }, now_ms)
    }

    pub(crate) fn not_verified(mut self, now_ms: u64) -> (State, Action) {
        match self.attempt {
            Attempt::First => {
                self.attempt = Attempt::Second;
                self.look()
            }
            Attempt::Second => {
                self.session.survey.set_content(self.slot, SlotContent::Unbootable);
                Self::look_at_next(self.session, self.left, now_ms)
            }
        }
    }
}
