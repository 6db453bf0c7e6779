//! How a rollout goes on: the next wave, completion, or a halt.

use serde::{Deserialize, Serialize};

use crate::{Approval, Attempt, Limits, Percent, Plan, State};

/// What became of the devices of one wave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "openapi", schema(as = RolloutCounters))]
pub struct Counters {
    /// Devices that were offered the release; each is in one of the states below, or on its way to one.
    pub offered: u64,
    /// Of those: installed, and not seen since.
    pub installed: u64,
    /// Seen again with the release.
    pub healthy: u64,
    /// Refused the release, or failed to install it.
    pub failed: u64,
    /// Seen again after the application crashed.
    pub crashed: u64,
    /// Not seen again in time.
    pub silent: u64,
}

/// Why a rollout halts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "openapi", schema(as = RolloutHaltCause))]
pub enum Cause {
    /// Too many devices refused the release or failed to install it.
    Failures,
    /// The application crashed on too many devices.
    Crashes,
    /// Too many devices took the release and were not seen again in time.
    Silence,
}

/// A limit that is exceeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Excess {
    /// Of what there are too many.
    pub cause: Cause,
    /// In which wave, from 0.
    pub wave: usize,
    /// How many devices.
    pub observed: u64,
    /// Of how many.
    pub sample: u64,
    /// What is tolerated.
    pub limit: Percent,
}

/// How far a rollout is.
#[derive(Clone, Copy, Debug)]
pub struct Progress<'a> {
    /// Its state.
    pub state: State,
    /// The newest wave that is open, from 0.
    pub wave: usize,
    /// When that wave opened or the rollout was resumed, in milliseconds since 1970.
    pub wave_started_at_ms: i64,
    /// For each wave what counts: since the last resume after a halt.
    pub counters: &'a [Counters],
}

/// What a rollout does now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing.
    Stay,
    /// Open this wave.
    Open {
        /// Which, from 0.
        wave: usize,
    },
    /// Ask an operator before this wave opens.
    AwaitApproval {
        /// Which, from 0.
        wave: usize,
    },
    /// All waves have soaked.
    Complete,
    /// Halt, and why.
    Halt(Excess),
}

/// What a rollout does now. Limits come before everything else; each open wave is judged by its own.
#[must_use]
pub fn advance(plan: &Plan, progress: &Progress<'_>, now_ms: i64) -> Step {
    match progress.state {
        State::Draft | State::Paused | State::Halted | State::Aborted => Step::Stay,
        State::AwaitingApproval | State::Completed => judge(plan, progress, false),
        State::Running => {
            let soaked = now_ms >= soak_ends_at_ms(plan, progress);
            let judged = judge(plan, progress, soaked);
            let next = progress.wave + 1;
            match (judged, plan.waves().get(next)) {
                (Step::Stay, Some(wave)) if soaked => match wave.approval {
                    Approval::Automatic => Step::Open { wave: next },
                    Approval::Manual => Step::AwaitApproval { wave: next },
                },
                (Step::Stay, None) if soaked => Step::Complete,
                (step, _) => step,
            }
        }
    }
}

/// When the newest wave has soaked, in milliseconds since 1970. Time outside the window does not count.
pub(crate) fn soak_ends_at_ms(plan: &Plan, progress: &Progress<'_>) -> i64 {
    // A plan bounds the soak to 90 days.
    let soak_s = plan.waves().get(progress.wave).map_or(0, |wave| wave.soak_s);
    let soak_ms = i64::try_from(soak_s).unwrap_or(i64::MAX / 1000).saturating_mul(1000);
    match plan.window() {
        None => progress.wave_started_at_ms.saturating_add(soak_ms),
        Some(window) => window.after_open_ms(progress.wave_started_at_ms, soak_ms),
    }
}

/// Halts for the first limit that an open wave exceeds. The minimum sample keeps early bad luck from halting a wave;
/// once the newest wave has soaked, it is judged by what there is, so that a small wave cannot fail unnoticed.
fn judge(plan: &Plan, progress: &Progress<'_>, soaked: bool) -> Step {
    let waves = plan.waves().iter().zip(progress.counters).enumerate().take(progress.wave + 1);
    for (index, (wave, counters)) in waves {
        let min_sample = if soaked && index == progress.wave { 1 } else { wave.limits.min_sample };
        if let Some(excess) = excess(index, &wave.limits, counters, min_sample) {
            return Step::Halt(excess);
        }
    }
    Step::Stay
}

