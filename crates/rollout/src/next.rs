//! What happens next with a rollout, in words.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::advance::soak_ends_at_ms;
use crate::{Approval, OnHalt, Plan, Progress, State};

/// One sentence without a full stop: what happens next, when, and what an operator can do about it.
#[must_use]
pub fn next(plan: &Plan, progress: &Progress<'_>) -> String {
    let count = plan.waves().len();
    let following = plan.waves().get(progress.wave + 1);
    let number = progress.wave + 2;
    match progress.state {
        State::Draft => "nothing before it is started".to_owned(),
        State::Running => {
            let at = rfc3339(soak_ends_at_ms(plan, progress));
            match following {
                None => format!("the last wave is open; completed at {at} unless a limit is exceeded"),
                Some(wave) => match wave.approval {
                    Approval::Automatic => format!(
                        "wave {number} of {count} ({}) opens at {at} unless a limit is exceeded",
                        wave.select
                    ),
                    Approval::Manual => {
                        format!("wave {number} of {count} ({}) can be approved from {at} on", wave.select)
                    }
                },
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

    #[test]
    fn says_what_happens_next() {
        let json = r#"{"waves":[{"select":{"tags":["lab"]},"soak_s":3600},{"select":{"percent":10},"soak_s":60},
            {"select":{"percent":100},"approval":"manual"}]}"#;
        let plan: Plan = serde_json::from_str(json).unwrap();
        let text = |state, wave| {
            next(&plan, &Progress { state, wave, wave_started_at_ms: 1_795_366_800_000, counters: &[] })
        };
        for (state, wave, expected) in [
            (State::Draft, 0, "nothing before it is started"),
            (
                State::Running,
                0,
                "wave 2 of 3 (10 %) opens at 2026-11-22T18:00:00Z unless a limit is exceeded",
            ),
            (State::Running, 1, "wave 3 of 3 (100 %) can be approved from 2026-11-22T17:01:00Z on"),
            (State::AwaitingApproval, 1, "wave 3 of 3 (100 %) opens when it is approved"),
            (
                State::Running,
                2,
                "the last wave is open; completed at 2026-11-22T17:00:00Z unless a limit is exceeded",
            ),
            (State::Paused, 1, "nothing is offered before it is resumed"),
            (
                State::Halted,
                1,
                "nothing is offered before it is resumed; after an abort, devices go back where the release allows it",
            ),
            (State::Aborted, 1, "devices that run the release go back where it allows that"),
            (State::Completed, 2, "in force: new devices get the release"),
        ] {
            assert_eq!(text(state, wave), expected);
        }
    }
}
