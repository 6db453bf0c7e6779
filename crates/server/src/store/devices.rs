//! Table `devices`, as the admin API sees it.

use serde_json::json;

use super::{Event, Store, StoreError};

/// A device with its current certificate.
#[derive(Clone, Debug, sqlx::FromRow)]
pub(crate) struct DeviceRow {
    pub(crate) id: String,
    pub(crate) product: String,
    pub(crate) note: String,
    pub(crate) created_at_ms: i64,
    pub(crate) enrolled_at_ms: Option<i64>,
    pub(crate) revoked_at_ms: Option<i64>,
    pub(crate) revoked_reason: Option<String>,
    pub(crate) last_seen_at_ms: Option<i64>,
    pub(crate) certificate_serial: Option<String>,
    pub(crate) certificate_not_before_ms: Option<i64>,
    pub(crate) certificate_not_after_ms: Option<i64>,
    pub(crate) running_digest: Option<String>,
    pub(crate) running_sequence: Option<i64>,
    pub(crate) running_version: Option<String>,
    /// JSON list of slots.
    pub(crate) slots: Option<String>,
    pub(crate) updater_version: Option<String>,
    pub(crate) reset_cause: Option<String>,
    pub(crate) starts: Option<i64>,
    pub(crate) strategy: Option<String>,
    pub(crate) free_heap_bytes: Option<i64>,
    pub(crate) critical_errors: Option<i64>,
    pub(crate) last_critical: Option<i64>,
    pub(crate) outcome_sequence: Option<i64>,
    pub(crate) outcome_code: Option<i64>,
    pub(crate) outcome_at_ms: Option<i64>,
}

/// A device to add.
#[derive(Clone, Debug)]
pub(crate) struct NewDevice<'a> {
    pub(crate) id: &'a str,
    pub(crate) product: &'a str,
    pub(crate) note: &'a str,
    pub(crate) token_hash: &'a str,
}

/// The columns of [`DeviceRow`] for devices that fit: `$1` the id or empty, `$2` the product or empty, `$3` the id
/// past which to start, `$4` how many, `$5` the product that the reader is bound to, or empty.
const SELECT_DEVICES: &str = "SELECT d.id, d.product, d.note, d.created_at_ms, d.enrolled_at_ms, d.revoked_at_ms, \
         d.revoked_reason, d.last_seen_at_ms, d.certificate_serial, \
         c.not_before_ms AS certificate_not_before_ms, c.not_after_ms AS certificate_not_after_ms, \
         d.running_digest, d.running_sequence, d.running_version, d.slots, d.updater_version, d.reset_cause, \
         d.starts, d.strategy, d.free_heap_bytes, d.critical_errors, d.last_critical, d.outcome_sequence, \
         d.outcome_code, d.outcome_at_ms \
     FROM devices d LEFT JOIN certificates c ON c.serial = d.certificate_serial \
     WHERE ($1 = '' OR d.id = $1) AND ($2 = '' OR d.product = $2) AND ($5 = '' OR d.product = $5) AND d.id > $3 ORDER BY d.id LIMIT $4";

impl Store {
    /// Adds a device; [`StoreError::is_duplicate`] when the id is taken.
    pub(crate) async fn add_device(&self, device: &NewDevice<'_>, now_ms: i64) -> Result<(), StoreError> {
        let mut transaction = self.pool.begin().await?;
        sqlx::query(
            "INSERT INTO devices (id, product, note, token_hash, created_at_ms) VALUES ($1, $2, $3, $4, $5)",
        )
        .bind(device.id)
        .bind(device.product)
        .bind(device.note)
        .bind(device.token_hash)
        .bind(now_ms)
        .execute(&mut *transaction)
        .await?;
        let event = Event { device: device.id, at_ms: now_ms, kind: "created", detail: json!({}) };
        event.insert(&mut transaction).await?;
        transaction.commit().await?;
        Ok(())
    }

    /// A device by its id.
    pub(crate) async fn device(&self, id: &str) -> Result<Option<DeviceRow>, StoreError> {
        if id.is_empty() {
            return Ok(None);
        }
        Ok(self.select_devices(id, "", "", "", 1).await?.into_iter().next())
    }

    /// Devices in the order of their ids, past `after`; of all products when `product` is empty.
    pub(crate) async fn devices(
        &self,
        scope: &str,
        product: &str,
        after: &str,
        limit: i64,
    ) -> Result<Vec<DeviceRow>, StoreError> {
        self.select_devices("", scope, product, after, limit).await
    }

    async fn select_devices(
        &self,
        id: &str,
        scope: &str,
        product: &str,
        after: &str,
        limit: i64,
    ) -> Result<Vec<DeviceRow>, StoreError> {
        Ok(sqlx::query_as(SELECT_DEVICES)
            .bind(id)
            .bind(product)
            .bind(after)
            .bind(limit)
            .bind(scope)
            .fetch_all(&self.pool)
            .await?)
    }

    /// Revokes a device, once; `false` when there is no such device.
    pub(crate) async fn revoke_device(
        &self,
        id: &str,
        reason: &str,
        now_ms: i64,
    ) -> Result<bool, StoreError> {
        let mut transaction = self.pool.begin().await?;
        let revoked = sqlx::query(
            "UPDATE devices SET revoked_at_ms = $1, revoked_reason = $2 \
             WHERE id = $3 AND revoked_at_ms IS NULL",
        )
        .bind(now_ms)
        .bind(reason)
        .bind(id)
        .execute(&mut *transaction)
        .await?
        .rows_affected();
        if revoked == 1 {
            let detail = json!({ "reason": reason });
            Event { device: id, at_ms: now_ms, kind: "revoked", detail }.insert(&mut transaction).await?;
        }
        transaction.commit().await?;
        Ok(revoked == 1 || self.device(id).await?.is_some())
    }

    /// Gives a device that is not revoked a new enrollment token; the old one is void. `false`: there is no such
    /// device, or it is revoked.
    pub(crate) async fn renew_token(
        &self,
        id: &str,
        token_hash: &str,
        now_ms: i64,
    ) -> Result<bool, StoreError> {
        let mut transaction = self.pool.begin().await?;
        let renewed = sqlx::query(
            "UPDATE devices SET token_hash = $1, token_redeemed_key = NULL, token_void_at_ms = NULL \
             WHERE id = $2 AND revoked_at_ms IS NULL",
        )
        .bind(token_hash)
        .bind(id)
        .execute(&mut *transaction)
        .await?
        .rows_affected();
        if renewed == 1 {
            Event { device: id, at_ms: now_ms, kind: "token-renewed", detail: json!({}) }
                .insert(&mut transaction)
                .await?;
        }
        transaction.commit().await?;
        Ok(renewed == 1)
    }
}
