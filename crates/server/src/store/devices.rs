//! Table `devices`, as operators see it.

use std::collections::BTreeSet;

use api::device::DeviceState;
use serde_json::{Value, json};
use sqlx::AnyConnection;

use super::filter::{Filter, Place};
use super::health::refresh;
use super::{
    Change, Changed, Event, IfMatch, Record, Store, StoreError, Unchanged, differences, json_or_text,
};
use crate::clock;

row! {
    /// A device with its current certificate.
    #[derive(Clone, Debug)]
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
        /// Since when its enrollment waits for approval.
        pub(crate) enrollment_pending_at_ms: Option<i64>,
        pub(crate) revoked_at_ms: Option<i64>,
        pub(crate) revoked_reason: Option<String>,
        /// 1: the revocation may be taken back.
        pub(super) suspended: i64,
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
        pub(crate) clone_suspected_at_ms: Option<i64>,
        /// When a certificate of it that had ended was refused last.
        pub(crate) refused_at_ms: Option<i64>,
        pub(crate) refused_cause: Option<String>,
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
}

/// A device to add.
#[derive(Clone, Debug)]
pub(crate) struct NewDevice {
    pub(crate) id: String,
    pub(crate) token_hash: String,
    pub(crate) channel: String,
    /// Sorted, each once.
    pub(crate) tags: Vec<String>,
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
    /// The rollout that offered it a release last.
    pub(crate) rollout: String,
    /// The wave of that rollout, from 0.
    pub(crate) wave: Option<i64>,
    /// How it does with that release.
    pub(crate) attempt: String,
    /// The rollout's epoch in which it was counted last.
    pub(crate) epoch: Option<i64>,
    /// Only devices whose enrollment waits for approval.
    pub(crate) waits: bool,
    /// Only devices of which two boards seem to have the identity.
    pub(crate) is_cloned: bool,
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

/// The columns of [`DeviceRow`].
macro_rules! select_devices {
    ($rest:literal) => {
        concat!(
            "SELECT d.id, d.product, d.note, d.channel, d.tags, d.pinned_sequence, d.health, d.created_at_ms, \
                 d.approved_at_ms, d.enrolled_at_ms, d.enrollment_pending_at_ms, d.revoked_at_ms, d.revoked_reason, d.suspended, d.last_seen_at_ms, \
                 d.certificate_serial, c.not_before_ms AS certificate_not_before_ms, \
                 c.not_after_ms AS certificate_not_after_ms, d.running_digest, d.running_sequence, \
                 d.running_version, d.slots, d.updater_version, d.reset_cause, d.starts, d.strategy, \
                 d.free_heap_bytes, d.critical_errors, d.last_critical, d.outcome_sequence, d.outcome_code, \
                 d.outcome_at_ms, d.clone_suspected_at_ms, d.refused_at_ms, d.refused_cause, d.attempt_rollout, d.attempt_wave, d.attempt_sequence, d.attempt_state, \
                 d.attempt_at_ms, d.failed_sequence, d.failed_count, d.quarantined_at_ms, d.revision \
             FROM devices d LEFT JOIN certificates c ON c.serial = d.certificate_serial ",
            $rest
        )
    };
}

const DEVICES: &str = select_devices!("WHERE d.id IN (SELECT id FROM devices");
const DEVICE_IDS: &str = "SELECT id FROM devices";

const DEVICES_IN_ORDER: &str = "ORDER BY id LIMIT {}) ORDER BY d.id";
const DEVICES_BEFORE: &str = "ORDER BY id DESC LIMIT {}) ORDER BY d.id";
/// For counting.
const ANY_DEVICES: &str = "SELECT 1 AS one FROM devices";

pub(super) const DEVICE_BY_ID: &str = select_devices!("WHERE d.id = $1");

/// A tag that no more devices than this have is where a search begins; of a commoner one a page is soon full.
const COMMON_TAG: i64 = 20_000;

impl DeviceFilter {
    /// `is_common`: many devices have the tag. `id_has`: as [`super::questions::Questions::id_has`] has it.
    fn conditions(&self, place: Place<'_>, is_common: bool, id_has: &'static str) -> Filter {
        let mut conditions = Filter::default();
        match place {
            Place::After(id) => conditions.text("id > {}", id),
            Place::Before(id) => conditions.text("id < {}", id),
        }
        conditions.text("attempt_rollout = {}", &self.rollout);
        conditions.text("attempt_state = {}", &self.attempt);
        if let Some(wave) = self.wave {
            conditions.number("attempt_wave = {}", wave);
        }
        if let Some(epoch) = self.epoch {
            conditions.number("attempt_epoch = {}", epoch);
        }
        conditions.text("product = {}", &self.scope);
        conditions.text("product = {}", &self.product);
        conditions.text("channel = {}", &self.channel);
        conditions.text("health = {}", &self.health);
        match self.state.as_str() {
            "revoked" => conditions.and("health = 'revoked'"),
            // Who was never enrolled was never seen.
            "new" => conditions.and("health = 'new' AND enrolled_at_ms IS NULL"),
            "enrolled" => conditions.and("health <> 'revoked' AND enrolled_at_ms IS NOT NULL"),
            _ => {}
        }
        if let Some(sequence) = self.sequence {
            conditions.number("running_sequence = {}", sequence);
        }
        if !self.part.is_empty() {
            let part = format!("%{}%", escape_like(&self.part.to_ascii_lowercase()));
            conditions.text(id_has, &part);
        }
        let with_tag = if is_common {
            "EXISTS (SELECT 1 FROM device_tags t WHERE t.tag = {} AND t.device = devices.id)"
        } else {
            "id IN (SELECT t.device FROM device_tags t WHERE t.tag = {})"
        };
        conditions.text(with_tag, &self.tag);
        if self.waits {
            // What the index has. An expression of the last one, so that it is not taken for the index of revocations.
            conditions.and(
                "id IN (SELECT w.id FROM devices w WHERE w.enrollment_pending_at_ms IS NOT NULL \
                     AND w.approved_at_ms IS NULL AND COALESCE(w.revoked_at_ms, 0) = 0)",
            );
        }
        if self.is_cloned {
            conditions.and("id IN (SELECT w.id FROM devices w WHERE w.clone_suspected_at_ms IS NOT NULL)");
        }
        conditions
    }

