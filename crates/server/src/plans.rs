//! What decisions need of a product, in memory.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use manifest::{Digest, Sequence};
use rollout::{ProductFacts, ReleaseFacts, RolloutFacts, StandIn, State};

use crate::store::{ReleaseFactsRow, RolloutRow, Store, StoreError};

/// What decisions need of a product; good for one generation.
#[derive(Debug)]
pub(crate) struct ProductPlan {
    generation: i64,
    pub(crate) facts: ProductFacts,
    /// Signed manifests by sequence number.
    manifests: HashMap<Sequence, Vec<u8>>,
    /// Sizes in bytes of the artifacts that its releases have.
    artifacts: HashMap<Digest, u64>,
    /// Every rollout that was started.
    rollouts: HashMap<String, Started>,
}

/// A rollout that was started, as those see it who took its release.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Started {
    pub(crate) state: State,
    /// How often it was resumed after a halt.
    pub(crate) epoch: i64,
}

/// Plans of products. Every change of what devices may be told makes `products.generation` grow in its transaction, and
/// the one SELECT of a check-in reads that: nothing old is ever used, on no instance.
#[derive(Debug, Default)]
pub(crate) struct Plans {
    by_product: RwLock<HashMap<String, Arc<ProductPlan>>>,
    /// Held while one is read from the database: a herd reads it once.
    reading: tokio::sync::Mutex<()>,
}

impl Plans {
    /// The plan of a product, at least as new as `generation`.
    pub(crate) async fn get(
        &self,
        store: &Store,
        product: &str,
        generation: i64,
    ) -> Result<Arc<ProductPlan>, StoreError> {
        if let Some(plan) = self.known(product, generation) {
            return Ok(plan);
        }
        let _reading = self.reading.lock().await;
        if let Some(plan) = self.known(product, generation) {
            return Ok(plan);
        }
        // What is read now is of this generation or of a newer one, which the next check-in will ask for.
        let plan = Arc::new(ProductPlan::read(store, product, generation).await?);
        let mut by_product = self.by_product.write().unwrap_or_else(PoisonError::into_inner);
        by_product.insert(product.to_owned(), plan.clone());
        Ok(plan)
    }

    fn known(&self, product: &str, generation: i64) -> Option<Arc<ProductPlan>> {
        let by_product = self.by_product.read().unwrap_or_else(PoisonError::into_inner);
        by_product.get(product).filter(|plan| plan.generation >= generation).cloned()
    }
}

impl ProductPlan {
    async fn read(store: &Store, product: &str, generation: i64) -> Result<Self, StoreError> {
        let rollouts = store.started_rollouts(product).await?;
        let mut stand_ins = store.stand_ins(product).await?;
        let releases = store.release_facts(product).await?;
        let mut plan = Self {
            generation,
            facts: ProductFacts::default(),
            manifests: HashMap::with_capacity(releases.len()),
            artifacts: HashMap::with_capacity(releases.len()),
            rollouts: HashMap::with_capacity(rollouts.len()),
        };
        for row in releases {
            let broken = |error| StoreError::Unreadable {
                what: format!("release {} of product {product}", row.sequence),
                error,
            };
            let facts = release_facts(&row).map_err(broken)?;
            let manifest =
                BASE64_STANDARD.decode(&row.manifest_base64).map_err(|error| broken(error.to_string()))?;
            let size_bytes = u64::try_from(row.size_bytes).map_err(|error| broken(error.to_string()))?;
            plan.manifests.insert(facts.sequence, manifest);
            plan.artifacts.insert(facts.digest, size_bytes);
            plan.facts.releases.push(facts);
        }
        for row in rollouts {
            let facts = rollout_facts(&row, stand_ins.remove(&row.id).unwrap_or_default())?;
            plan.rollouts.insert(row.id, Started { state: facts.state, epoch: row.epoch });
            // Of several rollouts of one release on one channel the newest comes first, and counts.
            let mut of_release =
                plan.facts.rollouts.iter().rev().take_while(|other| other.sequence == facts.sequence);
            if !of_release.any(|other| other.channel == facts.channel) {
                plan.facts.rollouts.push(facts);
            }
        }
        Ok(plan)
    }

    /// The signed manifest of a release.
    pub(crate) fn manifest(&self, sequence: Sequence) -> Option<&[u8]> {
        self.manifests.get(&sequence).map(Vec::as_slice)
    }

    /// The size in bytes of an artifact that a release of the product has; `None` when none has it.
    pub(crate) fn artifact_bytes(&self, digest: Digest) -> Option<u64> {
        self.artifacts.get(&digest).copied()
    }

    /// A rollout that was started.
    pub(crate) fn started(&self, rollout: &str) -> Option<Started> {
        self.rollouts.get(rollout).copied()
    }
}

fn release_facts(row: &ReleaseFactsRow) -> Result<ReleaseFacts, String> {
    let revert_to: Vec<u64> = serde_json::from_str(&row.revert_to).map_err(|error| error.to_string())?;
    Ok(ReleaseFacts {
        sequence: Sequence(u64::try_from(row.sequence).map_err(|error| error.to_string())?),
        digest: row.digest.parse::<Digest>().map_err(|error| error.to_string())?,
        revert_to: revert_to.into_iter().map(Sequence).collect(),
        requires: row
            .requires
            .map(|sequence| u64::try_from(sequence).map(Sequence))
            .transpose()
            .map_err(|error| error.to_string())?,
        is_archived: row.archived_at_ms.is_some(),
    })
}

fn rollout_facts(row: &RolloutRow, stand_ins: Vec<StandIn>) -> Result<RolloutFacts, StoreError> {
    Ok(RolloutFacts {
        id: row.id.clone(),
        channel: row.channel.clone(),
        sequence: Sequence(u64::try_from(row.sequence).unwrap_or_default()),
        state: row.state()?,
        wave: row.wave(),
        plan: row.plan()?,
        stand_ins,
    })
}
