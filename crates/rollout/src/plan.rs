//! What a rollout is to do: an immutable plan.

use serde::{Deserialize, Serialize};

use crate::select::{MAX_TAGS, Select, bucket, check_tag};
use crate::{Evidence, Percent, StandIn, State, Window};

/// The most waves of one plan.
pub const MAX_WAVES: usize = 100;

/// The longest soak of one wave, in seconds: 90 days.
pub const MAX_SOAK_S: u64 = 90 * 24 * 3600;

/// Waves, when something is offered at all, what a halt does, and when it is completed. A value of this type is a valid
/// plan.
///
/// ```json
/// {"waves": [{"select": {"tags": ["lab"]}, "soak_s": 3600, "evidence": {"min_healthy": 5}},
///            {"select": {"percent": 10}, "soak_s": 86400, "limits": {"failures_percent": 2}},
///            {"select": {"percent": 100}, "approval": "manual"}],
///  "window": {"days": ["sat", "sun"], "from": "22:00", "to": "06:00"}, "on_halt": "revert",
///  "completed_percent": 95}
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Unchecked")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "openapi", schema(as = RolloutPlan))]
pub struct Plan {
    waves: Vec<Wave>,
    window: Option<Window>,
    on_halt: OnHalt,
    /// It is completed when so large a share of the devices that were offered the release has it.
    completed_percent: Percent,
}

/// A set of devices that gets the release, and what must hold before the next one does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "openapi", schema(as = RolloutPlanWave))]
pub struct Wave {
    /// Which devices; those of the waves before stay.
    pub select: Select,
    /// How long the wave is watched before the next one opens, in seconds. Time outside the window does not count.
    #[serde(default)]
    pub soak_s: u64,
    /// What it takes for this wave to open. The first wave opens when the rollout is started.
    #[serde(default)]
    pub approval: Approval,
    /// What is tolerated of the devices of this wave.
    #[serde(default)]
    pub limits: Limits,
    /// How many devices of this wave must be healthy before the next one opens.
    #[serde(default)]
    pub evidence: Evidence,
}

/// What it takes for a wave to open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Approval {
    /// The wave before has soaked and has its evidence.
    #[default]
    Automatic,
    /// And an operator says so.
    Manual,
}

/// The largest shares that are tolerated; a larger one halts the rollout. 100 % never halts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "openapi", schema(as = RolloutLimits))]
pub struct Limits {
    /// Devices that refused the release or failed to install it.
    pub failures_percent: Percent,
    /// Devices whose application crashed.
    pub crashes_percent: Percent,
    /// Devices that took the release and were not seen again in time.
    pub silence_percent: Percent,
    /// While a wave soaks no share is taken of fewer devices. At the end of the soak every share counts.
    pub min_sample: u64,
}

/// What a halt does to the devices that have the release.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum OnHalt {
    /// They keep it.
    #[default]
    Pause,
    /// They go back to a release that its signed manifest allows to return to.
    Revert,
}

/// Why a plan is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// There is no wave, or there are too many.
    #[error("expected 1 to {MAX_WAVES} waves, found {found}")]
    Waves {
        /// How many there are.
        found: usize,
    },
    /// A wave of 0 % takes nobody.
    #[error("wave {number}: expected more than 0 %, found 0 %; leave the wave out")]
    NoDevices {
        /// Which wave, from 1.
        number: usize,
    },
    /// The waves accumulate, and so must their shares.
    #[error(
        "wave {number}: expected more than the {before} of a wave before, found {found}; let the shares grow"
    )]
    NotGrowing {
        /// Which wave, from 1.
        number: usize,
        /// The largest share before.
        before: Percent,
        /// The share of this wave.
        found: Percent,
    },
    /// A wave by tags names none, or too many.
    #[error("wave {number}: expected 1 to {MAX_TAGS} tags, found {found}")]
    Tags {
        /// Which wave, from 1.
        number: usize,
        /// How many there are.
        found: usize,
    },
    /// A tag that no device can have.
    #[error("wave {number}: {error}")]
    Tag {
        /// Which wave, from 1.
        number: usize,
        /// What was expected and found.
        error: String,
    },
    /// The soak is longer than any rollout.
    #[error("wave {number}: expected a soak of at most {MAX_SOAK_S} s (90 days), found {found_s} s")]
    Soak {
        /// Which wave, from 1.
        number: usize,
        /// The soak, in seconds.
        found_s: u64,
    },
    /// A share of no device.
    #[error("wave {number}: expected a min_sample of at least 1, found 0")]
    MinSample {
        /// Which wave, from 1.
        number: usize,
    },
    /// A wave that passes without evidence.
    #[error(
        "wave {number}: expected a min_healthy of at least 1, found 0; a wave that shows nothing opens no other one"
    )]
    MinHealthy {
        /// Which wave, from 1.
        number: usize,
    },
    /// Completed by nobody.
    #[error("expected a completed_percent of more than 0, found 0")]
    Completed,
}

