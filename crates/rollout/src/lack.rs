//! What is still missing before a wave may open the next one, or a rollout is completed.

use std::fmt;

use crate::{Limits, Observed, Percent, Plan, Progress};

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
