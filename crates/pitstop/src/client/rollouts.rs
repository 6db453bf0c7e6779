//! Rollouts and the fleet.

use std::io::{BufRead as _, BufReader};
use std::time::Instant;

use api::fleet::{Summary, SummaryParams};
use api::page::Page;
use api::rollout::{ListParams, NewRolloutBody, Rollout};
use rollout::Action;

use super::{Client, ClientError};

/// How [`Client::watch_rollout`] ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Watched {
    /// Enough was seen.
    Enough,
    /// The time was over.
    TimedOut,
}

/// What [`Client::watch_rollout`] does after an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Watch {
    /// Waits for the next one.
    On,
    /// Returns.
    Enough,
}

impl Client {
    /// Makes a rollout of a release.
    pub(crate) fn create_rollout(&self, rollout: &NewRolloutBody) -> Result<Rollout, ClientError> {
        self.create("/rollouts", rollout)
    }

    /// One rollout.
    pub(crate) fn rollout(&self, id: &str) -> Result<Rollout, ClientError> {
        self.get(&format!("/rollouts/{id}"))
    }

    /// The newest `limit` rollouts, newest first.
    pub(crate) fn rollouts(&self, params: &ListParams, limit: usize) -> Result<Page<Rollout>, ClientError> {
        self.list("/rollouts", params, limit)
    }

    /// Starts, pauses, resumes, aborts or approves.
    pub(crate) fn act_on_rollout(&self, id: &str, action: Action) -> Result<Rollout, ClientError> {
        self.post(&format!("/rollouts/{id}/{action}"), &serde_json::Map::new())
    }

    /// Shows `each` the rollout now and whenever it changes, until that has enough or the time is over. The server ends a
    /// stream now and then, and it is opened again.
    pub(crate) fn watch_rollout(
        &self,
        id: &str,
        until: Option<Instant>,
        mut each: impl FnMut(Rollout) -> Watch,
    ) -> Result<Watched, ClientError> {
        loop {
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return Ok(Watched::TimedOut);
            }
            let request = self.signed(self.agent.get(self.address(&format!("/rollouts/{id}/stream"))));
            // The server says something every few seconds, and is silent only when it is gone.
            let answer = request.config().timeout_recv_body(left).build().call();
            let body = self.accepted(answer)?.into_body();
            for line in BufReader::new(body.into_reader()).lines() {
                // The end of a stream, however it came, is followed by a new one.
                let Ok(line) = line else { break };
                // Each event is one line of data (HTML, 9.2.6: other fields and comments say nothing here).
                let Some(json) = line.strip_prefix("data:") else { continue };
                let rollout = serde_json::from_str(json.trim()).map_err(|error| ClientError::NotPitstop {
                    url: self.url.clone(),
                    found: format!("an event that is not ours ({error})"),
                })?;
                if each(rollout) == Watch::Enough {
                    return Ok(Watched::Enough);
                }
            }
        }
    }

    /// The fleet as it is now.
    pub(crate) fn fleet_summary(&self, product: Option<&str>) -> Result<Summary, ClientError> {
        let product = product.unwrap_or_default().to_owned();
        self.get_with("/fleet/summary", &SummaryParams { product })
    }
}