impl Plan {
    /// Checks and makes a plan.
    ///
    /// # Errors
    /// [`PlanError`], which names the wave.
    pub fn new(
        waves: Vec<Wave>,
        window: Option<Window>,
        on_halt: OnHalt,
        completed_percent: Percent,
    ) -> Result<Self, PlanError> {
        if !(1..=MAX_WAVES).contains(&waves.len()) {
            return Err(PlanError::Waves { found: waves.len() });
        }
        let mut before = Percent::default();
        for (number, wave) in (1..).zip(&waves) {
            match &wave.select {
                Select::Percent(found) if *found == Percent::default() => {
                    return Err(PlanError::NoDevices { number });
                }
                Select::Percent(found) if *found <= before => {
                    return Err(PlanError::NotGrowing { number, before, found: *found });
                }
                Select::Percent(found) => before = *found,
                Select::Tags(tags) => check_tags(number, tags)?,
            }
            if wave.soak_s > MAX_SOAK_S {
                return Err(PlanError::Soak { number, found_s: wave.soak_s });
            }
            if wave.limits.min_sample == 0 {
                return Err(PlanError::MinSample { number });
            }
            if wave.evidence.min_healthy == 0 {
                return Err(PlanError::MinHealthy { number });
            }
        }
        if completed_percent == Percent::default() {
            return Err(PlanError::Completed);
        }
        Ok(Self { waves, window, on_halt, completed_percent })
    }

    /// The plan of a product without one: every device at its next check-in.
    #[must_use]
    pub fn all_at_once() -> Self {
        let select = Select::Percent(Percent::ALL);
        let wave = Wave {
            select,
            soak_s: 0,
            approval: Approval::default(),
            limits: Limits::default(),
            evidence: Evidence::default(),
        };
        Self { waves: vec![wave], window: None, on_halt: OnHalt::default(), completed_percent: Percent::ALL }
    }

    /// The waves, in the order in which they open; never empty.
    #[must_use]
    pub fn waves(&self) -> &[Wave] {
        &self.waves
    }

    /// When something is offered; `None` for always.
    #[must_use]
    pub fn window(&self) -> Option<&Window> {
        self.window.as_ref()
    }

    /// What a halt does.
    #[must_use]
    pub fn on_halt(&self) -> OnHalt {
        self.on_halt
    }

    /// The share of the devices that were offered the release which has to have it.
    #[must_use]
    pub fn completed_percent(&self) -> Percent {
        self.completed_percent
    }

    /// Whether every device of the channel gets the release in the end: without a wave of 100 % some never do.
    #[must_use]
    pub fn reaches_all(&self) -> bool {
        self.waves.iter().any(|wave| wave.select == Select::Percent(Percent::ALL))
    }

    /// The state of a rollout under way whose newest open wave is this one, from 0.
    #[must_use]
    pub fn under_way(&self, wave: usize) -> State {
        if wave + 1 < self.waves.len() { State::Running } else { State::Open }
    }

    /// The wave (from 0) in which a device gets its release: the first one that takes it, or in which it stands in.
    #[must_use]
    pub fn wave_of(
        &self,
        rollout: &str,
        device: &str,
        tags: &[String],
        stand_ins: &[StandIn],
    ) -> Option<usize> {
        let bucket = bucket(rollout, device);
        let taken = self.waves.iter().position(|wave| wave.select.takes(bucket, tags));
        let stands_in = stand_ins.iter().filter(|stand_in| stand_in.device == device);
        stands_in.map(|stand_in| stand_in.wave).chain(taken).min()
    }
}

fn check_tags(number: usize, tags: &[String]) -> Result<(), PlanError> {
    if !(1..=MAX_TAGS).contains(&tags.len()) {
        return Err(PlanError::Tags { number, found: tags.len() });
    }
    tags.iter().try_for_each(|tag| check_tag(tag)).map_err(|error| PlanError::Tag { number, error })
}

/// A plan as it is read, before it is checked.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Unchecked {
    waves: Vec<Wave>,
    #[serde(default)]
    window: Option<Window>,
    #[serde(default)]
    on_halt: OnHalt,
    #[serde(default = "all")]
    completed_percent: Percent,
}

