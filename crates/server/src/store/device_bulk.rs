//! The same for all devices of a filter, in the order of their ids.

use serde_json::{Value, json};
use sqlx::AnyConnection;

use super::deletion::delete;
use super::device_list::DeviceFilter;
use super::device_row::{DEVICE_BY_ID, DeviceRow};
use super::devices::{DeviceRevocation, approve, resume, store_settings};
use super::{Change, Event, Record, Store, StoreError, json_or_text};

/// What is done to each.
#[derive(Clone, Copy, Debug)]
pub(crate) enum BulkAction<'a> {
    Approve,
    Revoke(DeviceRevocation<'a>),
    Resume,
    Delete,
    Change {
        channel: Option<&'a str>,
        add_tags: &'a [String],
        remove_tags: &'a [String],
        /// The most tags of one device.
        max_tags: usize,
    },
}

/// Which devices it is done to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BulkPart<'a> {
    pub(crate) filter: &'a DeviceFilter,
    /// Past this id.
    pub(crate) after: &'a str,
    /// How many there are to be past it; without it, they are counted and nothing is done.
    pub(crate) expect: Option<i64>,
    /// The most of one call.
    pub(crate) limit: i64,
}

/// How it ended.
#[derive(Debug)]
pub(crate) enum Bulk {
    /// `last`: the id up to which it is done, when more are left.
    Done { count: i64, changed: i64, last: Option<String> },
    /// There are more or fewer than were expected. Nothing was changed.
    Differs { count: i64 },
    /// One would have too many tags. Nothing was changed.
    TooManyTags { device: String },
}

impl BulkAction<'_> {
    fn name(self) -> &'static str {
        match self {
            Self::Approve => "device.approve-bulk",
            Self::Revoke(_) => "device.revoke-bulk",
            Self::Resume => "device.resume-bulk",
            Self::Delete => "device.delete-bulk",
            Self::Change { .. } => "device.change-bulk",
        }
    }

    /// Takes a device for this, as `devices::take` does; those that it changes nothing of are left alone.
    fn take(self) -> &'static str {
        match self {
            Self::Approve => {
                "UPDATE devices SET revision = revision + 1 \
                 WHERE id = $1 AND revoked_at_ms IS NULL AND approved_at_ms IS NULL"
            }
            Self::Revoke(DeviceRevocation { suspends: true, .. }) => {
                "UPDATE devices SET revision = revision + 1 WHERE id = $1 AND revoked_at_ms IS NULL"
            }
            Self::Revoke(DeviceRevocation { suspends: false, .. }) => {
                "UPDATE devices SET revision = revision + 1 \
                 WHERE id = $1 AND (revoked_at_ms IS NULL OR suspended = 1)"
            }
            Self::Resume => {
                "UPDATE devices SET revision = revision + 1 \
                 WHERE id = $1 AND revoked_at_ms IS NOT NULL AND suspended = 1"
            }
            Self::Delete => {
                "UPDATE devices SET revision = revision + 1 WHERE id = $1 AND suspended = 0 \
                 AND (revoked_at_ms IS NOT NULL OR enrolled_at_ms IS NULL)"
            }
            Self::Change { .. } => "UPDATE devices SET revision = revision + 1 WHERE id = $1",
        }
    }

    /// What an audit line tells of it.
    fn told(self) -> Value {
        match self {
            Self::Approve | Self::Resume | Self::Delete => json!({}),
            Self::Revoke(DeviceRevocation { reason, suspends }) => {
                json!({ "state": if suspends { "suspended" } else { "revoked" }, "reason": reason })
            }
            Self::Change { channel, add_tags, remove_tags, .. } => {
                json!({ "channel": channel, "add_tags": add_tags, "remove_tags": remove_tags })
            }
        }
    }

    /// Does it to one that was taken. `false`: it would have too many tags.
    async fn apply(
        self,
        connection: &mut AnyConnection,
        device: &DeviceRow,
        change: &Change,
    ) -> Result<bool, StoreError> {
        match self {
            Self::Approve => approve(connection, &device.id, change).await?,
            Self::Revoke(revocation) => revocation.apply(connection, device, change).await?,
            Self::Resume => resume(connection, &device.id, change).await?,
            Self::Delete => delete(connection, &device.id, change.at_ms).await?,
            Self::Change { channel, add_tags, remove_tags, max_tags } => {
                let mut tags: Vec<String> =
                    serde_json::from_value(json_or_text(&device.tags)).unwrap_or_default();
                tags.retain(|tag| !remove_tags.contains(tag));
                tags.extend_from_slice(add_tags);
                tags.sort_unstable();
                tags.dedup();
                if tags.len() > max_tags {
                    return Ok(false);
                }
                let after = DeviceRow {
                    channel: channel.unwrap_or(&device.channel).to_owned(),
                    tags: json!(tags).to_string(),
                    ..device.clone()
                };
                store_settings(connection, &after, Some(&tags)).await?;
                let detail = json!({ "channel": after.channel, "tags": tags });
                Event { device: &device.id, at_ms: change.at_ms, kind: "changed", detail }
                    .insert(connection)
                    .await?;
            }
        }
        Ok(true)
    }
}

