//! How a rollout goes on: the next wave, completion, or a halt.

use serde::{Deserialize, Serialize};

use crate::lack::{lack, unfinished};
use crate::{Approval, Attempt, Counters, Limits, Percent, Plan, Progress, State};

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
    /// The devices have the release.
    Complete,
    /// Halt, and why.
    Halt(Excess),
}

/// What a rollout does now. Limits come before everything else; each open wave is judged by its own. Then the newest wave
/// must have soaked, and then its evidence must be there ([`lack`]).
#[must_use]
pub fn advance(plan: &Plan, progress: &Progress<'_>, now_ms: i64) -> Step {
    match progress.state {
        State::Draft | State::Paused | State::Halted | State::Aborted | State::Superseded => Step::Stay,
        State::AwaitingApproval | State::Completed => judge(plan, progress, false),
        State::Running | State::Open => {
            let soaked = now_ms >= soak_ends_at_ms(plan, progress);
            let next = plan.waves().get(progress.wave + 1);
            let lack = if next.is_some() { lack(plan, progress) } else { unfinished(plan, progress) };
            let soaks = plan.waves().get(progress.wave).is_some_and(|wave| wave.soak_s > 0);
            match (judge(plan, progress, soaked && (soaks || lack.is_none())), next) {
                (Step::Stay, _) if !soaked || lack.is_some() => Step::Stay,
                (Step::Stay, Some(wave)) => {
                    let next = progress.wave + 1;
                    match wave.approval {
                        Approval::Automatic => Step::Open { wave: next },
                        Approval::Manual => Step::AwaitApproval { wave: next },
                    }
                }
                (Step::Stay, None) => Step::Complete,
                (step, _) => step,
            }
        }
    }
}

