//! A rollout and its waves as they are stored.

use rollout::{Cause, Counters, Observed, Percent, Plan, Progress, State};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::StoreError;

row! {
    /// A rollout as it is stored, with its release.
    #[derive(Clone, Debug)]
    pub(crate) struct RolloutRow {
        pub(crate) id: String,
        pub(crate) product: String,
        pub(crate) channel: String,
        pub(crate) sequence: i64,
        pub(crate) version: String,
        pub(crate) digest: String,
        pub(crate) state: String,
        pub(crate) wave: i64,
        /// JSON of the plan.
        pub(crate) plan: String,
        pub(crate) created_at_ms: i64,
        pub(crate) started_at_ms: Option<i64>,
        pub(crate) wave_started_at_ms: Option<i64>,
        pub(crate) finished_at_ms: Option<i64>,
        /// JSON of the halt.
        pub(crate) halt: Option<String>,
        /// The rollout that took its place.
        pub(crate) superseded_by: Option<String>,
        /// JSON list of the ids of rollouts whose place it took.
        pub(crate) supersedes: String,
        /// When its devices were counted last.
        pub(crate) counted_at_ms: Option<i64>,
        /// The release that a device must run before it is offered this one.
        pub(crate) requires: Option<i64>,
        /// How many devices of open waves did not, when they were counted last.
        pub(crate) waiting: Option<i64>,
        /// How often it was resumed after a halt.
        pub(crate) epoch: i64,
        pub(crate) revision: i64,
    }
}

row! {
    /// A wave as it is stored, with its counters.
    #[derive(Clone, Debug)]
    pub(crate) struct WaveRow {
        pub(super) rollout: String,
        pub(crate) started_at_ms: Option<i64>,
        /// How many devices it takes that were seen of late.
        present: Option<i64>,
        /// The device that it has because nobody else is in it.
        pub(crate) stand_in: Option<String>,
        offered: i64,
        installed: i64,
        healthy: i64,
        failed: i64,
        crashed: i64,
        silent: i64,
        unheard: i64,
        // Of the rollout's epoch.
        now_offered: i64,
        now_installed: i64,
        now_healthy: i64,
        now_failed: i64,
        now_crashed: i64,
        now_silent: i64,
        now_unheard: i64,
    }
}

/// Why a rollout halted, as it is stored.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Halt {
    pub(crate) cause: Cause,
    pub(crate) wave: usize,
    pub(crate) observed: u64,
    pub(crate) sample: u64,
    pub(crate) limit_percent: Percent,
    pub(crate) devices: Vec<String>,
    pub(crate) at_ms: i64,
}

/// The columns of [`RolloutRow`] for the rollouts `o` with releases `r` that fit the rest of the statement.
macro_rules! select_rollouts {
    ($rest:literal) => {
        concat!(
            "SELECT o.id, o.product, o.channel, o.sequence, r.version, r.digest, o.state, o.wave, o.plan, \
                 o.created_at_ms, o.started_at_ms, o.wave_started_at_ms, o.finished_at_ms, o.halt, o.superseded_by, \
                 o.supersedes, o.counted_at_ms, r.requires, o.waiting, o.epoch, o.revision \
             FROM rollouts o JOIN releases r ON r.product = o.product AND r.sequence = o.sequence ",
            $rest
        )
    };
}

pub(super) use select_rollouts;

pub(super) const ROLLOUT_BY_ID: &str = select_rollouts!("WHERE o.id = $1");

impl RolloutRow {
    pub(crate) fn state(&self) -> Result<State, StoreError> {
        self.state.parse().map_err(|error| self.unreadable(error))
    }

    pub(crate) fn plan(&self) -> Result<Plan, StoreError> {
        serde_json::from_str(&self.plan).map_err(|error| self.unreadable(error))
    }

    /// Why it halted, when it did.
    pub(crate) fn halt(&self) -> Result<Option<Halt>, StoreError> {
        self.halt.as_deref().map(serde_json::from_str).transpose().map_err(|error| self.unreadable(error))
    }

    /// The ids of rollouts whose place it took.
    pub(crate) fn supersedes(&self) -> Result<Vec<String>, StoreError> {
        serde_json::from_str(&self.supersedes).map_err(|error| self.unreadable(error))
    }

    /// Index of the newest wave that is open.
    pub(crate) fn wave(&self) -> usize {
        usize::try_from(self.wave).unwrap_or_default()
    }

    /// How far it is, with what is known of its waves.
    pub(crate) fn progress<'a>(&self, waves: &'a [Observed]) -> Result<Progress<'a>, StoreError> {
        let wave_started_at_ms = self.wave_started_at_ms.unwrap_or(self.created_at_ms);
        Ok(Progress { state: self.state()?, wave: self.wave(), wave_started_at_ms, waves })
    }

    fn unreadable(&self, error: impl ToString) -> StoreError {
        unreadable(&self.id, error)
    }

    /// What an audit line tells.
    pub(super) fn summary(&self) -> Value {
        json!({ "state": self.state, "wave": self.wave })
    }
}

impl WaveRow {
    /// What is known of the wave.
    pub(crate) fn observed(&self) -> Observed {
        // No counter is below zero: a device leaves a state that it was counted in.
        let count = |count: i64| u64::try_from(count).unwrap_or_default();
        Observed {
            present: self.present.map(count),
            counters: Counters {
                offered: count(self.now_offered),
                installed: count(self.now_installed),
                healthy: count(self.now_healthy),
                failed: count(self.now_failed),
                crashed: count(self.now_crashed),
                silent: count(self.now_silent),
                unheard: count(self.now_unheard),
            },
            total: Counters {
                offered: count(self.offered),
                installed: count(self.installed),
                healthy: count(self.healthy),
                failed: count(self.failed),
                crashed: count(self.crashed),
                silent: count(self.silent),
                unheard: count(self.unheard),
            },
        }
    }
}

pub(super) fn unreadable(id: &str, error: impl ToString) -> StoreError {
    StoreError::Unreadable { what: format!("rollout {id}"), error: error.to_string() }
}