impl Store {
    /// Does the same to all devices of a filter, `part.limit` of them at most, all or none, when there are as many as were
    /// expected.
    pub(crate) async fn do_to_devices(
        &self,
        part: BulkPart<'_>,
        action: BulkAction<'_>,
        change: &Change,
    ) -> Result<Bulk, StoreError> {
        let BulkPart { filter, after, expect, limit } = part;
        let mut ids = self.device_ids(filter, after, limit + 1).await?;
        let found = i64::try_from(ids.len()).unwrap_or(i64::MAX);
        let count = if found <= limit { found } else { self.count_of_filter(filter, after).await? };
        ids.truncate(usize::try_from(limit).unwrap_or_default());
        let last = ids.last().filter(|_| found > limit).cloned();
        match expect {
            None => return Ok(Bulk::Done { count, changed: 0, last: None }),
            Some(expected) if expected != count => return Ok(Bulk::Differs { count }),
            Some(_) => {}
        }
        // As everybody takes rows: the database may have another order.
        ids.sort_unstable();
        let again = self.ids_question(filter, after, limit).await?;
        let mut transaction = self.pool.begin().await?;
        let mut taken = Vec::new();
        for id in &ids {
            if sqlx::query(action.take()).bind(id).execute(&mut *transaction).await?.rows_affected() > 0 {
                taken.push(id);
            }
        }
        // What was counted may have changed meanwhile; from here on what is taken stays as it is.
        let mut still: Vec<(String,)> = again.fetch_on(&mut transaction).await?;
        still.sort_unstable();
        if !still.iter().map(|(id,)| id).eq(&ids) {
            transaction.rollback().await?;
            return Ok(Bulk::Differs { count: self.count_of_filter(filter, after).await? });
        }
        let mut changed = Vec::new();
        for id in taken {
            let device: DeviceRow =
                sqlx::query_as(DEVICE_BY_ID).bind(id).fetch_one(&mut *transaction).await?;
            if !action.apply(&mut transaction, &device, change).await? {
                return Ok(Bulk::TooManyTags { device: device.id });
            }
            changed.push(device.id);
        }
        let done = i64::try_from(changed.len()).unwrap_or(i64::MAX);
        if done > 0 {
            let mut told = action.told();
            told["filter"] = filter.told();
            told["count"] = json!(done);
            told["devices"] = json!(changed);
            let record = Record {
                action: action.name(),
                kind: "product",
                subject: &filter.product,
                product: Some(&filter.product),
                before: None,
                after: Some(told),
            };
            change.record(&mut transaction, record).await?;
        }
        transaction.commit().await?;
        Ok(Bulk::Done { count, changed: done, last })
    }
}
