//! Word of an application from elsewhere: a backend that hears it tells that it lives, or that it fails.

use std::collections::HashMap;

use manifest::Sequence;
use rollout::{Attempt, Running};
use serde_json::json;

use super::attempt::Tracker;
use super::check_in::attempt_json;
use crate::app::App;
use crate::store::{DeviceWrite, Known, Said, StoreError};

/// What a backend heard of an application.
#[derive(Clone, Debug)]
pub(crate) struct Heard {
    pub(crate) device: String,
    /// When, in milliseconds since 1970.
    pub(crate) alive_at_ms: i64,
    /// Why it is not well, if it is not.
    pub(crate) failure: Option<String>,
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heeded {
    /// It was counted.
    Counted,
    /// It was known, or more is.
    Unchanged,
}

/// Why it says nothing of a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unrelated {
    #[error("there is no such device")]
    NoDevice,
    #[error("no rollout offered it a release")]
    NotOffered,
    #[error("it does not run the release that it was offered, as far as it has said")]
    OtherRelease,
    #[error("at that time it did not have the release yet")]
    TooEarly,
}

/// Counts what was heard like a start of the device: with the release after a good run, or after a crash. `known` are devices
/// that the caller may see.
pub(crate) async fn hear(
    app: &App,
    known: &HashMap<String, Known>,
    heard: &Heard,
) -> Result<Result<Heeded, Unrelated>, StoreError> {
    let Some(known) = known.get(&heard.device) else { return Ok(Err(Unrelated::NoDevice)) };
    let Some(attempt) = known.attempt() else { return Ok(Err(Unrelated::NotOffered)) };
    let plan = app.plans.get(&app.store, &known.product, known.generation).await?;
    let sequence = known.running_sequence.and_then(|sequence| u64::try_from(sequence).ok()).map(Sequence);
    let digest = known.running_digest.as_deref().and_then(|digest| digest.parse().ok());
    let running = digest.map(|digest| Running { digest, sequence });
    let now_ms = app.config.clock.now_ms();
    let mut tracker = Tracker::new(known, now_ms);
    if !tracker.runs_it(running.as_ref(), &plan) {
        return Ok(Err(Unrelated::OtherRelease));
    }
    if heard.alive_at_ms < attempt.at_ms {
        return Ok(match attempt.state {
            Attempt::Offered | Attempt::Installed | Attempt::Silent | Attempt::Unheard => {
                Err(Unrelated::TooEarly)
            }
            // More is known by now.
            Attempt::Healthy | Attempt::Failed | Attempt::Crashed => Ok(Heeded::Unchanged),
        });
    }
    tracker.heard(running.as_ref(), heard.failure.is_some(), &plan);
    let (attempt, failure, news) = tracker.finish();
    if attempt.is_none() && failure.is_none() {
        return Ok(Ok(Heeded::Unchanged));
    }
    let mut detail =
        json!({ "alive_at": crate::clock::rfc3339(heard.alive_at_ms), "failure": heard.failure });
    if let Some(news) = news {
        detail["attempt"] = attempt_json(&news);
    }
    let write = DeviceWrite {
        device: known.id.clone(),
        at_ms: now_ms,
        said: Said::Nothing,
        event: Some(("evidence", detail)),
        attempt,
        failure,
        is_cloned: None,
    };
    app.store.write(write).await?;
    Ok(Ok(Heeded::Counted))
}
