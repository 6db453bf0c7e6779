//! What is kept for a time only: rows go in small batches, the oldest first. Two instances that do the same at
//! once each find less to do.

use serde_json::json;
use sqlx::AnyConnection;

use super::artifacts::BROKEN_OFF_MS;
use super::{Change, Record, Store, StoreError};
use crate::clock;

/// Name of the setting that says before which moment lines of the audit log may be deleted: the triggers ask for it.
const AUDIT_HORIZON: &str = "audit-horizon";

/// A certificate by the end of its time.
pub(crate) type End = (i64, String);

impl Store {
    /// Deletes the oldest events of before a time, at most so many; how many there were.
    pub(crate) async fn expire_events(&self, before_ms: i64, limit: i64) -> Result<u64, StoreError> {
        let expired = sqlx::query(
            "DELETE FROM events WHERE id IN (SELECT id FROM events WHERE at_ms < $1 ORDER BY at_ms, id LIMIT $2)",
        )
        .bind(before_ms)
        .bind(limit)
        .execute(&self.pool)
        .await?;
        Ok(expired.rows_affected())
    }

    /// Deletes certificates that ended before a time, past the end `after`, at most so many. What a device has last stays.
    /// Returns the last one, and how many there were; `None` when there are no more.
    pub(crate) async fn expire_certificates(
        &self,
        before_ms: i64,
        after: &End,
        limit: i64,
    ) -> Result<Option<(End, u64)>, StoreError> {
        let ended: Vec<(i64, String)> = sqlx::query_as(
            "SELECT c.not_after_ms, c.serial FROM certificates c JOIN devices d ON d.id = c.device \
             WHERE (c.not_after_ms, c.serial) > ($1, $2) AND c.not_after_ms < $3 \
                 AND COALESCE(d.certificate_serial, '') <> c.serial AND COALESCE(d.previous_serial, '') <> c.serial \
             ORDER BY c.not_after_ms, c.serial LIMIT $4",
        )
        .bind(after.0)
        .bind(&after.1)
        .bind(before_ms)
        .bind(limit)
        .fetch_all(&self.pool)
        .await?;
        let Some(last) = ended.last().cloned() else { return Ok(None) };
        let mut serials: Vec<&str> = ended.iter().map(|(_, serial)| serial.as_str()).collect();
        serials.sort_unstable();
        let mut transaction = self.pool.begin().await?;
        let mut expired = 0;
        for serial in serials {
            expired += sqlx::query("DELETE FROM certificates WHERE serial = $1")
                .bind(serial)
                .execute(&mut *transaction)
                .await?
                .rows_affected();
        }
        transaction.commit().await?;
        Ok(Some((last, expired)))
    }

    /// Deletes certificates of deleted devices that ended before a time, at most so many; how many there were.
    pub(crate) async fn expire_deleted_certificates(
        &self,
        before_ms: i64,
        limit: i64,
    ) -> Result<u64, StoreError> {
        let expired = sqlx::query(
            "DELETE FROM deleted_certificates WHERE serial IN (SELECT serial FROM deleted_certificates \
                 WHERE not_after_ms < $1 ORDER BY not_after_ms, serial LIMIT $2)",
        )
        .bind(before_ms)
        .bind(limit)
        .execute(&self.pool)
        .await?;
        Ok(expired.rows_affected())
    }

    /// Lets lines of the audit log of before a time be deleted, and writes a line about that. `false`: there are none.
    pub(crate) async fn move_audit_horizon(
        &self,
        before_ms: i64,
        change: &Change,
    ) -> Result<bool, StoreError> {
        // Whoever asks again and again only reads.
        let oldest: Option<i64> =
            sqlx::query_scalar("SELECT MIN(at_ms) FROM audit").fetch_one(&self.pool).await?;
        if oldest.is_none_or(|oldest| oldest >= before_ms) {
            return Ok(false);
        }
        let mut transaction = self.pool.begin().await?;
        if raise(&mut transaction, before_ms).await? {
            let record = Record {
                action: "audit.expire",
                kind: "audit",
                subject: "audit",
                product: None,
                before: None,
                after: Some(json!({ "deleted_before": clock::rfc3339(before_ms) })),
            };
            change.record(&mut transaction, record).await?;
        }
        transaction.commit().await?;
        Ok(true)
    }

    /// Deletes the oldest lines of the audit log that may be, at most so many; how many there were.
    pub(crate) async fn expire_audit(&self, before_ms: i64, limit: i64) -> Result<u64, StoreError> {
        let expired = sqlx::query(
            "DELETE FROM audit WHERE id IN (SELECT id FROM audit WHERE at_ms < $1 ORDER BY at_ms, id LIMIT $2)",
        )
        .bind(before_ms)
        .bind(limit)
        .execute(&self.pool)
        .await?;
        Ok(expired.rows_affected())
    }

    /// Artifacts whose deletion was broken off.
    pub(crate) async fn broken_deletions(&self, now_ms: i64) -> Result<Vec<String>, StoreError> {
        let digests =
            sqlx::query_scalar("SELECT digest FROM artifacts WHERE deleting_at_ms < $1 ORDER BY digest");
        Ok(digests.bind(now_ms.saturating_sub(BROKEN_OFF_MS)).fetch_all(&self.pool).await?)
    }
}

/// Whether the horizon was lower.
async fn raise(connection: &mut AnyConnection, before_ms: i64) -> Result<bool, StoreError> {
    let raised = sqlx::query(
        "INSERT INTO settings (name, value) VALUES ($1, $2) \
         ON CONFLICT (name) DO UPDATE SET value = excluded.value \
             WHERE CAST(settings.value AS BIGINT) < CAST(excluded.value AS BIGINT)",
    )
    .bind(AUDIT_HORIZON)
    .bind(before_ms.to_string())
    .execute(connection)
    .await?;
    Ok(raised.rows_affected() == 1)
}