fn excess(wave: usize, limits: &Limits, counters: &Counters, min_sample: u64) -> Option<Excess> {
    let Counters { offered: _, installed, healthy, failed, crashed, silent } = *counters;
    let took = installed + healthy + crashed;
    // Whoever answered or should have. A device that installed the release and runs it for weeks counts as good.
    let answered = took + failed + silent;
    // Failures come at once and crashes soon, silence only at the deadline: it is compared with those that are known.
    let known = healthy + crashed + failed + silent;
    [
        (Cause::Failures, failed, answered, limits.failures_percent),
        (Cause::Crashes, crashed, took, limits.crashes_percent),
        (Cause::Silence, silent, known, limits.silence_percent),
    ]
    .into_iter()
    .find(|(_, observed, sample, limit)| *sample >= min_sample && limit.is_exceeded_by(*observed, *sample))
    .map(|(cause, observed, sample, limit)| Excess { cause, wave, observed, sample, limit })
}

impl Counters {
    /// What was counted since `baseline`.
    #[must_use]
    pub fn since(&self, baseline: &Self) -> Self {
        Self {
            offered: self.offered.saturating_sub(baseline.offered),
            installed: self.installed.saturating_sub(baseline.installed),
            healthy: self.healthy.saturating_sub(baseline.healthy),
            failed: self.failed.saturating_sub(baseline.failed),
            crashed: self.crashed.saturating_sub(baseline.crashed),
            silent: self.silent.saturating_sub(baseline.silent),
        }
    }
}