    /// What of it was asked for, as an audit line tells it.
    pub(super) fn told(&self) -> Value {
        let Self { scope: _, product, channel, tag, state, health, sequence, part, .. } = self;
        let Self { rollout, wave, attempt, epoch, waits, is_cloned, .. } = self;
        let texts = [("product", product), ("channel", channel), ("tag", tag), ("state", state)];
        let texts = texts.into_iter().chain([
            ("health", health),
            ("q", part),
            ("rollout", rollout),
            ("attempt", attempt),
        ]);
        let mut told: serde_json::Map<_, _> = texts
            .filter(|(_, text)| !text.is_empty())
            .map(|(name, text)| (name.to_owned(), json!(text)))
            .collect();
        let numbers = [("sequence", sequence), ("wave", wave), ("epoch", epoch)];
        told.extend(
            numbers.iter().filter_map(|(name, number)| Some(((*name).to_owned(), json!((**number)?)))),
        );
        for (name, is) in [("waits", waits), ("clone_suspected", is_cloned)] {
            if *is {
                told.insert(name.to_owned(), json!(true));
            }
        }
        Value::Object(told)
    }
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

impl DeviceRow {
    /// Where it is between made and revoked.
    pub(crate) fn state(&self) -> DeviceState {
        match (self.revoked_at_ms, self.enrolled_at_ms) {
            (Some(_), _) => DeviceState::Revoked,
            (None, Some(_)) => DeviceState::Enrolled,
            (None, None) => DeviceState::New,
        }
    }

    /// Whether it is revoked until somebody takes that back.
    pub(crate) fn is_suspended(&self) -> bool {
        self.revoked_at_ms.is_some() && self.suspended == 1
    }

    /// As [`DeviceRow::state`], and `suspended`, as an audit line tells it.
    pub(super) fn standing(&self) -> &'static str {
        if self.is_suspended() { "suspended" } else { self.state().name() }
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

    /// Devices in the order of their ids, those next to `place`. The page is found in an index, and only its rows are read.
    pub(crate) async fn devices(
        &self,
        filter: &DeviceFilter,
        place: Place<'_>,
        limit: i64,
    ) -> Result<Vec<DeviceRow>, StoreError> {
        let order = match place {
            Place::After(_) => DEVICES_IN_ORDER,
            Place::Before(_) => DEVICES_BEFORE,
        };
        self.conditions(filter, place).await?.fetch(&self.questions, DEVICES, order, limit).await
    }

    /// How many devices fit, counted up to `most`.
    pub(crate) async fn devices_that_fit(&self, filter: &DeviceFilter, most: i64) -> Result<i64, StoreError> {
        self.conditions(filter, Place::After("")).await?.count(&self.questions, ANY_DEVICES, most).await
    }

    /// The ids of devices, in their order, past `after`.
    pub(super) async fn device_ids(
        &self,
        filter: &DeviceFilter,
        after: &str,
        limit: i64,
    ) -> Result<Vec<String>, StoreError> {
        let conditions = self.conditions(filter, Place::After(after)).await?;
        let ids: Vec<(String,)> =
            conditions.fetch(&self.questions, DEVICE_IDS, "ORDER BY id LIMIT {}", limit).await?;
        Ok(ids.into_iter().map(|(id,)| id).collect())
    }

