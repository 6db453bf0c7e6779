//! Tables `devices` and `rollout_waves`: how many devices a wave has.

use std::collections::HashMap;

use futures_util::TryStreamExt as _;
use rollout::StandIn;

use super::product_row::bump_generation;
use super::{RolloutRow, Store, StoreError};

row! {
    /// A device that a rollout may bring its release to.
    #[derive(Clone, Debug)]
    pub(crate) struct Candidate {
        pub(crate) id: String,
        /// JSON list.
        pub(crate) tags: String,
        /// 1 when it runs less than the release requires.
        pub(crate) lacks: i64,
        /// 1 when the release is in quarantine on it.
        pub(crate) refuses: i64,
    }
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
            // What runs without a number, or under an older one, is known by its digest, as in `rollout::decide`.
            "SELECT id, tags, \
                 CASE WHEN COALESCE(running_sequence, 0) < $6 AND NOT EXISTS (SELECT 1 FROM releases r \
                     WHERE r.product = devices.product AND r.digest = devices.running_digest AND r.sequence >= $6) \
                     THEN 1 ELSE 0 END AS lacks, \
                 CASE WHEN quarantined_at_ms IS NOT NULL AND failed_sequence = $5 THEN 1 ELSE 0 END AS refuses \
             FROM devices \
             WHERE product = $1 AND channel = $2 AND last_seen_at_ms >= $3 \
                 AND revoked_at_ms IS NULL AND pinned_sequence IS NULL \
                 AND (attempt_rollout = $4 OR running_sequence IS NULL OR running_sequence < $5)",
        )
        .bind(&rollout.product)
        .bind(&rollout.channel)
        .bind(seen_since_ms)
        .bind(&rollout.id)
        .bind(rollout.sequence)
        .bind(rollout.requires.unwrap_or_default())
        .fetch(&self.pool);
        while let Some(candidate) = candidates.try_next().await? {
            found(candidate);
        }
        Ok(())
    }

    /// Stores how many devices each wave has, how many wait for another release, and who stands in for a wave from now on.
    /// That is no change of the rollout: its revision stays.
    pub(crate) async fn set_present(
        &self,
        rollout: &RolloutRow,
        present: &[u64],
        waiting: u64,
        stand_in: Option<&StandIn>,
        now_ms: i64,
    ) -> Result<(), StoreError> {
        let mut transaction = self.pool.begin().await?;
        sqlx::query("UPDATE rollouts SET counted_at_ms = $1, waiting = $2 WHERE id = $3")
            .bind(now_ms)
            .bind(i64::try_from(waiting).unwrap_or(i64::MAX))
            .bind(&rollout.id)
            .execute(&mut *transaction)
            .await?;
        for (wave, present) in (0_i64..).zip(present) {
            sqlx::query("UPDATE rollout_waves SET present = $1 WHERE rollout = $2 AND wave = $3")
                .bind(i64::try_from(*present).unwrap_or(i64::MAX))
                .bind(&rollout.id)
                .bind(wave)
                .execute(&mut *transaction)
                .await?;
        }
        if let Some(StandIn { wave, device }) = stand_in {
            sqlx::query("UPDATE rollout_waves SET stand_in = $1 WHERE rollout = $2 AND wave = $3")
                .bind(device)
                .bind(&rollout.id)
                .bind(i64::try_from(*wave).unwrap_or(i64::MAX))
                .execute(&mut *transaction)
                .await?;
            bump_generation(&mut transaction, &rollout.product).await?;
        }
        transaction.commit().await?;
        self.tell_moved(&rollout.id);
        Ok(())
    }

    /// The devices that stand in for waves of a product's rollouts, by the rollouts' ids.
    pub(crate) async fn stand_ins(&self, product: &str) -> Result<HashMap<String, Vec<StandIn>>, StoreError> {
        let rows: Vec<(String, i64, String)> = sqlx::query_as(
            "SELECT w.rollout, w.wave, w.stand_in FROM rollouts o JOIN rollout_waves w ON w.rollout = o.id \
             WHERE o.product = $1 AND w.stand_in IS NOT NULL",
        )
        .bind(product)
        .fetch_all(&self.pool)
        .await?;
        let mut stand_ins: HashMap<String, Vec<StandIn>> = HashMap::new();
        for (rollout, wave, device) in rows {
            let wave = usize::try_from(wave).unwrap_or_default();
            stand_ins.entry(rollout).or_default().push(StandIn { wave, device });
        }
        Ok(stand_ins)
    }
}