impl Cause {
    /// The word in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Failures => "failures",
            Self::Crashes => "crashes",
            Self::Silence => "silence",
        }
    }

    /// The state of the devices that are to blame.
    #[must_use]
    pub fn attempt(self) -> Attempt {
        match self {
            Self::Failures => Attempt::Failed,
            Self::Crashes => Attempt::Crashed,
            Self::Silence => Attempt::Silent,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_MS: i64 = 3_600_000;

    fn plan() -> Plan {
        let json = r#"{"waves":[
            {"select":{"percent":1},"soak_s":3600},
            {"select":{"percent":50},"soak_s":7200,"limits":{"crashes_percent":50}},
            {"select":{"percent":100},"soak_s":60,"approval":"manual"}]}"#;
        serde_json::from_str(json).unwrap()
    }

    fn step(state: State, wave: usize, counters: &[Counters], now_ms: i64) -> Step {
        advance(&plan(), &Progress { state, wave, wave_started_at_ms: 0, counters }, now_ms)
    }

    fn all_good() -> [Counters; 3] {
        [Counters { offered: 100, healthy: 100, ..Counters::default() }; 3]
    }

    #[test]
    fn waves_open_when_they_have_soaked() {
        let good = all_good();
        assert_eq!(step(State::Running, 0, &good, HOUR_MS - 1), Step::Stay);
        assert_eq!(step(State::Running, 0, &good, HOUR_MS), Step::Open { wave: 1 });
        assert_eq!(step(State::Running, 1, &good, 2 * HOUR_MS - 1), Step::Stay);
        assert_eq!(step(State::Running, 1, &good, 2 * HOUR_MS), Step::AwaitApproval { wave: 2 });
        assert_eq!(step(State::AwaitingApproval, 1, &good, 90 * HOUR_MS), Step::Stay);
        assert_eq!(step(State::Running, 2, &good, 59_999), Step::Stay);
        assert_eq!(step(State::Running, 2, &good, 60_000), Step::Complete);
        for state in [State::Draft, State::Paused, State::Halted, State::Aborted, State::Completed] {
            assert_eq!(step(state, 0, &good, 90 * HOUR_MS), Step::Stay, "{state}");
        }
    }

    #[test]
    fn each_cause_halts_at_one_device_more_than_its_limit() {
        // Of 100 devices: 5 % failures, 2 % crashes, 5 % silence are tolerated.
        for (cause, tolerated) in [(Cause::Failures, 5), (Cause::Crashes, 2), (Cause::Silence, 5)] {
            for observed in [tolerated, tolerated + 1] {
                let mut counters = Counters { offered: 100, healthy: 100 - observed, ..Counters::default() };
                match cause {
                    Cause::Failures => counters.failed = observed,
                    Cause::Crashes => counters.crashed = observed,
                    Cause::Silence => counters.silent = observed,
                }
                let mut waves = all_good();
                waves[0] = counters;
                for state in [State::Running, State::AwaitingApproval, State::Completed] {
                    let expected = if observed > tolerated {
                        let limit = Percent::try_from(tolerated as f64).unwrap();
                        Step::Halt(Excess { cause, wave: 0, observed, sample: 100, limit })
                    } else {
                        Step::Stay
                    };
                    assert_eq!(step(state, 1, &waves, 0), expected, "{cause:?} {observed} {state}");
                }
                for state in [State::Draft, State::Paused, State::Halted, State::Aborted] {
                    assert_eq!(step(state, 1, &waves, 0), Step::Stay, "{state} is not judged");
                }
            }
        }
    }

    #[test]
    fn each_wave_has_its_own_limits() {
        let mut waves = all_good();
        waves[1] = Counters { offered: 100, healthy: 50, crashed: 50, ..Counters::default() };
        assert_eq!(step(State::Running, 1, &waves, 0), Step::Stay);
        waves[1] = Counters { offered: 100, healthy: 49, crashed: 51, ..Counters::default() };
        let limit = Percent::try_from(50.0).unwrap();
        let halt = Step::Halt(Excess { cause: Cause::Crashes, wave: 1, observed: 51, sample: 100, limit });
        assert_eq!(step(State::Running, 1, &waves, 0), halt);
        assert_eq!(step(State::Running, 0, &waves, 0), Step::Stay, "a wave that is not open is not judged");
    }

    #[test]
    fn a_small_sample_is_judged_at_the_end_of_the_soak() {
        let few = Counters { offered: 9, healthy: 8, failed: 1, ..Counters::default() };
        let enough = Counters { offered: 10, healthy: 9, failed: 1, ..Counters::default() };
        assert_eq!(step(State::Running, 0, &[few], 0), Step::Stay);
        assert!(matches!(step(State::Running, 0, &[enough], 0), Step::Halt(_)));
        assert!(matches!(step(State::Running, 0, &[few], HOUR_MS), Step::Halt(_)));
        assert_eq!(step(State::Running, 0, &[Counters::default()], HOUR_MS), Step::Open { wave: 1 });
    }

    #[test]
    fn devices_that_installed_and_run_on_count_against_failures_and_not_against_silence() {
        let counters = Counters { offered: 100, installed: 90, healthy: 5, failed: 5, ..Counters::default() };
        assert_eq!(step(State::Running, 0, &[counters], 0), Step::Stay);
        let counters = Counters { offered: 100, installed: 90, healthy: 9, silent: 1, ..Counters::default() };
        let limit = Percent::try_from(5.0).unwrap();
        let halt = Step::Halt(Excess { cause: Cause::Silence, wave: 0, observed: 1, sample: 10, limit });
        assert_eq!(step(State::Running, 0, &[counters], 0), halt);
    }

    #[test]
    fn a_wave_soaks_while_its_window_is_open() {
        let json =
            r#"{"waves":[{"select":{"percent":1},"soak_s":7200}],"window":{"from":"01:00","to":"02:00"}}"#;
        let plan: Plan = serde_json::from_str(json).unwrap();
        let progress = Progress {
            state: State::Running,
            wave: 0,
            wave_started_at_ms: 0,
            counters: &[Counters::default()],
        };
        assert_eq!(advance(&plan, &progress, 26 * HOUR_MS - 1), Step::Stay);
        assert_eq!(advance(&plan, &progress, 26 * HOUR_MS), Step::Complete);
    }

    #[test]
    fn a_resume_forgets_what_led_to_the_halt() {
        let halted = Counters { offered: 20, healthy: 10, failed: 10, ..Counters::default() };
        assert!(matches!(step(State::Running, 0, &[halted], 0), Step::Halt(_)));
        let later = Counters { offered: 31, healthy: 20, failed: 11, ..Counters::default() };
        assert_eq!(
            later.since(&halted),
            Counters { offered: 11, healthy: 10, failed: 1, ..Counters::default() }
        );
        assert!(matches!(step(State::Running, 0, &[later.since(&halted)], 0), Step::Halt(_)));
        assert_eq!(step(State::Running, 0, &[halted.since(&halted)], 0), Step::Stay);
        assert_eq!(halted.since(&later), Counters::default());
    }
}
