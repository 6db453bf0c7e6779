//! How a device is: a column of its row, so that a list finds the few that crash among a million by an index.
//!
//! [`health_sql`] is what it means. The column is written in the transaction of what it follows from, and by a sweep when a
//! device was not heard for too long (docs/decisions/0069-lists-by-index.md).

use std::collections::BTreeSet;
use std::sync::LazyLock;

use sqlx::AnyConnection;

use super::filter::{Statements, places};
use super::{Store, StoreError};
use crate::failing::{Failing, Fails as _};

/// Devices that are looked at in one statement: others can write in between.
const SWEEP: i64 = 500;

/// Statements of one sweep.
const SWEEPS: usize = 20;

/// Until when a device of table `devices` may be silent, by what is usual for it and by its product's deadline
/// (`rollout::Cadence`).
macro_rules! patience_ends_sql {
    () => {
        "(last_seen_at_ms + CASE WHEN cadence_intervals >= 3 \
             AND cadence_ms * 4 > (SELECT p.silence_deadline_s * 1000 FROM products p WHERE p.name = devices.product) \
             THEN cadence_ms * 4 \
             ELSE (SELECT p.silence_deadline_s * 1000 FROM products p WHERE p.name = devices.product) END)"
    };
}

/// The health of a device of table `devices` at the moment `$1` (milliseconds).
///
/// The first that holds: `suspended` or `revoked`; `new` (never seen); `silent` (not seen for longer than the product's deadline and than
/// is usual for it); `crashing`; `failing` (the release failed, or is in quarantine); `unheard` (not seen for longer than the
/// product's deadline, and what is usual for it is not known); `updating`; `ok`.
macro_rules! health_sql {
    () => {
        concat!(
            "CASE WHEN revoked_at_ms IS NOT NULL AND suspended = 1 THEN 'suspended' \
             WHEN revoked_at_ms IS NOT NULL THEN 'revoked' \
             WHEN last_seen_at_ms IS NULL THEN 'new' \
             WHEN attempt_state = 'silent' OR (cadence_intervals >= 3 AND ",
            patience_ends_sql!(),
            " < $1) THEN 'silent' \
             WHEN attempt_state = 'crashed' THEN 'crashing' \
             WHEN attempt_state = 'failed' OR quarantined_at_ms IS NOT NULL THEN 'failing' \
             WHEN attempt_state = 'unheard' OR (cadence_intervals < 3 AND ",
            patience_ends_sql!(),
            " < $1) THEN 'unheard' \
             WHEN attempt_state IN ('offered', 'installed') THEN 'updating' \
             ELSE 'ok' END"
        )
    };
}

/// When the sweep is to look at a device; NULL when time alone changes nothing any more.
macro_rules! look_at_sql {
    () => {
        concat!(
            "CASE WHEN revoked_at_ms IS NULL AND ",
            patience_ends_sql!(),
            " >= $1 THEN ",
            patience_ends_sql!(),
            " END"
        )
    };
}

/// What every look sets; more assignments and a condition follow.
macro_rules! set_health_sql {
    () => {
        concat!("UPDATE devices SET health = ", health_sql!(), ", look_at_ms = ", look_at_sql!())
    };
}

static REFRESH: LazyLock<Statements<3>> = LazyLock::new(|| Statements::new([1, 16, 256], refresh_statement));

fn refresh_statement(size: usize) -> String {
    format!(
        concat!(
            set_health_sql!(),
            ", seen_hour = COALESCE(last_seen_at_ms, 0) / 3600000 WHERE id IN ({}) AND (health <> ",
            health_sql!(),
            " OR seen_hour <> COALESCE(last_seen_at_ms, 0) / 3600000 OR (look_at_ms IS NULL AND ",
            look_at_sql!(),
            " IS NOT NULL) OR look_at_ms > ",
            look_at_sql!(),
            ")"
        ),
        places(2, size)
    )
}

/// Sets the health of devices that were written in this transaction. Whatever stays as it was is not written, nor are its
/// indexes.
pub(super) async fn refresh(
    connection: &mut AnyConnection,
    devices: &BTreeSet<&str>,
    now_ms: i64,
) -> Result<(), StoreError> {
    let devices: Vec<&str> = devices.iter().copied().collect();
    for group in devices.chunks(REFRESH.max()) {
        let (statement, devices) = REFRESH.of(group);
        let mut query = sqlx::query(statement).bind(now_ms);
        for device in devices {
            query = query.bind(device);
        }
        query.execute(&mut *connection).await?;
    }
    Ok(())
}

