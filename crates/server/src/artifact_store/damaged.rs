//! What is known of artifacts that are not what they should be.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use manifest::Digest;

use crate::metrics::Metrics;

/// Artifacts of releases that are not what they should be, or not there, as they were read last.
#[derive(Debug, Default)]
pub(crate) struct Damaged(Mutex<BTreeSet<String>>);

impl Damaged {
    /// How many there are, and the first of them.
    pub(crate) fn first(&self) -> Option<(usize, String)> {
        let damaged = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        damaged.first().map(|first| (damaged.len(), first.clone()))
    }

    /// Notes whether an artifact is damaged.
    pub(crate) fn note(&self, digest: Digest, is_damaged: bool, metrics: &Metrics) {
        let mut damaged = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if is_damaged {
            damaged.insert(digest.to_string());
        } else {
            damaged.remove(&digest.to_string());
        }
        metrics.artifacts_damaged.set(i64::try_from(damaged.len()).unwrap_or(i64::MAX));
    }
}
