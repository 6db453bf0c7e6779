//! Deleting devices and products. The lines of the audit log stay.

use api::device::DeviceState;
use serde_json::{Value, json};
use sqlx::AnyConnection;

use super::devices::{record, take};
use super::product_row;
use super::{Change, Changed, DeviceRow, IfMatch, Record, Store, StoreError};

/// How the deletion of a device ended.
#[derive(Clone, Debug)]
pub(crate) enum DeviceDeletion {
    /// As it was.
    Done(Box<DeviceRow>),
    /// It is enrolled or suspended, and has to be revoked first; nothing was changed.
    Enrolled,
}

/// How the deletion of a product ended.
#[derive(Clone, Debug)]
pub(crate) enum ProductDeletion {
    Done,
    /// It has devices or releases, counted up to [`MAX_COUNTED`]; nothing was changed.
    InUse {
        devices: i64,
        releases: i64,
    },
}

/// Devices and releases that stand in the way are counted so far.
pub(crate) const MAX_COUNTED: i64 = 1000;

/// What goes with a device; its certificates stay revoked.
const WITH_A_DEVICE: [&str; 6] = [
    "INSERT INTO deleted_certificates (serial, device, issuer, not_after_ms, revoked_at_ms) \
     SELECT c.serial, c.device, c.issuer, c.not_after_ms, COALESCE(d.revoked_at_ms, $2) \
     FROM certificates c JOIN devices d ON d.id = c.device WHERE c.device = $1 AND c.not_after_ms > $2",
    "INSERT INTO deleted_devices (id, deleted_at_ms) VALUES ($1, $2) \
     ON CONFLICT (id) DO UPDATE SET deleted_at_ms = excluded.deleted_at_ms",
    "DELETE FROM device_tags WHERE device = $1 AND $2 > 0",
    "DELETE FROM events WHERE device = $1 AND $2 > 0",
    "DELETE FROM certificates WHERE device = $1 AND $2 > 0",
    "DELETE FROM devices WHERE id = $1 AND $2 > 0",
];

/// What goes with a product. Its artifacts are those of no product from then on.
const WITH_A_PRODUCT: [&str; 10] = [
    "UPDATE artifacts SET product = '' WHERE product = $1",
    "DELETE FROM webhook_deliveries WHERE webhook IN (SELECT id FROM webhooks WHERE product = $1)",
    "DELETE FROM webhooks WHERE product = $1",
    "DELETE FROM sessions WHERE token IN (SELECT id FROM api_tokens WHERE product = $1)",
    "DELETE FROM api_tokens WHERE product = $1",
    "DELETE FROM channels WHERE product = $1",
    "DELETE FROM publisher_keys WHERE product = $1",
    "DELETE FROM fleet_samples WHERE product = $1",
    "INSERT INTO deleted_products (name, generation) SELECT name, generation FROM products WHERE name = $1 \
     ON CONFLICT (name) DO UPDATE SET generation = excluded.generation",
    "DELETE FROM products WHERE name = $1",
];

/// Deletes a device that was taken, and may be deleted.
pub(super) async fn delete(connection: &mut AnyConnection, id: &str, at_ms: i64) -> Result<(), StoreError> {
    for statement in WITH_A_DEVICE {
        sqlx::query(statement).bind(id).bind(at_ms).execute(&mut *connection).await?;
    }
    Ok(())
}

impl Store {
    /// Deletes a device that is not enrolled, or revoked. Its events go with it.
    pub(crate) async fn delete_device(
        &self,
        id: &str,
        change: &Change,
        if_match: &IfMatch,
    ) -> Result<Changed<DeviceDeletion>, StoreError> {
        let mut transaction = self.pool.begin().await?;
        let before = match take(&mut transaction, id, if_match).await? {
            Changed::Done(before) => before,
            Changed::Not(why) => return Ok(Changed::Not(why)),
        };
        if before.state() == DeviceState::Enrolled || before.is_suspended() {
            return Ok(Changed::Done(DeviceDeletion::Enrolled));
        }
        delete(&mut transaction, id, change.at_ms).await?;
        let was = json!({
            "state": before.state(),
            "note": before.note,
            "channel": before.channel,
            "certificate": before.certificate_serial,
        });
        record(&mut transaction, change, "device.delete", &before, was, Value::Null).await?;
        transaction.commit().await?;
        Ok(Changed::Done(DeviceDeletion::Done(Box::new(before))))
    }

    /// Deletes a product without devices and releases. Its channels, publisher keys, tokens and webhooks go with it.
    pub(crate) async fn delete_product(
        &self,
        name: &str,
        change: &Change,
        if_match: &IfMatch,
    ) -> Result<Changed<ProductDeletion>, StoreError> {
        let mut transaction = self.pool.begin().await?;
        let before = match product_row::take(&mut transaction, name, if_match).await? {
            Changed::Done(before) => before,
            Changed::Not(why) => return Ok(Changed::Not(why)),
        };
        let mut counts = [0; 2];
        for (count, statement) in counts.iter_mut().zip([
            "SELECT CAST(COUNT(*) AS BIGINT) FROM (SELECT id FROM devices WHERE product = $1 LIMIT $2) AS counted",
            "SELECT CAST(COUNT(*) AS BIGINT) FROM \
                 (SELECT sequence FROM releases WHERE product = $1 LIMIT $2) AS counted",
        ]) {
            *count = sqlx::query_scalar(statement)
                .bind(name)
                .bind(MAX_COUNTED)
                .fetch_one(&mut *transaction)
                .await?;
        }
        let [devices, releases] = counts;
        if devices > 0 || releases > 0 {
            return Ok(Changed::Done(ProductDeletion::InUse { devices, releases }));
        }
        let mut was = json!({ "chip": before.chip, "layout": before.layout_name });
        for (kind, statement) in [
            ("tokens", "SELECT id FROM api_tokens WHERE product = $1 ORDER BY id"),
            ("webhooks", "SELECT id FROM webhooks WHERE product = $1 ORDER BY id"),
            ("publisher_keys", "SELECT key_hex FROM publisher_keys WHERE product = $1 ORDER BY key_hex"),
        ] {
            let found: Vec<String> =
                sqlx::query_scalar(statement).bind(name).fetch_all(&mut *transaction).await?;
            was[kind] = json!(found);
        }
        for statement in WITH_A_PRODUCT {
            sqlx::query(statement).bind(name).execute(&mut *transaction).await?;
        }
        let record = Record {
            action: "product.delete",
            kind: "product",
            subject: name,
            product: Some(name),
            before: Some(was),
            after: None,
        };
        change.record(&mut transaction, record).await?;
        transaction.commit().await?;
        Ok(Changed::Done(ProductDeletion::Done))
    }
}
