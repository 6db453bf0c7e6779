//! Table `devices`, as operators see it.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use sqlx::AnyConnection;

use super::device_row::{DEVICE_BY_ID, DeviceRow};
use super::health::refresh;
use super::{Change, Changed, Event, IfMatch, Record, Store, StoreError, Unchanged, differences};
use crate::clock;

/// A device to add.
#[derive(Clone, Debug)]
pub(crate) struct NewDevice {
    pub(crate) id: String,
    pub(crate) token_hash: String,
    pub(crate) channel: String,
    /// Sorted, each once.
    pub(crate) tags: Vec<String>,
}

/// How devices are revoked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DeviceRevocation<'a> {
    /// For operators.
    pub(crate) reason: &'a str,
    /// Only until somebody takes it back.
    pub(crate) suspends: bool,
}

/// Settings to change; `None` leaves one as it is.
#[derive(Clone, Debug)]
pub(crate) struct DeviceChange {
    pub(crate) note: Option<String>,
    pub(crate) channel: Option<String>,
    /// Sorted, each once.
    pub(crate) tags: Option<Vec<String>>,
    /// `Some(None)` takes the pin away.
    pub(crate) pinned_sequence: Option<Option<i64>>,
}

impl DeviceRevocation<'_> {
    fn action(self) -> &'static str {
        if self.suspends { "device.suspend" } else { "device.revoke" }
    }

    fn state(self) -> &'static str {
        if self.suspends { "suspended" } else { "revoked" }
    }

    /// Revokes a device that was taken for it.
    pub(super) async fn apply(
        self,
        connection: &mut AnyConnection,
        device: &DeviceRow,
        change: &Change,
    ) -> Result<(), StoreError> {
        let id = device.id.as_str();
        // Who was suspended before is revoked since then: certificates are not good in between.
        sqlx::query(
            "UPDATE devices SET revoked_at_ms = COALESCE(revoked_at_ms, $1), revoked_reason = $2, suspended = $3 \
             WHERE id = $4",
        )
        .bind(change.at_ms)
        .bind(self.reason)
        .bind(i64::from(self.suspends))
        .bind(id)
        .execute(&mut *connection)
        .await?;
        refresh(connection, &BTreeSet::from([id]), change.at_ms).await?;
        let detail = json!({ "reason": self.reason });
        Event { device: id, at_ms: change.at_ms, kind: self.state(), detail }.insert(connection).await
    }
}

impl Store {
    /// Adds devices, all or none; [`StoreError::is_duplicate`] when an id is taken.
    pub(crate) async fn add_devices(
        &self,
        devices: &[NewDevice],
        product: &str,
        note: &str,
        change: &Change,
    ) -> Result<(), StoreError> {
        let mut transaction = self.pool.begin().await?;
        for device in devices {
            sqlx::query(
                "INSERT INTO devices (id, product, note, channel, tags, token_hash, created_at_ms) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7)",
            )
            .bind(&device.id)
            .bind(product)
            .bind(note)
            .bind(&device.channel)
            .bind(json!(device.tags).to_string())
            .bind(&device.token_hash)
            .bind(change.at_ms)
            .execute(&mut *transaction)
            .await?;
            insert_tags(&mut transaction, &device.id, &device.tags).await?;
            let event = Event { device: &device.id, at_ms: change.at_ms, kind: "created", detail: json!({}) };
            event.insert(&mut transaction).await?;
        }
        let settings = |device: &NewDevice| json!({ "channel": device.channel, "tags": device.tags });
        // What all have alike stands once.
        let first = devices.first().map_or(Value::Null, settings);
        let is_alike = devices.iter().all(|device| settings(device) == first);
        let mut after = if is_alike { first } else { json!({}) };
        after["note"] = json!(note);
        let (action, kind, subject) = match devices {
            [device] => ("device.create", "device", device.id.as_str()),
            _ => {
                let ids: Vec<_> = devices.iter().map(|device| device.id.as_str()).collect();
                after["devices"] = json!(ids);
                if !is_alike {
                    after["settings"] = devices.iter().map(settings).collect();
                }
                ("device.create-bulk", "product", product)
            }
        };
        let record =
            Record { action, kind, subject, product: Some(product), before: None, after: Some(after) };
        change.record(&mut transaction, record).await?;
        transaction.commit().await?;
        Ok(())
    }

    /// A device by its id.
    pub(crate) async fn device(&self, id: &str) -> Result<Option<DeviceRow>, StoreError> {
        Ok(sqlx::query_as(DEVICE_BY_ID).bind(id).fetch_optional(&self.pool).await?)
    }

