//! Tables `devices` and `rollout_waves`: how many devices a wave has.

use futures_util::TryStreamExt as _;

use super::{RolloutRow, Store, StoreError};

/// A device that a rollout may bring its release to.
#[derive(Clone, Debug, sqlx::FromRow)]
pub(crate) struct Candidate {
    pub(crate) id: String,
    /// JSON list.
    pub(crate) tags: String,
}

impl Store {
    /// Tells `found` each device of a rollout's channel that was seen since a time: those that its release is news for, and
    /// those that have it by this rollout. A pinned device follows no rollout.
    ///
    /// One statement reads them all, in no order, and no more than a few are in memory: pages of it would each be a search
    /// through the whole table wherever the database chooses another index than the one that pages need.
    pub(crate) async fn each_candidate(
        &self,
        rollout: &RolloutRow,
        seen_since_ms: i64,
        mut found: impl FnMut(Candidate),
    ) -> Result<(), StoreError> {
        let mut candidates = sqlx::query_as(
            "SELECT id, tags FROM devices \
             WHERE product = $1 AND channel = $2 AND last_seen_at_ms >= $3 \
                 AND revoked_at_ms IS NULL AND pinned_sequence IS NULL \
                 AND (attempt_rollout = $4 OR running_sequence IS NULL OR running_sequence < $5)",
        )
        .bind(&rollout.product)
        .bind(&rollout.channel)
        .bind(seen_since_ms)
        .bind(&rollout.id)
        .bind(rollout.sequence)
        .fetch(&self.pool);
        while let Some(candidate) = candidates.try_next().await? {
            found(candidate);
        }
        Ok(())
    }

    /// Stores how many devices each wave has. That is no change of the rollout: its revision stays.
    pub(crate) async fn set_present(
        &self,
        rollout: &str,
        present: &[u64],
        now_ms: i64,
    ) -> Result<(), StoreError> {
        let mut transaction = self.pool.begin().await?;
        sqlx::query("UPDATE rollouts SET counted_at_ms = $1 WHERE id = $2")
            .bind(now_ms)
            .bind(rollout)
            .execute(&mut *transaction)
            .await?;
        for (wave, present) in (0_i64..).zip(present) {
            sqlx::query("UPDATE rollout_waves SET present = $1 WHERE rollout = $2 AND wave = $3")
                .bind(i64::try_from(*present).unwrap_or(i64::MAX))
                .bind(rollout)
                .bind(wave)
                .execute(&mut *transaction)
                .await?;
        }
        transaction.commit().await?;
        self.tell_moved(rollout);
        Ok(())
    }
}
