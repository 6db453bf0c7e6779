//! What a request of a device says about the release that a rollout offered it.

use manifest::Sequence;
use rollout::{Attempt, Failure, LastRun, Sign, is_failure};

use crate::rollouts::ProductPlan;
use crate::store::{AttemptRow, AttemptWrite, FailureWrite, Known, Move, SeenOutcome, stored};

/// A check-in in the same start as the one before comes at once, when an answer was lost. One after so long is of
/// another start, even when the count of starts is the same because power was cut in between: the updater gives the
/// network 20 s.
const SAME_START_MS: i64 = 60_000;

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

    /// The device is offered the release of a rollout.
    pub(super) fn offered(&mut self, rollout: &str, wave: usize, sequence: Sequence) {
        let wave = i64::try_from(wave).unwrap_or(i64::MAX);
        match &mut self.attempt {
            Some(attempt) if attempt.rollout == rollout => {
                // Offered again. What went wrong is told until it goes well; a healthy one runs something else by now.
                if attempt.state == Attempt::Healthy {
                    self.move_to(Attempt::Offered, None);
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
                });
                let rollout = rollout.to_owned();
                self.moves.push(Move { rollout, wave, from: None, to: Attempt::Offered });
            }
        }
    }

    /// The device is offered nothing by the rollout of its attempt. When it runs something else by now, because it went
    /// back or because the rollout is over, the attempt is history: the counters keep it.
    pub(super) fn not_offered(&mut self, running: Option<&rollout::Running>, plan: &ProductPlan) {
        let Some(attempt) = &self.attempt else { return };
        let is_over = plan.state(&attempt.rollout).is_none_or(|state| state == rollout::State::Aborted);
        let had_it = match attempt.state {
            Attempt::Healthy | Attempt::Crashed => true,
            Attempt::Offered | Attempt::Installed | Attempt::Failed | Attempt::Silent => false,
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
        let is_finished = plan.state(&attempt.rollout).is_none_or(rollout::State::is_finished);
        let after = attempt.state.observe(sign, is_finished);
        if after != attempt.state {
            self.move_to(after, starts);
        }
    }

    fn move_to(&mut self, state: Attempt, starts: Option<i64>) {
        let deadline_ms = self.deadline_ms();
        let Some(attempt) = &mut self.attempt else { return };
        let (rollout, wave) = (attempt.rollout.clone(), attempt.wave);
        self.moves.push(Move { rollout, wave, from: Some(attempt.state), to: state });
        attempt.state = state;
        attempt.at_ms = self.now_ms;
        attempt.starts = starts;
        attempt.deadline_ms = state.is_pending().then_some(deadline_ms);
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
