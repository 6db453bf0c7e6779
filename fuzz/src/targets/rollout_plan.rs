//! Any JSON as a rollout plan, and any text as a share.

use rollout::{Attempt, MAX_SOAK_S, MAX_WAVES, Percent, Plan, Select, State, Window};

const WEEK_MS: i64 = 7 * 24 * 3_600_000;
/// 9999-12-31: the last day that RFC 3339 can write.
const LAST_MS: i64 = 253_402_214_400_000;

pub type Input<'a> = &'a [u8];

pub fn run(data: Input<'_>) {
    let (moment, json) =
        data.split_first_chunk().map_or((0, data), |(first, rest)| (i64::from_le_bytes(*first), rest));
    let text = str::from_utf8(json).unwrap_or_default();
    if let Ok(percent) = text.parse::<Percent>() {
        assert!(percent <= Percent::ALL);
        assert_eq!(percent.to_string().parse(), Ok(percent));
    }
    if let Ok(state) = text.parse::<State>() {
        assert_eq!(state.name(), text);
    }
    if let Ok(attempt) = text.parse::<Attempt>() {
        assert_eq!(attempt.name(), text);
    }
    let Ok(plan) = serde_json::from_slice::<Plan>(json) else { return };
    let written = serde_json::to_vec(&plan).unwrap();
    assert_eq!(serde_json::from_slice::<Plan>(&written).unwrap(), plan);

    assert!((1..=MAX_WAVES).contains(&plan.waves().len()));
    let mut before = Percent::default();
    for wave in plan.waves() {
        assert!(wave.soak_s <= MAX_SOAK_S && wave.limits.min_sample > 0);
        match &wave.select {
            Select::Percent(percent) => {
                assert!(*percent > before && *percent <= Percent::ALL);
                before = *percent;
            }
            Select::Tags(tags) => assert!(!tags.is_empty()),
        }
    }
    let taken = plan.wave_of("ro-1", "lamp-1", &["lab".to_owned()], &[]);
    assert!(taken.map_or(before < Percent::ALL, |wave| wave < plan.waves().len()));
    if let Some(window) = plan.window() {
        check(window, moment.rem_euclid(LAST_MS), plan.waves()[0].soak_s);
    }
}

/// A window opens every week, and time in which it is open passes.
fn check(window: &Window, now_ms: i64, soak_s: u64) {
    let opens_ms = now_ms + window.closed_for_ms(now_ms).unwrap_or(0);
    assert!((now_ms..=now_ms + WEEK_MS).contains(&opens_ms) && window.closed_for_ms(opens_ms).is_none());
    let duration_ms = soak_s as i64 * 1000;
    let over_ms = window.after_open_ms(now_ms, duration_ms);
    assert!(over_ms >= now_ms + duration_ms, "{over_ms}");
    assert!(duration_ms == 0 || window.closed_for_ms(over_ms - 1).is_none(), "over while it is closed");
}
