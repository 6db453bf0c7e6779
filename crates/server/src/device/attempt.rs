//! What a request of a device says about the release that a rollout offered it.

use manifest::Sequence;
use rollout::{Attempt, Failure, LastRun, Sign, State, is_failure};

use crate::plans::ProductPlan;
use crate::store::{AttemptRow, AttemptWrite, Counted, FailureWrite, Known, Move, SeenOutcome, stored};

/// A check-in in the same start as the one before comes at once, when an answer was lost. One after so long is of
/// another start, even when the count of starts is the same because power was cut in between: the updater gives the
/// network 20 s.
pub(super) const SAME_START_MS: i64 = 60_000;

/// How a device does, as one request changes it.
#[derive(Debug)]
pub(super) struct Tracker<'a> {
    known: &'a Known,
    now_ms: i64,
    from: Option<AttemptRow>,
    attempt: Option<AttemptRow>,
    moves: Vec<Move>,
    failed_before: Option<Failure>,
    failure: Option<Failure>,
}

impl<'a> Tracker<'a> {
    pub(super) fn new(known: &'a Known, now_ms: i64) -> Self {
        let (attempt, failure) = (known.attempt(), known.failure());
        Self {
            known,
            now_ms,
            from: attempt.clone(),
            attempt,
            moves: Vec::new(),
            failed_before: failure,
            failure,
        }
    }

    /// The release that failed here last, as of now.
    pub(super) fn failure(&self) -> Option<Failure> {
        self.failure
    }

    /// Whether an outcome is a failure that was counted already: the device tells it once more, because it did not get the
    /// answer, and was not offered the release again since.
    pub(super) fn is_repeated(&self, outcome: SeenOutcome) -> bool {
        let offered = self.attempt.as_ref().map(|attempt| attempt.sequence);
        let sequence = outcome.sequence.or(offered).and_then(|sequence| u64::try_from(sequence).ok());
        is_failure(outcome.code)
            && sequence.map(Sequence).zip(self.failure).is_some_and(|(sequence, failure)| {
                failure.is_repeated_by(sequence) && Some(outcome.code) == self.known.outcome_code
            })
    }

    /// An outcome that the server had not heard of.
    pub(super) fn outcome(&mut self, outcome: SeenOutcome, plan: &ProductPlan) {
        let offered = self.attempt.as_ref().map(|attempt| attempt.sequence);
        let is_installed = outcome.code == i64::from(wire::Reason::Installed.code());
        // A device that cannot trust a manifest does not name its release: it is the one that it was offered.
        let Some(sequence) = outcome.sequence.or(offered.filter(|_| is_failure(outcome.code))) else {
            return;
        };
        if is_installed {
            self.failure = None;
        } else if is_failure(outcome.code) {
            self.failed(sequence);
        }
        if offered == Some(sequence) {
            if is_installed {
                self.observe(Sign::Installed, None, plan);
            } else if is_failure(outcome.code) {
                self.observe(Sign::Failed, None, plan);
            }
        }
    }

    /// A check-in.
    pub(super) fn seen(
        &mut self,
        running: Option<&rollout::Running>,
        last_run: LastRun,
        starts: i64,
        plan: &ProductPlan,
    ) {
        let Some(attempt) = &self.attempt else { return };
        let runs_it = runs(attempt, running, plan);
        let rollout = plan.started(&attempt.rollout);
        if !runs_it && rollout.is_some_and(|rollout| rollout.state == State::Aborted) {
            // It was sent back, and that is no failure: the counters stay as they were at the abort.
            return;
        }
        let new_start = attempt.starts != Some(starts) || self.now_ms - attempt.at_ms > SAME_START_MS;
        let before = attempt.state;
        let sequence = attempt.sequence;
        self.observe(Sign::Seen { runs_it, last_run, new_start }, Some(starts), plan);
        let fell_back = before == Attempt::Installed
            && self.attempt.as_ref().is_some_and(|attempt| attempt.state == Attempt::Failed);
        if fell_back {
            self.failed(sequence);
        }
    }

    /// Whether it runs the release of its attempt.
    pub(super) fn runs_it(&self, running: Option<&rollout::Running>, plan: &ProductPlan) -> bool {
        self.attempt.as_ref().is_some_and(|attempt| runs(attempt, running, plan))
    }

    /// Somebody else heard the application: it runs well, or it does not.
    pub(super) fn heard(&mut self, running: Option<&rollout::Running>, is_failing: bool, plan: &ProductPlan) {
        let last_run = if is_failing { LastRun::Crashed } else { LastRun::Ended };
        if self.runs_it(running, plan) {
            let sign = Sign::Seen { runs_it: true, last_run, new_start: true };
            let starts = self.attempt.as_ref().and_then(|attempt| attempt.starts);
            self.observe(sign, starts, plan);
        }
    }

