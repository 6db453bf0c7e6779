//! How far a rollout is, and what became of its devices.

use serde::{Deserialize, Serialize};

use crate::State;

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
    /// Not seen again in time, by their own cadence.
    pub silent: u64,
    /// Not seen again in time, and nobody knows how often they are seen: no failures, and no evidence.
    #[serde(default)]
    pub unheard: u64,
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
    /// What is known of each wave.
    pub waves: &'a [Observed],
}

/// What is known of a wave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// How many devices it takes that were seen of late; `None` until they were counted.
    pub present: Option<u64>,
    /// What became of its devices, as far as it counts: in the epoch since the last resume after a halt.
    pub counters: Counters,
    /// What became of its devices since the start.
    pub total: Counters,
}

impl Observed {
    /// How many devices it has: those that were seen of late, or more when more came.
    #[must_use]
    pub fn devices(&self) -> Option<u64> {
        self.present.map(|present| present.max(self.counters.offered))
    }
}
