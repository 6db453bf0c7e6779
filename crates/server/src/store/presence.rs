//! Tables `devices` and `rollout_waves`: how many devices a wave has.

use super::{RolloutRow, Store, StoreError};

/// A device that a rollout may bring its release to.
#[derive(Clone, Debug, sqlx::FromRow)]
pub(crate) struct Candidate {
    pub(crate) id: String,
    /// JSON list.
    pub(crate) tags: String,
}

impl Store {
    /// Devices of a rollout's channel that were seen since a time, by id and past `after`: those that its release is news
    /// for, and those that have it by this rollout. A pinned device follows no rollout.
    pub(crate) async fn candidates(
        &self,
        rollout: &RolloutRow,
        seen_since_ms: i64,
        after: &str,
        limit: i64,
    ) -> Result<Vec<Candidate>, StoreError> {
        Ok(sqlx::query_as(
            "SELECT id, tags FROM devices \
             WHERE product = $1 AND id > $2 AND channel = $3 AND last_seen_at_ms >= $4 \
                 AND revoked_at_ms IS NULL AND pinned_sequence IS NULL \
                 AND (attempt_rollout = $5 OR running_sequence IS NULL OR running_sequence < $6) \
             ORDER BY id LIMIT $7",
        )
        .bind(&rollout.product)
        .bind(after)
        .bind(&rollout.channel)
        .bind(seen_since_ms)
        .bind(&rollout.id)
        .bind(rollout.sequence)
        .bind(limit)
        .fetch_all(&self.pool)
        .await?)
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
