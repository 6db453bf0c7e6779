//! Table `devices`, as the search for silent ones sees it.

use rollout::{Cadence, Sign};

use super::check_ins::{AttemptColumns, CadenceColumns};
use super::{AttemptRow, Store, StoreError};

row! {
    /// A device whose deadline passed.
    #[derive(Clone, Debug)]
    pub(crate) struct OverdueRow {
        pub(crate) id: String,
        last_seen_at_ms: Option<i64>,
        revoked_at_ms: Option<i64>,
        /// Of the product.
        silence_deadline_s: i64,
        /// Of the rollout.
        pub(crate) epoch: i64,
    }
    with {
        attempt: AttemptColumns,
        cadence: CadenceColumns,
    }
}

impl OverdueRow {
    pub(crate) fn attempt(&self) -> Option<AttemptRow> {
        self.attempt.row()
    }

    /// Nobody waits for a revoked device.
    pub(crate) fn is_revoked(&self) -> bool {
        self.revoked_at_ms.is_some()
    }

    /// The deadline as it follows from when the device was last seen: check-ins do not write deadlines. A device that was
    /// seen in the future was seen by a clock that was wrong.
    pub(crate) fn deadline_ms(&self, now_ms: i64) -> i64 {
        let seen_ms = self.last_seen_at_ms.filter(|seen_ms| *seen_ms <= now_ms);
        match (seen_ms, self.attempt()) {
            (None, Some(AttemptRow { deadline_ms: Some(deadline_ms), .. })) => deadline_ms,
            (seen_ms, _) => seen_ms.unwrap_or_default().saturating_add(self.patience_ms()),
        }
    }

    /// How long the device may be silent.
    pub(crate) fn patience_ms(&self) -> i64 {
        Cadence::patience_ms(self.cadence.cadence(), self.silence_deadline_s.saturating_mul(1000))
    }

    /// What it means that it was not heard for so long.
    pub(crate) fn sign(&self) -> Sign {
        match self.cadence.cadence() {
            Some(cadence) if cadence.is_known() => Sign::Silence,
            Some(_) | None => Sign::NotHeard,
        }
    }
}

impl Store {
    /// Devices whose deadline passed, the longest overdue first: found by an index.
    pub(crate) async fn overdue(&self, now_ms: i64, limit: i64) -> Result<Vec<OverdueRow>, StoreError> {
        Ok(sqlx::query_as(
            "SELECT d.id, d.attempt_rollout, d.attempt_wave, d.attempt_sequence, d.attempt_state, \
                 d.attempt_at_ms, d.attempt_deadline_ms, d.attempt_starts, d.attempt_epoch, d.cadence_ms, \
                 d.cadence_intervals, d.last_seen_at_ms, d.revoked_at_ms, p.silence_deadline_s, \
                 COALESCE(o.epoch, d.attempt_epoch) AS epoch \
             FROM devices d JOIN products p ON p.name = d.product LEFT JOIN rollouts o ON o.id = d.attempt_rollout \
             WHERE d.attempt_deadline_ms <= $1 ORDER BY d.attempt_deadline_ms LIMIT $2",
        )
        .bind(now_ms)
        .bind(limit)
        .fetch_all(&self.pool)
        .await?)
    }

    /// After the clock went back: what began or is to end by the clock of before does so by this one.
    pub(crate) async fn bring_back(&self, now_ms: i64) -> Result<(), StoreError> {
        let mut transaction = self.pool.begin().await?;
        // When to look was set by the clock of before, too.
        sqlx::query("UPDATE products SET looked_until = ''").execute(&mut *transaction).await?;
        sqlx::query("UPDATE rollouts SET wave_started_at_ms = $1 WHERE wave_started_at_ms > $1")
            .bind(now_ms)
            .execute(&mut *transaction)
            .await?;
        sqlx::query(
            "UPDATE devices SET attempt_deadline_ms = \
                 $1 + (SELECT p.silence_deadline_s FROM products p WHERE p.name = devices.product) * 1000 \
             WHERE attempt_deadline_ms > \
                 $1 + (SELECT p.silence_deadline_s FROM products p WHERE p.name = devices.product) * 1000",
        )
        .bind(now_ms)
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(())
    }
}
