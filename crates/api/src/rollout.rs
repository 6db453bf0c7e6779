//! Rollouts.

use rollout::{Cause, Counters, Percent, Plan, State};
use serde::{Deserialize, Serialize};

use crate::names::named;
use crate::page::Order;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct NewRolloutBody {
    pub product: String,
    /// The release that the rollout brings to the devices of a channel.
    pub sequence: i64,
    /// The channel; that which the release was published to when it is absent. The signed manifest names none: a release
    /// that did well on one channel is promoted to another by a rollout there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channel: Option<String>,
    /// Without one: the product's default plan, and without that one wave of all devices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<Plan>,
    /// Whether it starts at once; else it is a draft.
    #[serde(default)]
    pub start: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::IntoParams))]
#[serde(default)]
#[cfg_attr(feature = "openapi", into_params(parameter_in = Query))]
pub struct ListParams {
    /// Rollouts of this product only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub product: Option<String>,
    /// Rollouts in this state only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<State>,
    /// How many items a page has at most; 100 unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", param(minimum = 1, maximum = 1000))]
    pub limit: Option<i64>,
    /// `next_cursor` of the page before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    /// `previous_cursor` of the page after.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// `ascending`: the oldest first; `descending` when it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", param(inline))]
    pub order: Option<Order>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Rollout {
    pub id: String,
    pub product: String,
    pub channel: String,
    pub release: RolloutRelease,
    pub state: State,
    /// Index of the newest wave that is open.
    pub wave: usize,
    pub plan: Plan,
    pub waves: Vec<RolloutWave>,
    /// Whether the newest open wave has its evidence: enough of its devices are healthy with the release, and hardly any
    /// is missing.
    pub has_evidence: bool,
    /// How many devices of open waves run less than the release requires, and wait for that; null until they were counted.
    pub waiting: Option<i64>,
    /// Until when the newest open wave soaks; null when it has soaked, or nothing is under way. Before that no wave is
    /// approved.
    #[cfg_attr(feature = "openapi", schema(format = DateTime))]
    pub soaks_until: Option<String>,
    pub halt: Option<RolloutHalt>,
    /// The rollout of a newer release that took its place.
    pub superseded_by: Option<String>,
    /// The rollouts of older releases whose place it took.
    pub supersedes: Vec<String>,
    /// What happens next, in words, and what is still missing.
    pub next: String,
    #[cfg_attr(feature = "openapi", schema(format = DateTime))]
    pub created_at: String,
    #[cfg_attr(feature = "openapi", schema(format = DateTime))]
    pub started_at: Option<String>,
    #[cfg_attr(feature = "openapi", schema(format = DateTime))]
    pub finished_at: Option<String>,
    pub revision: i64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RolloutRelease {
    pub sequence: i64,
    pub version: String,
    pub digest: String,
    /// The release that a device must run, or a newer one, before it is offered this one.
    pub requires: Option<i64>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RolloutWave {
    pub index: usize,
    pub state: WaveState,
    #[cfg_attr(feature = "openapi", schema(format = DateTime))]
    pub started_at: Option<String>,
    pub counters: Counters,
    /// How many devices it has: those that were seen within 30 days before the start or since; null until they were
    /// counted.
    pub devices: Option<u64>,
    /// How many of them must be healthy before the next wave opens.
    pub needed: Option<u64>,
    /// Whether it has its evidence: so many are healthy, and no more than its `silence_percent` took the release and are not
    /// heard again. Later waves do not change it.
    pub has_evidence: bool,
    /// The id of the device that it has because nobody else is in it: a share is at least one device.
    pub stand_in: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum WaveState {
    /// Its devices are not offered the release yet.
    Waiting,
    /// The newest wave that is open.
    Open,
    /// A later one is open.
    Done,
}

named!(WaveState { Waiting = "waiting", Open = "open", Done = "done" });

/// Why a rollout halted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RolloutHalt {
    pub cause: Cause,
    /// Index of the wave whose limit was exceeded.
    pub wave: usize,
    /// How many devices.
    pub observed: u64,
    /// Of how many.
    pub sample: u64,
    /// The share that is tolerated.
    pub limit_percent: Percent,
    /// How often the rollout had been resumed after a halt. `GET /devices` lists all these devices by `rollout`, `wave`,
    /// `epoch` and `attempt`.
    pub epoch: i64,
    /// Which devices; the first 100 by id.
    pub devices: Vec<String>,
    #[cfg_attr(feature = "openapi", schema(format = DateTime))]
    pub at: String,
}
