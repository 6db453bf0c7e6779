//! What happens next with a rollout, in words.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::advance::soak_ends_at_ms;
use crate::lack::{lack, unfinished};
use crate::{Approval, OnHalt, Plan, Progress, State};

/// One sentence without a full stop: what happens next, when, what is still missing, and what an operator can do about it.
#[must_use]
pub fn next(plan: &Plan, progress: &Progress<'_>, now_ms: i64) -> String {
    let count = plan.waves().len();
    let following = plan.waves().get(progress.wave + 1);
    let number = progress.wave + 2;
    match progress.state {
        State::Draft => "nothing before it is started".to_owned(),
        State::Running | State::Open => {
            let ends_ms = soak_ends_at_ms(plan, progress);
            let soaks = (now_ms < ends_ms).then(|| rfc3339(ends_ms));
            match following {
                None => match (unfinished(plan, progress), soaks) {
                    (Some(lack), Some(at)) => {
                        format!("all waves are open; completed from {at} on, with the evidence: {lack}")
                    }
                    (Some(lack), None) => format!("all waves are open; not completed yet: {lack}"),
                    (None, Some(at)) => {
                        format!("all waves are open; completed at {at} unless a limit is exceeded")
                    }
                    (None, None) => "all waves are open; completed now".to_owned(),
                },
                Some(wave) => {
                    let opens = match wave.approval {
                        Approval::Automatic => "opens",
                        Approval::Manual => "can be approved",
                    };
                    let wave = format!("wave {number} of {count} ({})", wave.select);
                    match (lack(plan, progress), soaks) {
                        (Some(lack), Some(at)) => {
                            format!("{wave} {opens} from {at} on, with the evidence: {lack}")
                        }
                        (Some(lack), None) => format!(
                            "wave {} has soaked and waits for evidence: {lack}; approve it to open {wave} without",
                            progress.wave + 1
                        ),
                        (None, Some(at)) => format!("{wave} {opens} at {at} unless a limit is exceeded"),
                        (None, None) => format!("{wave} {opens} now"),
                    }
                }
            }
        }
        State::AwaitingApproval => match following {
            Some(wave) => format!("wave {number} of {count} ({}) opens when it is approved", wave.select),
            None => "completed when it is approved".to_owned(),
        },
        State::Paused => "nothing is offered before it is resumed".to_owned(),
        State::Halted => match plan.on_halt() {
            OnHalt::Pause => "nothing is offered before it is resumed; after an abort, devices go back where the release allows it",
            OnHalt::Revert => "devices go back where the release allows it; resume it to go on, or abort it",
        }
        .to_owned(),
        State::Aborted => "devices that run the release go back where it allows that".to_owned(),
        State::Completed => "in force: new devices get the release".to_owned(),
        State::Superseded => {
            "a newer rollout of its channel took its place; only devices with nothing to run get the release".to_owned()
        }
    }
}

/// The evidence that a wave waits for which has soaked, so that the next one is not opened; `None` when that is not so.
#[must_use]
pub fn lacking(plan: &Plan, progress: &Progress<'_>, now_ms: i64) -> Option<String> {
    match progress.state {
        State::Running | State::Open if now_ms >= soak_ends_at_ms(plan, progress) => {
            plan.waves().get(progress.wave + 1)?;
            lack(plan, progress).map(|lack| lack.to_string())
        }
        State::Running
        | State::Open
        | State::Draft
        | State::AwaitingApproval
        | State::Paused
        | State::Halted
        | State::Aborted
        | State::Completed
        | State::Superseded => None,
    }
}

/// Such as `2026-11-22T17:00:00Z`.
fn rfc3339(at_ms: i64) -> String {
    // Rounded up: at the time that is named, it has happened. Formatting fails for years past 9999 only.
    let at_s = at_ms.saturating_add(999).div_euclid(1000);
    let at = OffsetDateTime::from_unix_timestamp(at_s).ok();
    at.and_then(|at| at.format(&Rfc3339).ok()).unwrap_or_else(|| "a time past the year 9999".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Counters, Observed};

    #[test]
    fn says_what_happens_next() {
        let json = r#"{"waves":[{"select":{"tags":["lab"]},"soak_s":3600},{"select":{"percent":10},"soak_s":60},
            {"select":{"percent":100},"approval":"manual"}]}"#;
        let plan: Plan = serde_json::from_str(json).unwrap();
        let now_ms = 1_795_366_800_000;
        let of = |present, offered, healthy| {
            let counters = Counters { offered, healthy, ..Counters::default() };
            Observed { present: Some(present), counters, total: counters }
        };
        let text = |state, wave, waves: &[Observed], later_ms| {
            next(&plan, &Progress { state, wave, wave_started_at_ms: now_ms, waves }, now_ms + later_ms)
        };
        let good = [of(3, 3, 3), of(20, 20, 20), of(77, 77, 77)];
        for (state, wave, expected) in [
            (State::Draft, 0, "nothing before it is started"),
            (
                State::Running,
                0,
                "wave 2 of 3 (10 %) opens at 2026-11-22T18:00:00Z unless a limit is exceeded",
            ),
            (
                State::Running,
                1,
                "wave 3 of 3 (100 %) can be approved at 2026-11-22T17:01:00Z unless a limit is exceeded",
            ),
            (State::AwaitingApproval, 1, "wave 3 of 3 (100 %) opens when it is approved"),
            (State::Open, 2, "all waves are open; completed now"),
            (State::Paused, 1, "nothing is offered before it is resumed"),
            (
                State::Halted,
                1,
                "nothing is offered before it is resumed; after an abort, devices go back where the release allows it",
            ),
            (State::Aborted, 1, "devices that run the release go back where it allows that"),
            (State::Completed, 2, "in force: new devices get the release"),
            (
                State::Superseded,
                1,
                "a newer rollout of its channel took its place; only devices with nothing to run get the release",
            ),
        ] {
            assert_eq!(text(state, wave, &good, 0), expected);
        }
        let few = [of(3, 3, 3), of(20, 3, 3), of(77, 0, 0)];
        for (state, wave, later_ms, expected) in [
            (
                State::Running,
                1,
                0,
                "wave 3 of 3 (100 %) can be approved from 2026-11-22T17:01:00Z on, with the evidence: 3 of 20 heard \
                 again, 10 needed",
            ),
            (
                State::Running,
                1,
                60_000,
                "wave 2 has soaked and waits for evidence: 3 of 20 heard again, 10 needed; approve it to open wave 3 \
                 of 3 (100 %) without",
            ),
            (State::Open, 2, 0, "all waves are open; not completed yet: 6 of 100 heard again, 50 needed"),
        ] {
            assert_eq!(text(state, wave, &few, later_ms), expected);
        }
        let lost = [of(3, 3, 3), of(20, 20, 12), of(77, 77, 70)];
        assert_eq!(
            text(State::Running, 1, &lost, 60_000),
            "wave 2 has soaked and waits for evidence: 8 of 20 took the release and are not heard again, 5 % are \
             tolerated; approve it to open wave 3 of 3 (100 %) without"
        );
        assert_eq!(
            text(State::Open, 2, &lost, 60_000),
            "all waves are open; not completed yet: 85 of 100 have it, 100 % needed"
        );
        assert_eq!(
            text(State::Running, 0, &[of(0, 0, 0)], 3_600_000),
            "wave 1 has soaked and waits for evidence: no device of it was seen in the last 30 days; approve it to \
             open wave 2 of 3 (10 %) without"
        );
    }
}
