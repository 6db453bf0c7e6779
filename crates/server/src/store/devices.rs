//! Table `devices`, as operators see it.

use serde_json::{Value, json};
use sqlx::AnyConnection;

use super::health::health_sql;
use super::{
    Change, Changed, Event, IfMatch, Record, Store, StoreError, Unchanged, differences, json_or_text,
};
use crate::clock;

/// A device with its current certificate.
#[derive(Clone, Debug, sqlx::FromRow)]
pub(crate) struct DeviceRow {
    pub(crate) id: String,
    pub(crate) product: String,
    pub(crate) note: String,
    pub(crate) channel: String,
    /// JSON list of texts.
    pub(crate) tags: String,
    pub(crate) pinned_sequence: Option<i64>,
    pub(crate) health: String,
    pub(crate) created_at_ms: i64,
    pub(crate) approved_at_ms: Option<i64>,
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
    pub(crate) attempt_rollout: Option<String>,
    pub(crate) attempt_wave: Option<i64>,
    pub(crate) attempt_sequence: Option<i64>,
    pub(crate) attempt_state: Option<String>,
    pub(crate) attempt_at_ms: Option<i64>,
    pub(crate) failed_sequence: Option<i64>,
    pub(crate) failed_count: i64,
    pub(crate) quarantined_at_ms: Option<i64>,
    pub(crate) revision: i64,
}

/// A device to add.
#[derive(Clone, Debug)]
pub(crate) struct NewDevice {
    pub(crate) id: String,
    pub(crate) token_hash: String,
}

/// What devices to add have in common.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NewDevices<'a> {
    pub(crate) product: &'a str,
    pub(crate) note: &'a str,
    pub(crate) channel: &'a str,
    /// Sorted, each once.
    pub(crate) tags: &'a [String],
}

/// Which devices; empty texts fit all.
#[derive(Clone, Debug, Default)]
pub(crate) struct DeviceFilter {
    /// The product that the reader is bound to.
    pub(crate) scope: String,
    pub(crate) product: String,
    pub(crate) channel: String,
    pub(crate) tag: String,
    pub(crate) state: String,
    pub(crate) health: String,
    /// Sequence number of the release that it runs.
    pub(crate) sequence: Option<i64>,
    /// Part of the id.
    pub(crate) part: String,
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

/// The columns of [`DeviceRow`]; `$1` is the time.
macro_rules! select_devices {
    ($rest:literal) => {
        concat!(
            "SELECT d.id, d.product, d.note, d.channel, d.tags, d.pinned_sequence, d.created_at_ms, \
                 d.approved_at_ms, d.enrolled_at_ms, d.revoked_at_ms, d.revoked_reason, d.last_seen_at_ms, \
                 d.certificate_serial, c.not_before_ms AS certificate_not_before_ms, \
                 c.not_after_ms AS certificate_not_after_ms, d.running_digest, d.running_sequence, \
                 d.running_version, d.slots, d.updater_version, d.reset_cause, d.starts, d.strategy, \
                 d.free_heap_bytes, d.critical_errors, d.last_critical, d.outcome_sequence, d.outcome_code, \
                 d.outcome_at_ms, d.attempt_rollout, d.attempt_wave, d.attempt_sequence, d.attempt_state, \
                 d.attempt_at_ms, d.failed_sequence, d.failed_count, d.quarantined_at_ms, d.revision, ",
            health_sql!("$1"),
            " AS health \
             FROM devices d JOIN products p ON p.name = d.product \
             LEFT JOIN certificates c ON c.serial = d.certificate_serial ",
            $rest
        )
    };
}

const DEVICE_BY_ID: &str = select_devices!("WHERE d.id = $2");

/// The expressions are those of `state` and of [`DeviceRow::health`].
const DEVICES: &str = concat!(
    select_devices!(
        "WHERE d.id > $2 AND ($3 = '' OR d.product = $3) AND ($4 = '' OR d.product = $4) \
             AND ($5 = '' OR d.channel = $5) \
             AND ($6 = '' OR EXISTS (SELECT 1 FROM device_tags t WHERE t.tag = $6 AND t.device = d.id)) \
             AND ($7 = '' OR $7 = CASE WHEN d.revoked_at_ms IS NOT NULL THEN 'revoked' \
                 WHEN d.enrolled_at_ms IS NOT NULL THEN 'enrolled' ELSE 'new' END) \
             AND ($8 = '' OR $8 = "
    ),
    health_sql!("$1"),
    ") AND ($9 < 0 OR d.running_sequence = $9) \
         AND ($10 = '' OR LOWER(d.id) LIKE $10 ESCAPE '!') \
     ORDER BY d.id LIMIT $11"
);

impl DeviceRow {
    /// Where it is between made and revoked.
    pub(crate) fn state(&self) -> &'static str {
        match (self.revoked_at_ms, self.enrolled_at_ms) {
            (Some(_), _) => "revoked",
            (None, Some(_)) => "enrolled",
            (None, None) => "new",
        }
    }

