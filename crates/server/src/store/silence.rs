//! Table `devices`, as the search for silent ones sees it.

use super::check_ins::AttemptColumns;
use super::{AttemptRow, Store, StoreError};

/// A device whose deadline passed.
#[derive(Clone, Debug, sqlx::FromRow)]
pub(crate) struct OverdueRow {
    pub(crate) id: String,
    #[sqlx(flatten)]
    attempt: AttemptColumns,
    last_seen_at_ms: Option<i64>,
    revoked_at_ms: Option<i64>,
    /// Of the product.
    silence_deadline_s: i64,
}

impl OverdueRow {
    pub(crate) fn attempt(&self) -> Option<AttemptRow> {
        self.attempt.row()
    }

    /// Nobody waits for a revoked device.
    pub(crate) fn is_revoked(&self) -> bool {
        self.revoked_at_ms.is_some()
    }

    /// The deadline as it follows from when the device was last seen. Check-ins do not write deadlines.
    pub(crate) fn deadline_ms(&self) -> i64 {
        self.last_seen_at_ms.unwrap_or_default().saturating_add(self.silence_deadline_s.saturating_mul(1000))
    }
}

impl Store {
    /// Devices whose deadline passed, the longest overdue first: found by an index.
    pub(crate) async fn overdue(&self, now_ms: i64, limit: i64) -> Result<Vec<OverdueRow>, StoreError> {
        Ok(sqlx::query_as(
            "SELECT d.id, d.attempt_rollout, d.attempt_wave, d.attempt_sequence, d.attempt_state, \
                 d.attempt_at_ms, d.attempt_deadline_ms, d.attempt_starts, d.last_seen_at_ms, d.revoked_at_ms, \
                 p.silence_deadline_s \
             FROM devices d JOIN products p ON p.name = d.product \
             WHERE d.attempt_deadline_ms <= $1 ORDER BY d.attempt_deadline_ms LIMIT $2",
        )
        .bind(now_ms)
        .bind(limit)
        .fetch_all(&self.pool)
        .await?)
    }
}