/// Until when the newest wave soaks, in milliseconds since 1970; `None` when it has soaked.
#[must_use]
pub fn soaks_until_ms(plan: &Plan, progress: &Progress<'_>, now_ms: i64) -> Option<i64> {
    Some(soak_ends_at_ms(plan, progress)).filter(|ends_ms| now_ms < *ends_ms)
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
/// `by_what_there_is`: at the end of its soak, and before another one opens, the newest is judged without it, so that a
/// small wave cannot fail unnoticed.
fn judge(plan: &Plan, progress: &Progress<'_>, by_what_there_is: bool) -> Step {
    let waves = plan.waves().iter().zip(progress.waves).enumerate().take(progress.wave + 1);
    for (index, (wave, observed)) in waves {
        let min_sample = if by_what_there_is && index == progress.wave { 1 } else { wave.limits.min_sample };
        if let Some(excess) = excess(index, &wave.limits, &observed.counters, min_sample) {
            return Step::Halt(excess);
        }
    }
    Step::Stay
}

fn excess(wave: usize, limits: &Limits, counters: &Counters, min_sample: u64) -> Option<Excess> {
    let Counters { offered: _, installed, healthy, failed, crashed, silent, unheard } = *counters;
    // An application that crashes resets the device, which is heard then.
    let took = installed + healthy + crashed + unheard;
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
    use crate::Observed;
    use crate::{LastRun, Sign};
    use proptest::prelude::*;

    const HOUR_MS: i64 = 3_600_000;

    fn plan() -> Plan {
        let json = r#"{"waves":[
            {"select":{"percent":1},"soak_s":3600},
            {"select":{"percent":50},"soak_s":7200,"limits":{"crashes_percent":50}},
            {"select":{"percent":100},"soak_s":60,"approval":"manual"}]}"#;
        serde_json::from_str(json).unwrap()
    }

    /// Of waves that have as many devices as were offered the release.
    fn step(state: State, wave: usize, counters: &[Counters], now_ms: i64) -> Step {
        let observed = |counters: &Counters| Observed {
            present: Some(counters.offered),
            counters: *counters,
            total: *counters,
        };
        step_of(&plan(), state, wave, &counters.iter().map(observed).collect::<Vec<_>>(), now_ms)
    }

    fn step_of(plan: &Plan, state: State, wave: usize, waves: &[Observed], now_ms: i64) -> Step {
        advance(plan, &Progress { state, wave, wave_started_at_ms: 0, waves }, now_ms)
    }

    fn all_good() -> [Counters; 3] {
        [Counters { offered: 100, healthy: 100, ..Counters::default() }; 3]
    }

    fn present(present: u64, counters: Counters) -> Observed {
        Observed { present: Some(present), counters, total: counters }
    }

    #[test]
    fn waves_open_when_they_have_soaked() {
        let good = all_good();
        assert_eq!(step(State::Running, 0, &good, HOUR_MS - 1), Step::Stay);
        assert_eq!(step(State::Running, 0, &good, HOUR_MS), Step::Open { wave: 1 });
        assert_eq!(step(State::Running, 1, &good, 2 * HOUR_MS - 1), Step::Stay);
        assert_eq!(step(State::Running, 1, &good, 2 * HOUR_MS), Step::AwaitApproval { wave: 2 });
        assert_eq!(step(State::AwaitingApproval, 1, &good, 90 * HOUR_MS), Step::Stay);
        assert_eq!(step(State::Open, 2, &good, 59_999), Step::Stay);
        assert_eq!(step(State::Open, 2, &good, 60_000), Step::Complete);
        let at_rest =
            [State::Draft, State::Paused, State::Halted, State::Aborted, State::Completed, State::Superseded];
        for state in at_rest {
            assert_eq!(step(state, 0, &good, 90 * HOUR_MS), Step::Stay, "{state}");
        }
    }

    #[test]
    fn a_wave_without_evidence_opens_no_other_one_however_long_it_soaks() {
        let year_ms = 365 * 24 * HOUR_MS;
        let counters = |offered, healthy| Counters { offered, healthy, ..Counters::default() };
        let first = |devices: u64, counters: Counters| {
            let waves = [present(devices, counters), present(7, Counters::default())];
            step_of(&plan(), State::Running, 0, &waves, year_ms)
        };
        let opens = Step::Open { wave: 1 };
        assert_eq!(first(0, Counters::default()), Step::Stay, "an empty wave shows nothing");
        assert_eq!(first(20, Counters::default()), Step::Stay, "nobody came");
        assert_eq!(first(20, counters(3, 3)), Step::Stay, "3 of 20, 10 are needed");
        assert_eq!(first(20, counters(10, 10)), opens);
        for (devices, needed) in [(1, 1), (3, 3), (20, 10), (2000, 1000)] {
            assert_eq!(first(devices, counters(needed - 1, needed - 1)), Step::Stay, "{devices}");
            assert_eq!(first(devices, counters(needed, needed)), opens, "{devices}");
        }
        let uncounted = Observed { present: None, ..present(20, counters(20, 20)) };
        assert_eq!(step_of(&plan(), State::Running, 0, &[uncounted], year_ms), Step::Stay);
        assert_eq!(first(0, counters(4, 2)), Step::Stay, "more came than were known");
    }

    #[test]
    fn devices_that_took_the_release_and_never_came_back_hold_a_wave() {
        for lost in [
            Counters { installed: 8, ..Counters::default() },
            // They were offered it, and did not even report.
            Counters::default(),
        ] {
            let counters = Counters { offered: 20, healthy: 12, ..lost };
            assert_eq!(step(State::Running, 0, &[counters], 90 * HOUR_MS), Step::Stay, "{counters:?}");
            let counters = Counters { offered: 20, healthy: 19, installed: lost.installed.min(1), ..lost };
            assert_eq!(step(State::Running, 0, &[counters], 90 * HOUR_MS), Step::Open { wave: 1 });
        }
    }

    #[test]
    fn a_small_fleet_can_complete() {
        // One device, in the second of four waves: nobody is left for the others.
        let json = r#"{"waves":[{"select":{"percent":1}},{"select":{"percent":10}},{"select":{"percent":50}},
            {"select":{"percent":100}}]}"#;
        let plan: Plan = serde_json::from_str(json).unwrap();
        let mut waves = [present(0, Counters::default()); 4];
        waves[1].present = Some(1);
        let now = |waves: &[Observed], wave, state| step_of(&plan, state, wave, waves, 0);
        assert_eq!(now(&waves, 0, State::Running), Step::Stay, "an empty wave before it");
        assert_eq!(now(&waves, 1, State::Running), Step::Stay);
        waves[1] = present(1, Counters { offered: 1, healthy: 1, ..Counters::default() });
        assert_eq!(now(&waves, 1, State::Running), Step::Open { wave: 2 });
        assert_eq!(now(&waves, 2, State::Running), Step::Open { wave: 3 });
        assert_eq!(now(&waves, 3, State::Open), Step::Complete);
        waves[3].present = Some(1);
        assert_eq!(now(&waves, 2, State::Running), Step::Stay, "somebody is left");
    }

    #[test]
    fn completed_means_that_the_devices_have_it() {
        let plan = Plan::all_at_once();
        let open = |plan: &Plan, devices: u64, counters: Counters| {
            step_of(plan, State::Open, 0, &[present(devices, counters)], 90 * HOUR_MS)
        };
        let of = |offered, healthy| Counters { offered, healthy, ..Counters::default() };
        assert_eq!(open(&plan, 0, Counters::default()), Step::Stay, "not at birth");
        assert_eq!(open(&plan, 40, of(19, 19)), Step::Stay, "too few came");
        assert_eq!(open(&plan, 40, of(21, 20)), Step::Stay, "one that came does not have it");
        assert_eq!(open(&plan, 40, of(21, 21)), Step::Complete);
        let json = r#"{"waves":[{"select":{"percent":100}}],"completed_percent":95}"#;
        let most: Plan = serde_json::from_str(json).unwrap();
        assert_eq!(open(&most, 40, of(21, 20)), Step::Complete, "20 of 21 are 95.2 %");
        assert_eq!(open(&most, 40, of(22, 20)), Step::Stay);
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
                for state in [State::Running, State::AwaitingApproval, State::Open, State::Completed] {
                    let expected = if observed > tolerated {
                        let limit = Percent::try_from(tolerated as f64).unwrap();
                        Step::Halt(Excess { cause, wave: 0, observed, sample: 100, limit })
                    } else {
                        Step::Stay
                    };
                    assert_eq!(step(state, 1, &waves, 0), expected, "{cause:?} {observed} {state}");
                }
                for state in [State::Draft, State::Paused, State::Halted, State::Aborted, State::Superseded] {
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
    }

    #[test]
    fn without_a_soak_early_bad_luck_halts_nothing() {
        let plan = Plan::all_at_once();
        let failed = present(1, Counters { offered: 1, failed: 1, ..Counters::default() });
        assert_eq!(step_of(&plan, State::Open, 0, &[failed], HOUR_MS), Step::Stay);
        let ten = present(10, Counters { offered: 10, failed: 1, healthy: 9, ..Counters::default() });
        assert!(matches!(step_of(&plan, State::Open, 0, &[ten], HOUR_MS), Step::Halt(_)));
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
        let good = present(3, Counters { offered: 3, healthy: 3, ..Counters::default() });
        let open = |waves: &[Observed], now_ms| step_of(&plan, State::Open, 0, waves, now_ms);
        assert_eq!(open(&[good], 26 * HOUR_MS - 1), Step::Stay);
        assert_eq!(open(&[good], 26 * HOUR_MS), Step::Complete);
        // A window that has not opened completes nothing, not even without a soak.
        let json = r#"{"waves":[{"select":{"percent":1}}],"window":{"from":"01:00","to":"02:00"}}"#;
        let plan: Plan = serde_json::from_str(json).unwrap();
        let none = present(3, Counters::default());
        assert_eq!(step_of(&plan, State::Open, 0, &[none], 0), Step::Stay);
    }

    #[test]
    fn devices_of_which_nobody_knows_the_cadence_halt_nothing_and_show_nothing() {
        let unheard = Counters { offered: 40, healthy: 1, unheard: 39, ..Counters::default() };
        assert_eq!(step(State::Running, 0, &[unheard], 90 * HOUR_MS), Step::Stay);
        let silent = Counters { offered: 40, healthy: 1, silent: 39, ..Counters::default() };
        assert!(matches!(step(State::Running, 0, &[silent], 0), Step::Halt(_)));
    }

    /// A device of a rollout that is resumed after halts, as the server counts it.
    #[derive(Clone, Copy)]
    struct Counted {
        epoch: usize,
        attempt: Attempt,
    }

    proptest! {
        /// Whatever devices did before a resume: who fails or crashes after it is counted after it, and who recovers takes
        /// nothing away from that.
        #[test]
        fn no_recovery_hides_a_later_failure(
            events in prop::collection::vec((0..20_usize, 0..6_u8), 0..200),
        ) {
            let mut epoch = 0;
            let mut devices = [Counted { epoch: 0, attempt: Attempt::Offered }; 20];
            let mut failed_since = [false; 20];
            for (number, event) in events {
                let seen = |last_run| Sign::Seen { runs_it: true, last_run, new_start: true };
                let sign = match event {
                    0 | 1 => seen(LastRun::Ended),
                    2 => seen(LastRun::Crashed),
                    3 => Sign::Installed,
                    4 => Sign::Failed,
                    _ => {
                        epoch += 1;
                        failed_since = [false; 20];
                        continue;
                    }
                };
                let device = &mut devices[number];
                let after = if device.epoch == epoch {
                    Some(device.attempt.observe(sign, false))
                } else {
                    device.attempt.observe_anew(sign, false)
                };
                if let Some(attempt) = after {
                    *device = Counted { epoch, attempt };
                }
                failed_since[number] = device.epoch == epoch
                    && matches!(device.attempt, Attempt::Crashed | Attempt::Failed);
                // Never overlooked.
                match event {
                    2 => prop_assert!(device.epoch == epoch && device.attempt == Attempt::Crashed),
                    4 => prop_assert!(failed_since[number]),
                    _ => {}
                }
            }
            let counted = devices.iter().filter(|device| device.epoch == epoch);
            let bad = counted.filter(|device| matches!(device.attempt, Attempt::Crashed | Attempt::Failed));
            prop_assert_eq!(bad.count(), failed_since.iter().filter(|failed| **failed).count());
        }
    }
}