    /// What operators set, as an audit line tells it.
    fn settings(&self) -> Value {
        json!({
            "note": self.note,
            "channel": self.channel,
            "tags": json_or_text(&self.tags),
            "pinned_sequence": self.pinned_sequence,
        })
    }
}

impl Store {
    /// Adds devices, all or none; [`StoreError::is_duplicate`] when an id is taken.
    pub(crate) async fn add_devices(
        &self,
        devices: &[NewDevice],
        common: NewDevices<'_>,
        change: &Change,
    ) -> Result<(), StoreError> {
        let NewDevices { product, note, channel, tags } = common;
        let tags_json = json!(tags).to_string();
        let mut transaction = self.pool.begin().await?;
        for device in devices {
            sqlx::query(
                "INSERT INTO devices (id, product, note, channel, tags, token_hash, created_at_ms) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7)",
            )
            .bind(&device.id)
            .bind(product)
            .bind(note)
            .bind(channel)
            .bind(&tags_json)
            .bind(&device.token_hash)
            .bind(change.at_ms)
            .execute(&mut *transaction)
            .await?;
            insert_tags(&mut transaction, &device.id, tags).await?;
            let event = Event { device: &device.id, at_ms: change.at_ms, kind: "created", detail: json!({}) };
            event.insert(&mut transaction).await?;
        }
        let mut after = json!({ "note": note, "channel": channel, "tags": tags });
        let (action, kind, subject) = match devices {
            [device] => ("device.create", "device", device.id.as_str()),
            _ => {
                let ids: Vec<_> = devices.iter().map(|device| device.id.as_str()).collect();
                after["devices"] = json!(ids);
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
    pub(crate) async fn device(&self, id: &str, now_ms: i64) -> Result<Option<DeviceRow>, StoreError> {
        Ok(sqlx::query_as(DEVICE_BY_ID).bind(now_ms).bind(id).fetch_optional(&self.pool).await?)
    }

    /// Devices in the order of their ids, past `after`.
    pub(crate) async fn devices(
        &self,
        filter: &DeviceFilter,
        after: &str,
        limit: i64,
        now_ms: i64,
    ) -> Result<Vec<DeviceRow>, StoreError> {
        let part = match filter.part.as_str() {
            "" => String::new(),
            part => format!("%{}%", escape_like(&part.to_ascii_lowercase())),
        };
        Ok(sqlx::query_as(DEVICES)
            .bind(now_ms)
            .bind(after)
            .bind(&filter.scope)
            .bind(&filter.product)
            .bind(&filter.channel)
            .bind(&filter.tag)
            .bind(&filter.state)
            .bind(&filter.health)
            .bind(filter.sequence.unwrap_or(-1))
            .bind(part)
            .bind(limit)
            .fetch_all(&self.pool)
            .await?)
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
        let before = match take(&mut transaction, id, change.at_ms, if_match).await? {
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
        sqlx::query(
            "UPDATE devices SET note = $1, channel = $2, tags = $3, pinned_sequence = $4 WHERE id = $5",
        )
        .bind(&after.note)
        .bind(&after.channel)
        .bind(&after.tags)
        .bind(after.pinned_sequence)
        .bind(id)
        .execute(&mut *transaction)
        .await?;
        if let Some(tags) = &settings.tags {
            sqlx::query("DELETE FROM device_tags WHERE device = $1")
                .bind(id)
                .execute(&mut *transaction)
                .await?;
            insert_tags(&mut transaction, id, tags).await?;
        }
        let (was, is) = differences(&before.settings(), &after.settings());
        record(&mut transaction, change, "device.change", &before, was, is).await?;
        transaction.commit().await?;
        Ok(Changed::Done(after))
    }

    /// Revokes a device, once.
    pub(crate) async fn revoke_device(
        &self,
        id: &str,
        reason: &str,
        change: &Change,
        if_match: &IfMatch,
    ) -> Result<Changed<()>, StoreError> {
        let mut transaction = self.pool.begin().await?;
        let before = match take(&mut transaction, id, change.at_ms, if_match).await? {
            Changed::Done(before) => before,
            Changed::Not(why) => return Ok(Changed::Not(why)),
        };
        if before.revoked_at_ms.is_some() {
            return Ok(Changed::Done(()));
        }
        sqlx::query("UPDATE devices SET revoked_at_ms = $1, revoked_reason = $2 WHERE id = $3")
            .bind(change.at_ms)
            .bind(reason)
            .bind(id)
            .execute(&mut *transaction)
            .await?;
        let (was, is) = (json!({ "state": before.state() }), json!({ "state": "revoked", "reason": reason }));
        record(&mut transaction, change, "device.revoke", &before, was, is).await?;
        let detail = json!({ "reason": reason });
        Event { device: id, at_ms: change.at_ms, kind: "revoked", detail }.insert(&mut transaction).await?;
        transaction.commit().await?;
        Ok(Changed::Done(()))
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
        let before = match take(&mut transaction, id, change.at_ms, if_match).await? {
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
        let before = match take(&mut transaction, id, change.at_ms, if_match).await? {
            Changed::Done(before) => before,
            Changed::Not(why) => return Ok(Changed::Not(why)),
        };
        if before.revoked_at_ms.is_some() || before.approved_at_ms.is_some() {
            return Ok(Changed::Done(before.revoked_at_ms.is_none()));
        }
        sqlx::query("UPDATE devices SET approved_at_ms = $1 WHERE id = $2")
            .bind(change.at_ms)
            .bind(id)
            .execute(&mut *transaction)
            .await?;
        let is = json!({ "approved_at": clock::rfc3339(change.at_ms) });
        record(&mut transaction, change, "device.approve", &before, json!({ "approved_at": null }), is)
            .await?;
        let event = Event { device: id, at_ms: change.at_ms, kind: "approved", detail: json!({}) };
        event.insert(&mut transaction).await?;
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
        let before = match take(&mut transaction, id, change.at_ms, if_match).await? {
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
async fn take(
    connection: &mut AnyConnection,
    id: &str,
    now_ms: i64,
    if_match: &IfMatch,
) -> Result<Changed<DeviceRow>, StoreError> {
    let taken = sqlx::query("UPDATE devices SET revision = revision + 1 WHERE id = $1")
        .bind(id)
        .execute(&mut *connection)
        .await?;
    if taken.rows_affected() == 0 {
        return Ok(Changed::Not(Unchanged::NotFound));
    }
    let row: DeviceRow = sqlx::query_as(DEVICE_BY_ID).bind(now_ms).bind(id).fetch_one(connection).await?;
    let revision = row.revision - 1;
    Ok(match if_match.allows(revision) {
        true => Changed::Done(row),
        false => Changed::Not(Unchanged::Stale { revision }),
    })
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

async fn record(
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

/// Has LIKE take a text as it is; `!` is the escape character.
fn escape_like(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for char in text.chars() {
        if matches!(char, '%' | '_' | '!') {
            escaped.push('!');
        }
        escaped.push(char);
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_health_that_holds_is_told_and_found() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::in_dir(dir.path()).await;
        let change = Change::by_server(clock::now_ms());
        sqlx::query(
            "INSERT INTO products (name, chip, layout_name, layout_csv, strategy, slots, created_at_ms, \
                 silence_deadline_s) VALUES ('lamp', '', '', '', '', '[]', 0, 60)",
        )
        .execute(&store.pool)
        .await
        .unwrap();
        let device = NewDevice { id: "a".to_owned(), token_hash: String::new() };
        let common = NewDevices { product: "lamp", note: "", channel: "stable", tags: &[] };
        store.add_devices(&[device], common, &change).await.unwrap();

        // Each step adds what outweighs the one before, and `ok` and `new` come of one column alone.
        let steps = [
            ("revision = 1", "new"),
            ("last_seen_at_ms = $1", "ok"),
            ("attempt_state = 'healthy', last_seen_at_ms = $1 - 50000", "ok"),
            ("attempt_state = 'offered'", "updating"),
            ("attempt_state = 'installed'", "updating"),
            ("quarantined_at_ms = 1", "failing"),
            ("quarantined_at_ms = NULL, attempt_state = 'failed'", "failing"),
            ("attempt_state = 'crashed'", "crashing"),
            ("cadence_ms = 10000, cadence_intervals = 3, last_seen_at_ms = $1 - 70000", "silent"),
            ("cadence_ms = 30000", "crashing"),
            ("last_seen_at_ms = $1, attempt_state = 'silent'", "silent"),
            ("attempt_state = 'healthy'", "ok"),
            ("attempt_state = 'unheard'", "unheard"),
            ("attempt_state = 'healthy', cadence_intervals = 2, last_seen_at_ms = $1 - 70000", "unheard"),
            ("last_seen_at_ms = NULL", "new"),
            ("revoked_at_ms = 1", "revoked"),
        ];
        for (set, expected) in steps {
            let update = format!("UPDATE devices SET starts = $1, {set}");
            sqlx::query(sqlx::AssertSqlSafe(update)).bind(change.at_ms).execute(&store.pool).await.unwrap();
            assert_eq!(store.device("a", clock::now_ms()).await.unwrap().unwrap().health, expected, "{set}");
            let filter = |health: &str| DeviceFilter { health: health.to_owned(), ..DeviceFilter::default() };
            assert_eq!(
                store.devices(&filter(expected), "", 2, clock::now_ms()).await.unwrap().len(),
                1,
                "{set}"
            );
            assert!(
                store.devices(&filter("other"), "", 2, clock::now_ms()).await.unwrap().is_empty(),
                "{set}"
            );
        }
    }
}
