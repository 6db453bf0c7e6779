//! Rollouts and the fleet.

use std::collections::BTreeMap;

use rollout::{Counters, Percent, Plan, State};
use serde::{Deserialize, Serialize};

/// A rollout to be made.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct NewRollout {
    /// The product.
    pub(crate) product: String,
    /// The release.
    pub(crate) sequence: u64,
    /// Without one: the channel that it was published to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) channel: Option<String>,
    /// Without one: the product's default plan.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) plan: Option<Plan>,
    /// At once, or as a draft.
    pub(crate) start: bool,
}

/// Which rollouts to list.
#[derive(Debug, Clone, Default)]
pub(crate) struct RolloutFilter {
    /// Of this product.
    pub(crate) product: Option<String>,
    /// In this state.
    pub(crate) state: Option<State>,
}

/// A rollout.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Rollout {
    /// Its id.
    pub(crate) id: String,
    /// Its product.
    pub(crate) product: String,
    /// The channel whose devices get the release.
    pub(crate) channel: String,
    /// The release.
    pub(crate) release: RolloutRelease,
    /// Where it is.
    pub(crate) state: State,
    /// Index of the newest wave that is open.
    pub(crate) wave: usize,
    /// What it is to do.
    pub(crate) plan: Plan,
    /// How its waves do.
    pub(crate) waves: Vec<Wave>,
    /// Whether the newest open wave has its evidence.
    pub(crate) has_evidence: bool,
    /// How many devices of open waves run less than the release requires; `None` until they were counted.
    #[serde(default)]
    pub(crate) waiting: Option<u64>,
    /// Why it halted.
    pub(crate) halt: Option<Halt>,
    /// The rollout of a newer release that took its place.
    pub(crate) superseded_by: Option<String>,
    /// The rollouts of older releases whose place it took.
    pub(crate) supersedes: Vec<String>,
    /// What happens next, in words.
    pub(crate) next: String,
    /// When it was made.
    pub(crate) created_at: String,
    /// When it started.
    pub(crate) started_at: Option<String>,
    /// When it ended.
    pub(crate) finished_at: Option<String>,
    /// Grows with every change.
    pub(crate) revision: i64,
}

/// The release of a rollout.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct RolloutRelease {
    /// Its sequence number.
    pub(crate) sequence: u64,
    /// Its version.
    pub(crate) version: String,
    /// SHA-256 of its image.
    pub(crate) digest: String,
    /// The release that a device must run before it is offered this one.
    #[serde(default)]
    pub(crate) requires: Option<u64>,
}

/// How a wave does.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Wave {
    /// Its place in the plan.
    pub(crate) index: usize,
    /// Whether its devices are offered the release.
    pub(crate) state: WaveState,
    /// When it opened.
    pub(crate) started_at: Option<String>,
    /// How its devices do.
    pub(crate) counters: Counters,
    /// How many devices it has; `None` until they were counted.
    pub(crate) devices: Option<u64>,
    /// How many of them must be healthy before the next wave opens.
    pub(crate) needed: Option<u64>,
    /// Whether it has its evidence.
    #[serde(default)]
    pub(crate) has_evidence: bool,
    /// The device that it has because nobody else is in it.
    #[serde(default)]
    pub(crate) stand_in: Option<String>,
}

/// Whether a wave's devices are offered the release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum WaveState {
    /// Not yet.
    Waiting,
    /// The newest that is open.
    Open,
    /// A later one is open.
    Done,
}

/// Why a rollout halted.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Halt {
    /// failures, crashes or silence.
    pub(crate) cause: String,
    /// Index of the wave whose limit was exceeded.
    pub(crate) wave: usize,
    /// How many devices.
    pub(crate) observed: u64,
    /// Of how many.
    pub(crate) sample: u64,
    /// The share that is tolerated.
    pub(crate) limit_percent: Percent,
    /// Which devices, the first of them.
    pub(crate) devices: Vec<String>,
    /// When.
    pub(crate) at: String,
}

/// The fleet as it is now.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct FleetSummary {
    /// All of them.
    pub(crate) devices: u64,
    /// Devices by health.
    pub(crate) by_health: BTreeMap<String, u64>,
    /// Devices by what they run.
    pub(crate) by_release: Vec<ByRelease>,
    /// Ids of rollouts that are under way.
    pub(crate) active_rollouts: Vec<String>,
    /// Devices seen within a day.
    pub(crate) seen_last_24h: u64,
}

/// Devices that run a release.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ByRelease {
    /// The product.
    pub(crate) product: String,
    /// `None`: nothing that is known.
    pub(crate) sequence: Option<u64>,
    /// The release's version.
    pub(crate) version: Option<String>,
    /// How many.
    pub(crate) devices: u64,
}
