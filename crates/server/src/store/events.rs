//! Table `events`: what happened to a device.

use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};

use serde_json::json;
use sqlx::{AnyConnection, AnyPool};

use super::questions::Value;
use super::{Store, StoreError};
use crate::clock::DAY_MS;
use crate::secret;

/// Something that happened to a device.
#[derive(Clone, Debug)]
pub(crate) struct Event<'a> {
    pub(crate) device: &'a str,
    pub(crate) at_ms: i64,
    pub(crate) kind: &'static str,
    pub(crate) detail: serde_json::Value,
}

row! {
    /// An event as it is stored.
    #[derive(Clone, Debug)]
    pub(crate) struct EventRow {
        pub(crate) id: String,
        pub(crate) at_ms: i64,
        pub(crate) kind: String,
        /// JSON.
        pub(crate) detail: String,
    }
}

row! {
    /// An event with the product of its device.
    #[derive(Clone, Debug)]
    pub(crate) struct ExportedEvent {
        pub(crate) id: String,
        pub(crate) at_ms: i64,
        pub(crate) product: String,
        pub(crate) device: String,
        pub(crate) kind: String,
        /// JSON.
        pub(crate) detail: String,
    }
}

/// Events that a device may cause in a day by what it says: a start every ten minutes, with news each time, stays below.
const MAX_EVENTS_A_DAY: i64 = 200;

/// A window of [`Store::export_events`]. Only its rows are read.
const EXPORT: &str = "SELECT e.id, e.at_ms, d.product, e.device, e.kind, e.detail FROM \
         (SELECT id, at_ms, device, kind, detail FROM events \
             WHERE at_ms >= $1 AND (at_ms, id) < ($2, $3) ORDER BY at_ms DESC, id DESC LIMIT $4) AS e \
     JOIN devices d ON d.id = e.device ORDER BY e.at_ms DESC, e.id DESC";

/// The event in place of those past the bound.
const LEFT_OUT: &str = "events-left-out";

impl Event<'_> {
    /// Adds the event, which a device caused by what it said, within a transaction. Past [`MAX_EVENTS_A_DAY`] one event says
    /// how many more there were: a device that always has news does not make the database grow.
    pub(super) async fn insert_within_bounds(
        &self,
        connection: &mut AnyConnection,
    ) -> Result<(), StoreError> {
        let id = time_id(self.at_ms);
        let (count, left_out): (i64, Option<String>) = sqlx::query_as(
            "UPDATE devices SET events_today = CASE WHEN events_day = $1 THEN events_today + 1 ELSE 1 END, \
                 events_left_out = CASE WHEN events_day <> $1 THEN NULL WHEN events_today = $2 THEN $3 \
                     ELSE events_left_out END, \
                 events_day = $1 \
             WHERE id = $4 RETURNING events_today, events_left_out",
        )
        .bind(self.at_ms.div_euclid(DAY_MS))
        .bind(MAX_EVENTS_A_DAY)
        .bind(&id)
        .bind(self.device)
        .fetch_one(&mut *connection)
        .await?;
        let Some(left_out) = left_out else { return self.insert_as(&id, connection).await };
        let detail = json!({ "count": count - MAX_EVENTS_A_DAY }).to_string();
        sqlx::query(
            "INSERT INTO events (id, device, at_ms, kind, detail) VALUES ($1, $2, $3, $4, $5) \
             ON CONFLICT (id) DO UPDATE SET at_ms = excluded.at_ms, detail = excluded.detail",
        )
        .bind(left_out)
        .bind(self.device)
        .bind(self.at_ms)
        .bind(LEFT_OUT)
        .bind(detail)
        .execute(connection)
        .await?;
        Ok(())
    }

    /// Adds the event on a connection, which may be within a transaction.
    pub(super) async fn insert(&self, connection: &mut AnyConnection) -> Result<(), StoreError> {
        self.insert_as(&time_id(self.at_ms), connection).await
    }

    async fn insert_as(&self, id: &str, connection: &mut AnyConnection) -> Result<(), StoreError> {
        sqlx::query("INSERT INTO events (id, device, at_ms, kind, detail) VALUES ($1, $2, $3, $4, $5)")
            .bind(id)
            .bind(self.device)
            .bind(self.at_ms)
            .bind(self.kind)
            .bind(self.detail.to_string())
            .execute(connection)
            .await?;
        Ok(())
    }
}

/// The latest time in an id. Ids go on from there when the clock goes back: they are the order of what happened.
static LATEST_MS: AtomicI64 = AtomicI64::new(0);

/// An id that sorts by time, then by the order within this process: 12 digits of milliseconds, 8 of a counter,
/// and 8 random ones that keep processes apart.
pub(super) fn time_id(at_ms: i64) -> String {
    static COUNTER: AtomicU32 = AtomicU32::new(0);
    let count = COUNTER.fetch_add(1, Ordering::Relaxed);
    let at_ms = LATEST_MS.fetch_max(at_ms, Ordering::Relaxed).max(at_ms);
    format!("{at_ms:012x}{count:08x}{}", hex::encode(secret::random::<4>()))
}

/// Sees that ids go on after those that are stored.
pub(super) async fn go_on_after_stored_ids(pool: &AnyPool) -> Result<(), StoreError> {
    for newest in ["SELECT MAX(id) FROM audit", "SELECT MAX(id) FROM events"] {
        let newest: Option<String> = sqlx::query_scalar(newest).fetch_one(pool).await?;
        let at_ms = newest.and_then(|id| i64::from_str_radix(id.get(..12)?, 16).ok());
        LATEST_MS.fetch_max(at_ms.unwrap_or(0), Ordering::Relaxed);
    }
    Ok(())
}

impl Store {
    /// Adds an event on its own, which a device caused.
    pub(crate) async fn add_event(&self, event: &Event<'_>) -> Result<(), StoreError> {
        let mut transaction = self.pool.begin().await?;
        event.insert_within_bounds(&mut transaction).await?;
        transaction.commit().await?;
        Ok(())
    }

    /// Events of all devices since a time, newest first, older than the one at `before`: its time and its id.
    pub(crate) async fn export_events(
        &self,
        since_ms: i64,
        before: (i64, &str),
        limit: i64,
    ) -> Result<Vec<ExportedEvent>, StoreError> {
        let values = vec![
            Value::Number(since_ms),
            Value::Number(before.0),
            Value::Text(before.1.to_owned()),
            Value::Number(limit),
        ];
        self.questions.ask(EXPORT.to_owned(), values).await
    }

    /// Events of a device, newest first, older than the event `before` (empty: from the newest).
    pub(crate) async fn events(
        &self,
        device: &str,
        before: &str,
        limit: i64,
    ) -> Result<Vec<EventRow>, StoreError> {
        Ok(sqlx::query_as(
            "SELECT id, at_ms, kind, detail FROM events \
             WHERE device = $1 AND ($2 = '' OR id < $2) ORDER BY id DESC LIMIT $3",
        )
        .bind(device)
        .bind(before)
        .bind(limit)
        .fetch_all(&self.pool)
        .await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_sort_by_time_and_order() {
        let ids = [time_id(1_700_000_000_000), time_id(1_700_000_000_000), time_id(1_700_000_000_001)];
        assert!(ids.is_sorted(), "{ids:?}");
        let after_the_clock_went_back = time_id(1_300_000_000_000);
        assert!(after_the_clock_went_back > ids[2], "{after_the_clock_went_back} {ids:?}");
    }
}
