//! What shows that a release is good: how much of it a wave needs, and what is still missing.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Limits, Observed, Percent, Plan, Progress};

/// How many devices of a wave must be healthy with the release before the next wave opens: a share of the wave, but no
/// fewer than a minimum, and of a wave that has fewer devices than that, all.
///
/// | devices of the wave | healthy ones that the default asks for |
/// | --- | --- |
/// | 1 | 1 |
/// | 3 | 3 |
/// | 20 | 10 |
/// | 2,000 | 1,000 |
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "openapi", schema(as = RolloutEvidence))]
pub struct Evidence {
    /// No fewer devices than this, at least 1; of a smaller wave all.
    pub min_healthy: u64,
    /// No smaller share of the wave's devices than this.
    pub min_healthy_percent: Percent,
}

impl Default for Evidence {
    /// Half of the wave, and at least 3 devices.
    fn default() -> Self {
        Self { min_healthy: 3, min_healthy_percent: Percent::HALF }
    }
}

impl Evidence {
    /// How many healthy devices a wave of so many needs: at least one, and no more than it has.
    #[must_use]
    pub fn needed(&self, devices: u64) -> u64 {
        let share = self.min_healthy_percent.of(devices);
        share.max(self.min_healthy.min(devices)).max(1)
    }
}

/// What a wave that has soaked still waits for, or what keeps a rollout from being completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lack {
    /// A count of its devices.
    Count,
    /// It has no device that could show anything.
    Devices,
    /// Too few devices are healthy with the release.
    Healthy {
        /// How many are.
        healthy: u64,
        /// Of how many.
        devices: u64,
        /// How many have to be.
        needed: u64,
    },
    /// Too many devices were offered the release and are not heard again.
    Return {
        /// How many.
        missing: u64,
        /// Of how many.
        offered: u64,
        /// The share that is tolerated.
        limit: Percent,
    },
    /// Too few of the devices that were offered the release have it.
    Share {
        /// How many have it.
        healthy: u64,
        /// Of how many.
        offered: u64,
        /// The share that is asked for.
        share: Percent,
    },
}

impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count => f.write_str("its devices are being counted"),
            Self::Devices => f.write_str("no device of it was seen in the last 30 days"),
            Self::Healthy { healthy, devices, needed } => {
                write!(f, "{healthy} of {devices} heard again, {needed} needed")
            }
            Self::Return { missing, offered, limit } => {
                write!(
                    f,
                    "{missing} of {offered} took the release and are not heard again, {limit} are tolerated"
                )
            }
            Self::Share { healthy, offered, share } => {
                write!(f, "{healthy} of {offered} have it, {share} needed")
            }
        }
    }
}

/// What the newest open wave lacks before the next one may open; `None` when its evidence is there.
///
/// A wave without devices shows nothing, so nothing follows from it. Only when all devices of the fleet are in the waves
/// before, and those had their evidence, is nobody left to protect.
#[must_use]
pub fn lack(plan: &Plan, progress: &Progress<'_>) -> Option<Lack> {
    let wave = plan.waves().get(progress.wave)?;
    let observed = progress.waves.get(progress.wave).copied().unwrap_or_default();
    let Some(devices) = observed.devices() else { return Some(Lack::Count) };
    if devices == 0 {
        let (before, later) = progress.waves.split_at(progress.wave.min(progress.waves.len()));
        let is_exhausted = later.iter().all(|wave| wave.devices() == Some(0))
            && before.iter().any(|wave| wave.counters.healthy > 0);
        return if is_exhausted { None } else { Some(Lack::Devices) };
    }
    let healthy = observed.counters.healthy;
    let needed = wave.evidence.needed(devices);
    if healthy < needed {
        return Some(Lack::Healthy { healthy, devices, needed });
    }
    missing(&wave.limits, &observed)
}

/// What keeps a rollout whose waves are all open from being completed: its devices do not have the release yet.
#[must_use]
pub fn unfinished(plan: &Plan, progress: &Progress<'_>) -> Option<Lack> {
    let wave = plan.waves().last()?;
    let sum = |count: fn(&Observed) -> u64| progress.waves.iter().map(count).sum::<u64>();
    let Some(devices) = progress.waves.iter().map(Observed::devices).sum::<Option<u64>>() else {
        return Some(Lack::Count);
    };
    if devices == 0 {
        return Some(Lack::Devices);
    }
    let healthy = sum(|wave| wave.total.healthy);
    let needed = wave.evidence.needed(devices);
    if healthy < needed {
        return Some(Lack::Healthy { healthy, devices, needed });
    }
    let (offered, share) = (sum(|wave| wave.total.offered), plan.completed_percent());
    (!share.is_reached_by(healthy, offered)).then_some(Lack::Share { healthy, offered, share })
}

/// Devices that took the release and never came back are no evidence, however long ago that was.
fn missing(limits: &Limits, observed: &Observed) -> Option<Lack> {
    let counters = observed.counters;
    let (offered, limit) = (counters.offered, limits.silence_percent);
    let missing = offered.saturating_sub(counters.healthy + counters.failed + counters.crashed);
    limit.is_exceeded_by(missing, offered).then_some(Lack::Return { missing, offered, limit })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn small_waves_need_all_and_large_ones_half() {
        let needed = [0, 1, 2, 3, 4, 6, 7, 20, 2000].map(|devices| Evidence::default().needed(devices));
        assert_eq!(needed, [1, 1, 2, 3, 3, 3, 4, 10, 1000]);
        let strict = Evidence { min_healthy: 50, min_healthy_percent: Percent::default() };
        assert_eq!([1, 49, 51, 2000].map(|devices| strict.needed(devices)), [1, 49, 50, 50]);
    }

    proptest! {
        /// Every wave can show what it needs, and none without a device.
        #[test]
        fn what_is_needed_is_possible(
            min_healthy in 1..10_000_u64,
            hundredths in 0..=10_000_u32,
            devices in 1..5_000_000_u64,
        ) {
            let percent = Percent::try_from(f64::from(hundredths) / 100.0).unwrap();
            let needed = Evidence { min_healthy, min_healthy_percent: percent }.needed(devices);
            prop_assert!((1..=devices).contains(&needed), "{needed} of {devices}");
        }
    }
}