fn all() -> Percent {
    Percent::ALL
}

impl TryFrom<Unchecked> for Plan {
    type Error = PlanError;

    fn try_from(plan: Unchecked) -> Result<Self, PlanError> {
        Self::new(plan.waves, plan.window, plan.on_halt, plan.completed_percent)
    }
}

impl Default for Limits {
    /// 5 % failures, 2 % crashes, 5 % silence, of at least 10 devices.
    fn default() -> Self {
        let percent = |whole: u16| Percent::try_from(f64::from(whole)).unwrap_or_default();
        Self {
            failures_percent: percent(5),
            crashes_percent: percent(2),
            silence_percent: percent(5),
            min_sample: 10,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Result<Plan, String> {
        serde_json::from_str(json).map_err(|error| error.to_string())
    }

    #[test]
    fn everything_but_the_selection_has_a_default() {
        let plan = parse(r#"{"waves":[{"select":{"percent":100}}]}"#).unwrap();
        assert_eq!(plan, Plan::all_at_once());
        let json = serde_json::to_value(&plan).unwrap();
        let expected = serde_json::json!({
            "waves": [{
                "select": { "percent": 100.0 }, "soak_s": 0, "approval": "automatic",
                "limits": {
                    "failures_percent": 5.0, "crashes_percent": 2.0, "silence_percent": 5.0, "min_sample": 10,
                },
                "evidence": { "min_healthy": 3, "min_healthy_percent": 50.0 },
            }],
            "window": null,
            "on_halt": "pause",
            "completed_percent": 100.0,
        });
        assert_eq!(json, expected);
        assert_eq!(serde_json::from_value::<Plan>(json).unwrap(), plan);
    }

    #[test]
    fn a_plan_without_a_wave_of_all_leaves_devices_out() {
        for (json, reaches_all) in [
            (r#"{"waves":[{"select":{"percent":10}},{"select":{"percent":100}}]}"#, true),
            (r#"{"waves":[{"select":{"percent":100}},{"select":{"tags":["lab"]}}]}"#, true),
            (r#"{"waves":[{"select":{"percent":10}},{"select":{"percent":99.99}}]}"#, false),
            (r#"{"waves":[{"select":{"tags":["lab"]}}]}"#, false),
        ] {
            assert_eq!(parse(json).unwrap().reaches_all(), reaches_all, "{json}");
        }
    }

    #[test]
    fn bad_plans_are_refused_with_a_reason() {
        for (json, part) in [
            (r#"{"waves":[]}"#, "expected 1 to 100 waves, found 0"),
            (r#"{"waves":[{"select":{"percent":0}}]}"#, "wave 1: expected more than 0 %"),
            (
                r#"{"waves":[{"select":{"percent":10}},{"select":{"tags":["a"]}},{"select":{"percent":10}}]}"#,
                "wave 3: expected more than the 10 % of a wave before, found 10 %",
            ),
            (r#"{"waves":[{"select":{"tags":[]}}]}"#, "wave 1: expected 1 to 20 tags, found 0"),
            (r#"{"waves":[{"select":{"tags":["A b"]}}]}"#, "wave 1: expected a tag of 1 to 64"),
            (
                r#"{"waves":[{"select":{"percent":1},"soak_s":7776001}]}"#,
                "at most 7776000 s (90 days), found 7776001 s",
            ),
            (r#"{"waves":[{"select":{"percent":1},"limits":{"min_sample":0}}]}"#, "min_sample of at least 1"),
            (
                r#"{"waves":[{"select":{"percent":1},"evidence":{"min_healthy":0}},{"select":{"percent":100}}]}"#,
                "wave 1: expected a min_healthy of at least 1, found 0",
            ),
            (
                r#"{"waves":[{"select":{"percent":1}}],"completed_percent":0}"#,
                "expected a completed_percent of more than 0",
            ),
            (r#"{"waves":[{"select":{"percent":101}}]}"#, "expected a percentage from 0 to 100"),
            (r#"{"waves":[{"select":{"percent":1},"soak":5}]}"#, "unknown field `soak`"),
            (r#"{"waves":[{"select":{"everybody":true}}]}"#, "unknown variant `everybody`"),
            (r#"{"waves":[{"select":{"percent":1},"approval":"maybe"}]}"#, "unknown variant `maybe`"),
        ] {
            let error = parse(json).unwrap_err();
            assert!(error.contains(part), "{json}\n{error}");
        }
    }
}