    /// How many devices there are past `after`.
    pub(super) async fn count_of_filter(
        &self,
        filter: &DeviceFilter,
        after: &str,
    ) -> Result<i64, StoreError> {
        let conditions = self.conditions(filter, Place::After(after)).await?;
        conditions.count(&self.questions, ANY_DEVICES, i64::MAX).await
    }

    async fn conditions(&self, filter: &DeviceFilter, place: Place<'_>) -> Result<Filter, StoreError> {
        let is_common = !filter.tag.is_empty() && self.has_many(&filter.tag).await?;
        Ok(filter.conditions(place, is_common, self.questions.id_has()))
    }

    /// Whether a tag is one of many devices.
    async fn has_many(&self, tag: &str) -> Result<bool, StoreError> {
        if tag.is_empty() {
            return Ok(false);
        }
        let count: i64 = sqlx::query_scalar(
            "SELECT COUNT(*) FROM (SELECT 1 AS one FROM device_tags WHERE tag = $1 LIMIT $2) AS found",
        )
        .bind(tag)
        .bind(COMMON_TAG)
        .fetch_one(&self.pool)
        .await?;
        Ok(count >= COMMON_TAG)
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
        sqlx::query(
            "UPDATE devices SET revoked_at_ms = NULL, revoked_reason = NULL, suspended = 0 WHERE id = $1",
        )
        .bind(id)
        .execute(&mut *transaction)
        .await?;
        refresh(&mut transaction, &BTreeSet::from([id]), change.at_ms).await?;
        let was = json!({ "state": before.standing(), "reason": before.revoked_reason });
        let is = json!({ "state": DeviceRow { revoked_at_ms: None, ..before.clone() }.state() });
        record(&mut transaction, change, "device.resume", &before, was, is).await?;
        let event = Event { device: id, at_ms: change.at_ms, kind: "resumed", detail: json!({}) };
        event.insert(&mut transaction).await?;
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
    use sqlx::{AssertSqlSafe, Row as _};

    use super::*;

    /// Every combination of filters, on the first page and on a later one: what is read of each device that is passed over
    /// stands in an index.
    #[tokio::test]
    async fn no_list_reads_devices_that_are_not_on_the_page() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::in_dir(dir.path()).await;
        let text = |bits: u32, bit: u32, text: &str| {
            if bits >> bit & 1 == 1 { text.to_owned() } else { String::new() }
        };
        let mut plans = BTreeSet::new();
        for bits in 0..1_u32 << 13 {
            let has_rollout = bits >> 9 & 1 == 1;
            let filter = DeviceFilter {
                product: text(bits, 0, "lamp"),
                channel: text(bits, 1, "beta"),
                tag: text(bits, 2, "rare"),
                state: text(bits, 3, "new"),
                health: text(bits, 4, "crashing"),
                sequence: (bits >> 5 & 1 == 1).then_some(7),
                part: text(bits, 6, "7"),
                scope: text(bits, 7, "lamp"),
                rollout: text(bits, 9, "ro-lamp-7"),
                wave: (has_rollout && bits >> 10 & 1 == 1).then_some(1),
                epoch: (has_rollout && bits >> 10 & 1 == 1).then_some(0),
                attempt: text(if has_rollout && bits >> 10 & 1 == 1 { bits } else { 0 }, 11, "crashed"),
                waits: bits >> 12 & 1 == 1,
                is_cloned: bits % 5 == 1,
            };
            for is_common in [false, true] {
                let place = match (bits >> 8 & 1, is_common) {
                    (0, _) => Place::After(""),
                    (_, false) => Place::After("lamp-3"),
                    (_, true) => Place::Before("lamp-3"),
                };
                let order = match place {
                    Place::After(_) => DEVICES_IN_ORDER,
                    Place::Before(_) => DEVICES_BEFORE,
                };
                let conditions = filter.conditions(place, is_common, "id LIKE {} ESCAPE '!'");
                let statement = match bits % 3 {
                    0 => conditions.count_statement(ANY_DEVICES),
                    _ => conditions.statement(DEVICES, order),
                };
                let plan = format!("EXPLAIN QUERY PLAN {statement}");
                for step in sqlx::query(AssertSqlSafe(plan)).fetch_all(&store.pool).await.unwrap() {
                    let step: String = step.get("detail");
                    let is_by_rows = step.contains("devices") && !step.contains("COVERING INDEX");
                    // The rare tag's devices, one by one.
                    let is_one = step.contains("devices_1 (id=?)")
                        || (!is_common || filter.waits || filter.is_cloned) && step.contains("(id=?");
                    assert!(!is_by_rows || is_one, "{filter:?}: {step}");
                    plans.insert(step);
                }
            }
        }
        for index in [
            "devices_by_health",
            "devices_by_attempt",
            "devices_by_rollout",
            "devices_waiting",
            "devices_with_clone",
        ] {
            assert!(plans.iter().any(|step| step.contains(index)), "{index}: {plans:#?}");
        }
    }
}