    /// The device is offered the release of a rollout.
    pub(super) fn offered(&mut self, rollout: &str, wave: usize, sequence: Sequence, plan: &ProductPlan) {
        let wave = i64::try_from(wave).unwrap_or(i64::MAX);
        let epoch = plan.started(rollout).map_or(0, |rollout| rollout.epoch);
        match &self.attempt {
            Some(attempt) if attempt.rollout == rollout => {
                // Offered again. What went wrong is told until it goes well, or until it is tried in a later epoch; a healthy
                // one runs something else by now. What is installed is offered so that the device learns its number.
                let is_anew = match attempt.state {
                    Attempt::Healthy => true,
                    Attempt::Installed => false,
                    Attempt::Offered
                    | Attempt::Failed
                    | Attempt::Crashed
                    | Attempt::Silent
                    | Attempt::Unheard => attempt.epoch != epoch,
                };
                if is_anew {
                    self.move_to(Counted { epoch, state: Attempt::Offered }, None);
                }
            }
            Some(_) | None => {
                self.attempt = Some(AttemptRow {
                    rollout: rollout.to_owned(),
                    wave,
                    sequence: stored(sequence.0),
                    state: Attempt::Offered,
                    at_ms: self.now_ms,
                    deadline_ms: Some(self.deadline_ms()),
                    starts: None,
                    epoch,
                });
                let rollout = rollout.to_owned();
                let to = Counted { epoch, state: Attempt::Offered };
                self.moves.push(Move { rollout, wave, from: None, to });
            }
        }
    }

    /// The device is offered a release, for whatever reason: what it tells of it from now on is news.
    pub(super) fn may_fail_again(&mut self, sequence: Sequence) {
        if let Some(failure) = &mut self.failure
            && failure.is_repeated_by(sequence)
        {
            failure.is_offered_again = true;
        }
    }

    /// The device is offered nothing by the rollout of its attempt. When it runs something else by now, because it went
    /// back or because the rollout is over, the attempt is history: the counters keep it.
    pub(super) fn not_offered(&mut self, running: Option<&rollout::Running>, plan: &ProductPlan) {
        let Some(attempt) = &self.attempt else { return };
        let is_over = plan.started(&attempt.rollout).is_none_or(|rollout| rollout.state == State::Aborted);
        let had_it = match attempt.state {
            Attempt::Healthy | Attempt::Crashed => true,
            Attempt::Offered | Attempt::Installed | Attempt::Failed | Attempt::Silent | Attempt::Unheard => {
                false
            }
        };
        if !runs(attempt, running, plan) && (is_over || had_it) {
            self.attempt = None;
        }
    }

    /// What there is to write, and the state that the attempt has by now when that is news.
    pub(super) fn finish(self) -> (Option<AttemptWrite>, Option<FailureWrite>, Option<AttemptRow>) {
        let news = match (&self.from, &self.attempt) {
            (Some(from), Some(to)) if (&from.rollout, from.state) == (&to.rollout, to.state) => None,
            (_, to) => to.clone(),
        };
        let attempt = (self.from != self.attempt).then_some(AttemptWrite {
            from: self.from,
            to: self.attempt,
            moves: self.moves,
        });
        let failure = (self.failed_before != self.failure)
            .then_some(FailureWrite { from: self.failed_before, to: self.failure });
        (attempt, failure, news)
    }

    /// Notes one more failure of a release.
    fn failed(&mut self, sequence: i64) {
        let quarantine_after = u32::try_from(self.known.quarantine_after).unwrap_or(u32::MAX);
        let sequence = Sequence(u64::try_from(sequence).unwrap_or_default());
        self.failure = Some(Failure::again(self.failure, sequence, self.now_ms, quarantine_after));
    }

    fn observe(&mut self, sign: Sign, starts: Option<i64>, plan: &ProductPlan) {
        let Some(attempt) = &self.attempt else { return };
        let (state, before) = (attempt.state, attempt.epoch);
        let rollout = plan.started(&attempt.rollout);
        let is_finished = rollout.is_none_or(|rollout| rollout.state.is_finished());
        let epoch = rollout.map_or(before, |rollout| rollout.epoch);
        let after = if epoch == before {
            Some(state.observe(sign, is_finished)).filter(|after| *after != state)
        } else {
            state.observe_anew(sign, is_finished)
        };
        if let Some(state) = after {
            self.move_to(Counted { epoch, state }, starts);
        }
    }

    fn move_to(&mut self, to: Counted, starts: Option<i64>) {
        let deadline_ms = self.deadline_ms();
        let Some(attempt) = &mut self.attempt else { return };
        let (rollout, wave) = (attempt.rollout.clone(), attempt.wave);
        let from = Counted { epoch: attempt.epoch, state: attempt.state };
        self.moves.push(Move { rollout, wave, from: Some(from), to });
        attempt.state = to.state;
        attempt.epoch = to.epoch;
        attempt.at_ms = self.now_ms;
        attempt.starts = starts;
        attempt.deadline_ms = to.state.is_pending().then_some(deadline_ms);
    }

    fn deadline_ms(&self) -> i64 {
        self.now_ms.saturating_add(self.known.silence_deadline_s.saturating_mul(1000))
    }
}

/// Whether the release of the attempt is what runs. An image without a number counts: power was lost after the image was
/// whole and before its record was.
fn runs(attempt: &AttemptRow, running: Option<&rollout::Running>, plan: &ProductPlan) -> bool {
    let Some(running) = running else { return false };
    let is_its_image =
        |sequence| plan.facts.release(sequence).map(|release| release.digest == running.digest);
    match running.sequence {
        Some(sequence) => stored(sequence.0) == attempt.sequence && is_its_image(sequence).unwrap_or(true),
        None => u64::try_from(attempt.sequence)
            .is_ok_and(|sequence| is_its_image(Sequence(sequence)).unwrap_or(false)),
    }
}
