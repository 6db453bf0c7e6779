//! Table `devices`, as check-ins and reports see it.

use super::{Event, Store, StoreError};

/// What is known of a device when it makes a request, found by the serial number of its certificate.
#[derive(Clone, Debug, sqlx::FromRow)]
pub(crate) struct Known {
    pub(crate) id: String,
    pub(crate) product: String,
    pub(crate) revoked_reason: Option<String>,
    pub(crate) certificate_serial: Option<String>,
    pub(crate) previous_serial: Option<String>,
    pub(crate) token_redeemed_key: Option<String>,
    pub(crate) token_void_at_ms: Option<i64>,
    pub(crate) running_digest: Option<String>,
    pub(crate) updater_version: Option<String>,
    pub(crate) outcome_sequence: Option<i64>,
    pub(crate) outcome_code: Option<i64>,
    pub(crate) outcome_at_ms: Option<i64>,
}

/// What a check-in tells.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) at_ms: i64,
    pub(crate) chip_id: i64,
    pub(crate) running_digest: Option<String>,
    pub(crate) running_sequence: Option<i64>,
    pub(crate) running_version: Option<String>,
    /// JSON list of slots.
    pub(crate) slots: String,
    pub(crate) updater_version: String,
    pub(crate) reset_cause: &'static str,
    pub(crate) starts: i64,
    pub(crate) strategy: &'static str,
    pub(crate) free_heap_bytes: Option<i64>,
    pub(crate) critical_errors: i64,
    pub(crate) last_critical: Option<i64>,
    pub(crate) outcome: Option<SeenOutcome>,
}

/// An outcome, and when the server first heard of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SeenOutcome {
    pub(crate) sequence: Option<i64>,
    pub(crate) code: i64,
    pub(crate) at_ms: i64,
}

impl Known {
    /// The last outcome that the device told of.
    pub(crate) fn outcome(&self) -> Option<SeenOutcome> {
        let (code, at_ms) = self.outcome_code.zip(self.outcome_at_ms)?;
        Some(SeenOutcome { sequence: self.outcome_sequence, code, at_ms })
    }
}

impl Store {
    /// The device that a certificate was issued to.
    pub(crate) async fn device_by_serial(&self, serial: &str) -> Result<Option<Known>, StoreError> {
        Ok(sqlx::query_as(
            "SELECT d.id, d.product, d.revoked_reason, d.certificate_serial, d.previous_serial, \
                 d.token_redeemed_key, d.token_void_at_ms, d.running_digest, d.updater_version, \
                 d.outcome_sequence, d.outcome_code, d.outcome_at_ms \
             FROM certificates c JOIN devices d ON d.id = c.device WHERE c.serial = $1",
        )
        .bind(serial)
        .fetch_optional(&self.pool)
        .await?)
    }

    /// Stores what a check-in tells: one UPDATE, and an event when something changed.
    pub(crate) async fn check_in(
        &self,
        device: &str,
        seen: &Seen,
        event: Option<Event<'_>>,
    ) -> Result<(), StoreError> {
        let update = sqlx::query(
            "UPDATE devices SET last_seen_at_ms = $1, chip_id = $2, running_digest = $3, \
                 running_sequence = $4, running_version = $5, slots = $6, updater_version = $7, \
                 reset_cause = $8, starts = $9, strategy = $10, free_heap_bytes = $11, critical_errors = $12, \
                 last_critical = $13, outcome_sequence = $14, outcome_code = $15, outcome_at_ms = $16 \
             WHERE id = $17",
        )
        .bind(seen.at_ms)
        .bind(seen.chip_id)
        .bind(&seen.running_digest)
        .bind(seen.running_sequence)
        .bind(&seen.running_version)
        .bind(&seen.slots)
        .bind(&seen.updater_version)
        .bind(seen.reset_cause)
        .bind(seen.starts)
        .bind(seen.strategy)
        .bind(seen.free_heap_bytes)
        .bind(seen.critical_errors)
        .bind(seen.last_critical)
        .bind(seen.outcome.and_then(|outcome| outcome.sequence))
        .bind(seen.outcome.map(|outcome| outcome.code))
        .bind(seen.outcome.map(|outcome| outcome.at_ms))
        .bind(device);
        match event {
            None => {
                update.execute(&self.pool).await?;
            }
            Some(event) => {
                let mut transaction = self.pool.begin().await?;
                update.execute(&mut *transaction).await?;
                event.insert(&mut transaction).await?;
                transaction.commit().await?;
            }
        }
        Ok(())
    }

    /// Stores what a report tells; `installed_sequence` is the release that was installed, if one was.
    pub(crate) async fn report(
        &self,
        outcome: SeenOutcome,
        installed_sequence: Option<i64>,
        running_digest: Option<&str>,
        event: Event<'_>,
    ) -> Result<(), StoreError> {
        let mut transaction = self.pool.begin().await?;
        // Only a check-in knows the version of what runs.
        sqlx::query(
            "UPDATE devices SET last_seen_at_ms = $1, outcome_sequence = $2, outcome_code = $3, \
                 outcome_at_ms = $1, \
                 running_sequence = CASE WHEN running_digest = $4 THEN running_sequence ELSE $5 END, \
                 running_version = CASE WHEN running_digest = $4 THEN running_version ELSE NULL END, \
                 running_digest = $4 \
             WHERE id = $6",
        )
        .bind(outcome.at_ms)
        .bind(outcome.sequence)
        .bind(outcome.code)
        .bind(running_digest)
        .bind(installed_sequence)
        .bind(event.device)
        .execute(&mut *transaction)
        .await?;
        event.insert(&mut transaction).await?;
        transaction.commit().await?;
        Ok(())
    }
}