    /// Changes the settings of a device.
    pub(crate) async fn change_device(
        &self,
        id: &str,
        settings: DeviceChange,
        change: &Change,
        if_match: &IfMatch,
    ) -> Result<Changed<DeviceRow>, StoreError> {
        let mut transaction = self.pool.begin().await?;
        let before = match take(&mut transaction, id, if_match).await? {
            Changed::Done(before) => before,
            Changed::Not(why) => return Ok(Changed::Not(why)),
        };
        let after = DeviceRow {
            note: settings.note.unwrap_or_else(|| before.note.clone()),
            channel: settings.channel.unwrap_or_else(|| before.channel.clone()),
            tags: settings.tags.as_ref().map_or_else(|| before.tags.clone(), |tags| json!(tags).to_string()),
            pinned_sequence: settings.pinned_sequence.unwrap_or(before.pinned_sequence),
            ..before.clone()
        };
        store_settings(&mut transaction, &after, settings.tags.as_deref()).await?;
        let (was, is) = differences(&before.settings(), &after.settings());
        record(&mut transaction, change, "device.change", &before, was, is).await?;
        transaction.commit().await?;
        Ok(Changed::Done(after))
    }

    /// Revokes a device, once. `false`: it is revoked for good, and cannot be suspended.
    pub(crate) async fn revoke_device(
        &self,
        id: &str,
        revocation: DeviceRevocation<'_>,
        change: &Change,
        if_match: &IfMatch,
    ) -> Result<Changed<bool>, StoreError> {
        let mut transaction = self.pool.begin().await?;
        let before = match take(&mut transaction, id, if_match).await? {
            Changed::Done(before) => before,
            Changed::Not(why) => return Ok(Changed::Not(why)),
        };
        let is_final = before.revoked_at_ms.is_some() && !before.is_suspended();
        if is_final || (before.is_suspended() && revocation.suspends) {
            return Ok(Changed::Done(!(is_final && revocation.suspends)));
        }
        revocation.apply(&mut transaction, &before, change).await?;
        let was = json!({ "state": before.standing() });
        let is = json!({ "state": revocation.state(), "reason": revocation.reason });
        record(&mut transaction, change, revocation.action(), &before, was, is).await?;
        transaction.commit().await?;
        Ok(Changed::Done(true))
    }

    /// Takes the suspension of a device back. `false`: it is revoked for good.
    pub(crate) async fn resume_device(
        &self,
        id: &str,
        change: &Change,
        if_match: &IfMatch,
    ) -> Result<Changed<bool>, StoreError> {
        let mut transaction = self.pool.begin().await?;
        let before = match take(&mut transaction, id, if_match).await? {
            Changed::Done(before) => before,
            Changed::Not(why) => return Ok(Changed::Not(why)),
        };
        if !before.is_suspended() {
            return Ok(Changed::Done(before.revoked_at_ms.is_none()));
        }
        resume(&mut transaction, id, change).await?;
        let was = json!({ "state": before.standing(), "reason": before.revoked_reason });
        let is = json!({ "state": DeviceRow { revoked_at_ms: None, ..before.clone() }.state() });
        record(&mut transaction, change, "device.resume", &before, was, is).await?;
        transaction.commit().await?;
        Ok(Changed::Done(true))
    }

    /// Gives a device that is not revoked a new enrollment token; the old one is void. `false`: it is revoked.
    pub(crate) async fn renew_token(
        &self,
        id: &str,
        token_hash: &str,
        change: &Change,
        if_match: &IfMatch,
    ) -> Result<Changed<bool>, StoreError> {
        let mut transaction = self.pool.begin().await?;
        let before = match take(&mut transaction, id, if_match).await? {
            Changed::Done(before) => before,
            Changed::Not(why) => return Ok(Changed::Not(why)),
        };
        if before.revoked_at_ms.is_some() {
            return Ok(Changed::Done(false));
        }
        sqlx::query(
            "UPDATE devices SET token_hash = $1, token_redeemed_key = NULL, token_void_at_ms = NULL \
             WHERE id = $2",
        )
        .bind(token_hash)
        .bind(id)
        .execute(&mut *transaction)
        .await?;
        record(&mut transaction, change, "device.renew-token", &before, Value::Null, Value::Null).await?;
        let event = Event { device: id, at_ms: change.at_ms, kind: "token-renewed", detail: json!({}) };
        event.insert(&mut transaction).await?;
        transaction.commit().await?;
        Ok(Changed::Done(true))
    }

    /// Approves the enrollment of a device, once. `false`: it is revoked.
    pub(crate) async fn approve_device(
        &self,
        id: &str,
        change: &Change,
        if_match: &IfMatch,
    ) -> Result<Changed<bool>, StoreError> {
        let mut transaction = self.pool.begin().await?;
        let before = match take(&mut transaction, id, if_match).await? {
            Changed::Done(before) => before,
            Changed::Not(why) => return Ok(Changed::Not(why)),
        };
        if before.revoked_at_ms.is_some() || before.approved_at_ms.is_some() {
            return Ok(Changed::Done(before.revoked_at_ms.is_none()));
        }
        approve(&mut transaction, id, change).await?;
        let is = json!({ "approved_at": clock::rfc3339(change.at_ms) });
        record(&mut transaction, change, "device.approve", &before, json!({ "approved_at": null }), is)
            .await?;
        transaction.commit().await?;
        Ok(Changed::Done(true))
    }