impl Store {
    /// Sets the health of devices that were not heard in time, the longest overdue first: found by an index.
    pub(crate) async fn sweep_health(&self, now_ms: i64) -> Result<(), StoreError> {
        for _ in 0..SWEEPS {
            match self.sweep_some(now_ms).await {
                Ok(true) => {}
                Ok(false) => break,
                // Another instance sweeps, or one of the devices came just now.
                Err(error) if error.failing() == Failing::Conflict => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Looks at some of the devices that are overdue, and tells whether there are more. One after the other in the order of
    /// their keys: one statement over all of them would take them in whatever order the database reads them.
    async fn sweep_some(&self, now_ms: i64) -> Result<bool, StoreError> {
        const SWEEP_SQL: &str = concat!(set_health_sql!(), " WHERE id = $2 AND look_at_ms < $1");
        let mut devices: Vec<String> =
            sqlx::query_scalar("SELECT id FROM devices WHERE look_at_ms < $1 ORDER BY look_at_ms LIMIT $2")
                .bind(now_ms)
                .bind(SWEEP)
                .fetch_all(&self.pool)
                .await?;
        if devices.is_empty() {
            return Ok(false);
        }
        devices.sort_unstable();
        let mut transaction = self.pool.begin().await?;
        for device in &devices {
            sqlx::query(SWEEP_SQL).bind(now_ms).bind(device).execute(&mut *transaction).await?;
        }
        transaction.commit().await?;
        Ok(i64::try_from(devices.len()).is_ok_and(|swept| swept == SWEEP))
    }

    /// Goes on to look at every device of products whose deadline is another one now: its health, and the deadline of its
    /// attempt, which the next look finds passed or moves. A part at a time, so that others can write in between.
    pub(crate) async fn look_again(&self, now_ms: i64) -> Result<(), StoreError> {
        for _ in 0..SWEEPS {
            let product: Option<(String, String)> = sqlx::query_as(
                "SELECT name, looked_until FROM products WHERE looked_until IS NOT NULL LIMIT 1",
            )
            .fetch_optional(&self.pool)
            .await?;
            let Some((product, from)) = product else { break };
            let ids: Vec<String> = sqlx::query_scalar(
                "SELECT id FROM devices WHERE product = $1 AND id > $2 ORDER BY id LIMIT $3",
            )
            .bind(&product)
            .bind(&from)
            .bind(SWEEP)
            .fetch_all(&self.pool)
            .await?;
            let until = ids.last().map(String::as_str);
            match self.look_again_until(&product, &from, until, now_ms).await {
                Ok(()) => {}
                // Another instance looks, or one of the devices came just now.
                Err(error) if error.failing() == Failing::Conflict => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn look_again_until(
        &self,
        product: &str,
        from: &str,
        until: Option<&str>,
        now_ms: i64,
    ) -> Result<(), StoreError> {
        let mut transaction = self.pool.begin().await?;
        let went_on =
            sqlx::query("UPDATE products SET looked_until = $1 WHERE name = $2 AND looked_until = $3")
                .bind(until)
                .bind(product)
                .bind(from)
                .execute(&mut *transaction)
                .await?;
        // Another instance was faster, or the deadline changed once more.
        if went_on.rows_affected() == 1
            && let Some(until) = until
        {
            let statement = concat!(
                set_health_sql!(),
                ", attempt_deadline_ms = CASE WHEN attempt_deadline_ms > $1 AND last_seen_at_ms <= $1 THEN $1 \
                     ELSE attempt_deadline_ms END \
                 WHERE product = $2 AND id > $3 AND id <= $4"
            );
            let looked = sqlx::query(statement).bind(now_ms).bind(product).bind(from).bind(until);
            looked.execute(&mut *transaction).await?;
        }
        transaction.commit().await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use rollout::Cadence;
    use sqlx::AssertSqlSafe;

    use super::super::{Change, DeviceFilter, NewDevice, Place};
    use super::*;

    const NOW_MS: i64 = 1_800_000_000_000;

    /// The numbers in the expression are those of the crate `rollout`.
    #[test]
    fn the_expression_knows_a_cadence_as_rollouts_do() {
        let cadence = |intervals| Cadence { interval_ms: 1000, intervals };
        assert!(!cadence(2).is_known() && cadence(3).is_known());
        assert_eq!(Cadence::patience_ms(Some(cadence(3)), 0), 4000);
        let sql = health_sql!();
        assert!(sql.contains("cadence_intervals >= 3") && sql.contains("cadence_ms * 4"));
    }

    /// A store with the product `lamp`, whose devices are silent after 60 s, and the device `a`.
    async fn store(dir: &std::path::Path) -> Store {
        let store = Store::in_dir(dir).await;
        sqlx::query(
            "INSERT INTO products (name, chip, layout_name, layout_csv, strategy, slots, created_at_ms, \
                 silence_deadline_s) VALUES ('lamp', '', '', '', '', '[]', 0, 60)",
        )
        .execute(&store.pool)
        .await
        .unwrap();
        let device = NewDevice {
            id: "a".to_owned(),
            token_hash: String::new(),
            channel: "stable".to_owned(),
            tags: Vec::new(),
        };
        store.add_devices(&[device], "lamp", "", &Change::by_server(NOW_MS)).await.unwrap();
        store
    }

    async fn set(store: &Store, assignments: &str) {
        let update = format!("UPDATE devices SET starts = $1, {assignments}");
        sqlx::query(AssertSqlSafe(update)).bind(NOW_MS).execute(&store.pool).await.unwrap();
    }

    async fn health(store: &Store) -> String {
        store.device("a").await.unwrap().unwrap().health
    }

    #[tokio::test]
    async fn the_first_health_that_holds_is_told_and_found() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path()).await;
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
            ("suspended = 1", "suspended"),
            ("revoked_at_ms = NULL", "new"),
        ];
        for (assignments, expected) in steps {
            set(&store, assignments).await;
            let mut connection = store.pool.acquire().await.unwrap();
            refresh(&mut connection, &BTreeSet::from(["a"]), NOW_MS).await.unwrap();
            drop(connection);
            assert_eq!(health(&store).await, expected, "{assignments}");
            let filter = |health: &str| DeviceFilter { health: health.to_owned(), ..DeviceFilter::default() };
            assert_eq!(
                store.devices(&filter(expected), Place::After(""), 2).await.unwrap().len(),
                1,
                "{assignments}"
            );
            assert!(
                store.devices(&filter("other"), Place::After(""), 2).await.unwrap().is_empty(),
                "{assignments}"
            );
        }
    }

    #[tokio::test]
    async fn a_device_is_unheard_when_its_time_is_over_and_not_before_and_ok_when_it_comes() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path()).await;
        set(&store, "last_seen_at_ms = $1").await;
        let mut connection = store.pool.acquire().await.unwrap();
        refresh(&mut connection, &BTreeSet::from(["a"]), NOW_MS).await.unwrap();
        drop(connection);
        store.sweep_health(NOW_MS + 60_000).await.unwrap();
        assert_eq!(health(&store).await, "ok");
        // A check-in that tells nothing new writes no time to look.
        set(&store, "last_seen_at_ms = $1 + 50000").await;
        store.sweep_health(NOW_MS + 60_001).await.unwrap();
        assert_eq!(health(&store).await, "ok");
        store.sweep_health(NOW_MS + 110_001).await.unwrap();
        assert_eq!(health(&store).await, "unheard");
        set(&store, "last_seen_at_ms = $1 + 120000").await;
        let mut connection = store.pool.acquire().await.unwrap();
        refresh(&mut connection, &BTreeSet::from(["a"]), NOW_MS + 120_000).await.unwrap();
        drop(connection);
        assert_eq!(health(&store).await, "ok");
        store.sweep_health(NOW_MS + 180_001).await.unwrap();
        assert_eq!(health(&store).await, "unheard", "it is looked at once more");
    }

    #[tokio::test]
    async fn a_device_that_comes_much_oftener_is_looked_at_sooner() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path()).await;
        let come = async |cadence_ms: i64| {
            set(&store, &format!("last_seen_at_ms = $1, cadence_ms = {cadence_ms}, cadence_intervals = 8"))
                .await;
            let mut connection = store.pool.acquire().await.unwrap();
            refresh(&mut connection, &BTreeSet::from(["a"]), NOW_MS).await.unwrap();
        };
        come(1_000_000).await;
        // Within the same hour, and as well as before.
        come(20_000).await;
        store.sweep_health(NOW_MS + 80_001).await.unwrap();
        assert_eq!(health(&store).await, "silent");
    }

    #[tokio::test]
    async fn another_deadline_holds_for_all_devices_of_the_product() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path()).await;
        let many = "WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 1999) \
             INSERT INTO devices (id, product, note, token_hash, created_at_ms) \
             SELECT 'b-' || i, 'lamp', '', '', 0 FROM n";
        sqlx::query(many).execute(&store.pool).await.unwrap();
        set(&store, "last_seen_at_ms = $1, look_at_ms = $1 + 60000, health = 'ok'").await;
        set(&store, "attempt_deadline_ms = $1 + 60000").await;
        for (deadline_s, expected) in [(5, "unheard"), (600, "ok")] {
            let update = "UPDATE products SET silence_deadline_s = $1, looked_until = ''";
            sqlx::query(update).bind(deadline_s).execute(&store.pool).await.unwrap();
            store.look_again(NOW_MS + 10_000).await.unwrap();
            let count: i64 = sqlx::query_scalar(
                "SELECT COUNT(*) FROM devices WHERE health = $1 AND attempt_deadline_ms = $2",
            )
            .bind(expected)
            .bind(NOW_MS + 10_000)
            .fetch_one(&store.pool)
            .await
            .unwrap();
            assert_eq!(count, 2001, "{deadline_s}");
        }
    }
}