    /// Forgets the failures of a device: the release is offered to it again.
    pub(crate) async fn clear_quarantine(
        &self,
        id: &str,
        change: &Change,
        if_match: &IfMatch,
    ) -> Result<Changed<()>, StoreError> {
        let mut transaction = self.pool.begin().await?;
        let before = match take(&mut transaction, id, if_match).await? {
            Changed::Done(before) => before,
            Changed::Not(why) => return Ok(Changed::Not(why)),
        };
        if before.failed_sequence.is_none() && before.quarantined_at_ms.is_none() {
            return Ok(Changed::Done(()));
        }
        sqlx::query(
            "UPDATE devices SET failed_sequence = NULL, failed_count = 0, failed_at_ms = NULL, \
                 quarantined_at_ms = NULL \
             WHERE id = $1",
        )
        .bind(id)
        .execute(&mut *transaction)
        .await?;
        refresh(&mut transaction, &BTreeSet::from([id]), change.at_ms).await?;
        let was = json!({
            "sequence": before.failed_sequence,
            "count": before.failed_count,
            "quarantined_at": before.quarantined_at_ms.map(clock::rfc3339),
        });
        record(&mut transaction, change, "device.clear-quarantine", &before, was, Value::Null).await?;
        let detail = json!({ "sequence": before.failed_sequence });
        Event { device: id, at_ms: change.at_ms, kind: "quarantine-cleared", detail }
            .insert(&mut transaction)
            .await?;
        transaction.commit().await?;
        Ok(Changed::Done(()))
    }
}

/// Takes a device for a change, at the beginning of a transaction: nobody else changes it until that ends. The row is as
/// it was, but for the revision, which is the new one. Ending the transaction without a commit gives it back.
pub(super) async fn take(
    connection: &mut AnyConnection,
    id: &str,
    if_match: &IfMatch,
) -> Result<Changed<DeviceRow>, StoreError> {
    let taken = sqlx::query("UPDATE devices SET revision = revision + 1 WHERE id = $1")
        .bind(id)
        .execute(&mut *connection)
        .await?;
    if taken.rows_affected() == 0 {
        return Ok(Changed::Not(Unchanged::NotFound));
    }
    let row: DeviceRow = sqlx::query_as(DEVICE_BY_ID).bind(id).fetch_one(connection).await?;
    let revision = row.revision - 1;
    Ok(match if_match.allows(revision) {
        true => Changed::Done(row),
        false => Changed::Not(Unchanged::Stale { revision }),
    })
}

/// Approves a device that was taken for it.
pub(super) async fn approve(
    connection: &mut AnyConnection,
    id: &str,
    change: &Change,
) -> Result<(), StoreError> {
    sqlx::query("UPDATE devices SET approved_at_ms = $1 WHERE id = $2")
        .bind(change.at_ms)
        .bind(id)
        .execute(&mut *connection)
        .await?;
    let event = Event { device: id, at_ms: change.at_ms, kind: "approved", detail: json!({}) };
    event.insert(connection).await
}

/// Takes the suspension back of a device that was taken for it.
pub(super) async fn resume(
    connection: &mut AnyConnection,
    id: &str,
    change: &Change,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE devices SET revoked_at_ms = NULL, revoked_reason = NULL, suspended = 0 WHERE id = $1",
    )
    .bind(id)
    .execute(&mut *connection)
    .await?;
    refresh(connection, &BTreeSet::from([id]), change.at_ms).await?;
    let event = Event { device: id, at_ms: change.at_ms, kind: "resumed", detail: json!({}) };
    event.insert(connection).await
}

/// Stores what operators set of a device that was taken for it; `tags` are those of the row, when they are others than before.
pub(super) async fn store_settings(
    connection: &mut AnyConnection,
    device: &DeviceRow,
    tags: Option<&[String]>,
) -> Result<(), StoreError> {
    sqlx::query("UPDATE devices SET note = $1, channel = $2, tags = $3, pinned_sequence = $4 WHERE id = $5")
        .bind(&device.note)
        .bind(&device.channel)
        .bind(&device.tags)
        .bind(device.pinned_sequence)
        .bind(&device.id)
        .execute(&mut *connection)
        .await?;
    let Some(tags) = tags else { return Ok(()) };
    sqlx::query("DELETE FROM device_tags WHERE device = $1")
        .bind(&device.id)
        .execute(&mut *connection)
        .await?;
    insert_tags(connection, &device.id, tags).await
}

async fn insert_tags(
    connection: &mut AnyConnection,
    device: &str,
    tags: &[String],
) -> Result<(), StoreError> {
    for tag in tags {
        sqlx::query("INSERT INTO device_tags (tag, device) VALUES ($1, $2)")
            .bind(tag)
            .bind(device)
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

pub(super) async fn record(
    connection: &mut AnyConnection,
    change: &Change,
    action: &'static str,
    device: &DeviceRow,
    before: Value,
    after: Value,
) -> Result<(), StoreError> {
    let some = |value: Value| (!value.is_null()).then_some(value);
    let record = Record {
        action,
        kind: "device",
        subject: &device.id,
        product: Some(&device.product),
        before: some(before),
        after: some(after),
    };
    change.record(connection, record).await
}
