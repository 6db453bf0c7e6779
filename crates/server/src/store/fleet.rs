//! The fleet as a whole: counts of devices, and table `fleet_samples`, which remembers them.

use super::questions::Value;
use super::{Store, StoreError};

row! {
    /// So many devices of a product run this release and are in this health.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub(crate) struct Count {
        pub(crate) product: String,
        /// [`NO_SEQUENCE`] when nothing that is known runs.
        pub(crate) sequence: i64,
        pub(crate) health: String,
        pub(crate) devices: i64,
        /// Of those: seen since the time that was asked for.
        pub(crate) seen: i64,
    }
}

row! {
    /// A count of a sample.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub(crate) struct Sampled {
        pub(crate) at_ms: i64,
        pub(crate) product: String,
        pub(crate) sequence: i64,
        pub(crate) health: String,
        pub(crate) devices: i64,
    }
}

row! {
    /// So many devices of a product have a certificate that is about to end, or was refused.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub(crate) struct CertificateCount {
        pub(crate) product: String,
        pub(crate) ended: i64,
        pub(crate) ending: i64,
        pub(crate) refused: i64,
    }
}

/// Each part by an index that has all of it.
const COUNT_CERTIFICATES: &str = "SELECT product, CAST(SUM(ended) AS BIGINT) AS ended, \
     CAST(SUM(ending) AS BIGINT) AS ending, CAST(SUM(refused) AS BIGINT) AS refused FROM ( \
         SELECT product, CASE WHEN certificate_ends_at_ms < $1 THEN 1 ELSE 0 END AS ended, \
             CASE WHEN certificate_ends_at_ms < $1 THEN 0 ELSE 1 END AS ending, 0 AS refused FROM devices \
         WHERE certificate_ends_at_ms < $2 AND health NOT IN ('revoked', 'suspended') \
         UNION ALL \
         SELECT product, 0, 0, 1 FROM devices WHERE refused_at_ms IS NOT NULL AND health NOT IN ('revoked', 'suspended') \
     ) AS found GROUP BY product ORDER BY product";

const HOUR_MS: i64 = 60 * 60 * 1000;

/// Sequence number of what has none.
pub(crate) const NO_SEQUENCE: i64 = -1;

/// A sample begins with a row of no product. Whoever inserts that row adds the others; it also remembers that there
/// was nothing to count.
const MARK: &str = "";

/// The expression is that of the index `devices_by_release`, which has all that is counted.
const COUNT_DEVICES: &str = "SELECT COALESCE(running_sequence, -1) AS sequence, product, health, COUNT(*) AS devices, \
     CAST(SUM(CASE WHEN seen_hour >= $1 THEN 1 ELSE 0 END) AS BIGINT) AS seen \
     FROM devices GROUP BY COALESCE(running_sequence, -1), product, health \
     ORDER BY COALESCE(running_sequence, -1), product, health";

impl Store {
    /// Counts all devices: one pass over an index. `seen_since_ms` is for [`Count::seen`], to the hour.
    pub(crate) async fn count_devices(&self, seen_since_ms: i64) -> Result<Vec<Count>, StoreError> {
        let since = Value::Number(seen_since_ms.div_euclid(HOUR_MS));
        self.questions.ask(COUNT_DEVICES.to_owned(), vec![since]).await
    }

    /// Counts, by product, the devices whose certificate has ended or ends before a time, and those that were refused; not
    /// those that are refused whatever they have.
    pub(crate) async fn count_certificates(
        &self,
        now_ms: i64,
        soon_ms: i64,
    ) -> Result<Vec<CertificateCount>, StoreError> {
        let values = vec![Value::Number(now_ms), Value::Number(soon_ms)];
        self.questions.ask(COUNT_CERTIFICATES.to_owned(), values).await
    }

    /// Rollouts by state.
    pub(crate) async fn count_rollouts(&self) -> Result<Vec<(String, i64)>, StoreError> {
        let counts = sqlx::query_as("SELECT state, COUNT(*) FROM rollouts GROUP BY state");
        Ok(counts.fetch_all(&self.pool).await?)
    }

    /// The ids of rollouts that are under way; of all products when `scope` and `product` are empty.
    pub(crate) async fn active_rollouts(
        &self,
        scope: &str,
        product: &str,
    ) -> Result<Vec<String>, StoreError> {
        let ids = sqlx::query_scalar(
            "SELECT id FROM rollouts WHERE state IN ('running', 'awaiting-approval', 'open', 'paused', 'halted') \
             AND ($1 = '' OR product = $1) AND ($2 = '' OR product = $2) ORDER BY id",
        );
        Ok(ids.bind(scope).bind(product).fetch_all(&self.pool).await?)
    }

    /// The version of each release of a product and the product itself, all products when `product` is empty.
    pub(crate) async fn versions(&self, product: &str) -> Result<Vec<(String, i64, String)>, StoreError> {
        let versions = sqlx::query_as(
            "SELECT product, sequence, version FROM releases WHERE $1 = '' OR product = $1 ORDER BY 1, 2",
        );
        Ok(versions.bind(product).fetch_all(&self.pool).await?)
    }

    /// Whether there is a sample of this moment.
    pub(crate) async fn is_sampled(&self, at_ms: i64) -> Result<bool, StoreError> {
        let marks: i64 =
            sqlx::query_scalar("SELECT COUNT(*) FROM fleet_samples WHERE at_ms = $1 AND product = $2")
                .bind(at_ms)
                .bind(MARK)
                .fetch_one(&self.pool)
                .await?;
        Ok(marks > 0)
    }

    /// Stores a sample, whole or not at all; `false` when another instance has stored one of the same moment.
    pub(crate) async fn add_sample(&self, at_ms: i64, counts: &[Count]) -> Result<bool, StoreError> {
        const INSERT: &str = "INSERT INTO fleet_samples (at_ms, product, sequence, health, devices) \
             VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING";
        let mut transaction = self.pool.begin().await?;
        let mark = sqlx::query(INSERT).bind(at_ms).bind(MARK).bind(NO_SEQUENCE).bind("").bind(0_i64);
        if mark.execute(&mut *transaction).await?.rows_affected() == 0 {
            transaction.rollback().await?;
            return Ok(false);
        }
        for count in counts {
            sqlx::query(INSERT)
                .bind(at_ms)
                .bind(&count.product)
                .bind(count.sequence)
                .bind(&count.health)
                .bind(count.devices)
                .execute(&mut *transaction)
                .await?;
        }
        transaction.commit().await?;
        Ok(true)
    }

    /// The counts of samples since a time, in their order: of each span of `every_ms` the last sample.
    pub(crate) async fn samples(
        &self,
        scope: &str,
        product: &str,
        since_ms: i64,
        every_ms: i64,
    ) -> Result<Vec<Sampled>, StoreError> {
        let samples = sqlx::query_as(
            "SELECT s.at_ms, s.product, s.sequence, s.health, s.devices FROM fleet_samples s \
             JOIN (SELECT MAX(at_ms) AS last_ms FROM fleet_samples WHERE at_ms >= $1 GROUP BY at_ms / $2) spans \
             ON spans.last_ms = s.at_ms \
             WHERE s.product <> '' AND ($3 = '' OR s.product = $3) AND ($4 = '' OR s.product = $4) \
             ORDER BY s.at_ms, s.product, s.sequence, s.health",
        );
        let samples = samples.bind(since_ms).bind(every_ms).bind(scope).bind(product);
        Ok(samples.fetch_all(&self.pool).await?)
    }

    /// Of samples before `fine_until_ms` keeps the first of each span of `span_ms`; before `keep_since_ms` none.
    pub(crate) async fn thin_samples(
        &self,
        fine_until_ms: i64,
        span_ms: i64,
        keep_since_ms: i64,
    ) -> Result<u64, StoreError> {
        let thinned = sqlx::query(
            "DELETE FROM fleet_samples WHERE at_ms < $1 OR (at_ms < $2 AND at_ms NOT IN \
             (SELECT MIN(at_ms) FROM fleet_samples WHERE at_ms < $2 GROUP BY at_ms / $3))",
        );
        let thinned = thinned.bind(keep_since_ms).bind(fine_until_ms).bind(span_ms);
        Ok(thinned.execute(&self.pool).await?.rows_affected())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(product: &str, devices: i64) -> Count {
        Count { product: product.to_owned(), sequence: 1, health: "ok".to_owned(), devices, seen: devices }
    }

    async fn store() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::in_dir(dir.path()).await;
        (dir, store)
    }

    #[tokio::test]
    async fn a_sample_of_one_moment_is_stored_once() {
        let (_dir, store) = store().await;
        assert!(!store.is_sampled(1000).await.unwrap());
        assert!(store.add_sample(1000, &[count("lamp", 7)]).await.unwrap());
        assert!(store.is_sampled(1000).await.unwrap());
        // The other instance counted a moment later, and saw a product more.
        assert!(!store.add_sample(1000, &[count("lamp", 8), count("fan", 1)]).await.unwrap());
        let samples = store.samples("", "", 0, 1).await.unwrap();
        assert_eq!(samples.iter().map(|sample| sample.devices).collect::<Vec<_>>(), [7]);
    }

    #[tokio::test]
    async fn old_samples_are_thinned_and_very_old_ones_go() {
        let (_dir, store) = store().await;
        for at_ms in [5, 15, 25, 101, 102, 111, 201, 202] {
            store.add_sample(at_ms, &[count("lamp", at_ms)]).await.unwrap();
        }
        // Before 20: none; before 200: the first of each span of 10.
        assert_eq!(store.thin_samples(200, 10, 20).await.unwrap(), 2 * 3);
        let left = |samples: Vec<Sampled>| samples.iter().map(|sample| sample.at_ms).collect::<Vec<_>>();
        assert_eq!(left(store.samples("", "", 0, 1).await.unwrap()), [25, 101, 111, 201, 202]);
        assert_eq!(left(store.samples("", "", 101, 100).await.unwrap()), [111, 202], "the last of each span");
        assert_eq!(left(store.samples("fan", "", 0, 1).await.unwrap()), [0; 0]);
        assert_eq!(store.thin_samples(200, 10, 20).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn a_large_fleet_is_counted_at_once() {
        let (_dir, store) = store().await;
        let day_ms: i64 = 24 * 60 * 60 * 1000;
        let now_ms = 100 * day_ms;
        sqlx::query(
            "INSERT INTO products (name, chip, layout_name, layout_csv, strategy, slots, created_at_ms) \
             VALUES ('lamp', 'esp32c3', '4mb', '', 'chain-load', '[]', 0)",
        )
        .execute(&store.pool)
        .await
        .unwrap();
        // Every tenth device by its last digit; slots and digests make rows as wide as real ones.
        sqlx::query(
            "WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 99999) \
             INSERT INTO devices (id, product, note, token_hash, created_at_ms, slots, running_digest, \
                 running_sequence, seen_hour, health) \
             SELECT 'lamp-' || i, 'lamp', 'a note', $2, 0, $3, $2, CASE WHEN i % 10 = 1 THEN NULL ELSE i % 2 END, \
                 CASE WHEN i % 10 = 1 THEN 0 ELSE $1 / 3600000 - i % 2 * 25 END, \
                 CASE i % 10 WHEN 0 THEN 'revoked' WHEN 1 THEN 'new' WHEN 2 THEN 'unheard' WHEN 3 THEN 'silent' \
                     WHEN 4 THEN 'crashing' WHEN 5 THEN 'failing' WHEN 6 THEN 'failing' WHEN 9 THEN 'ok' \
                     ELSE 'updating' END \
             FROM n",
        )
        .bind(now_ms)
        .bind("8".repeat(64))
        .bind("[{\"label\":\"ota_0\",\"size_bytes\":3080192,\"bootable\":true}]")
        .execute(&store.pool)
        .await
        .unwrap();

        let started = std::time::Instant::now();
        let counts = store.count_devices(now_ms - day_ms).await.unwrap();
        let took = started.elapsed();
        println!("100,000 devices were counted in {took:?}");
        // Half a second without optimisation; the bound is for machines that do other things too.
        assert!(took.as_secs() < 3, "{took:?}");
        let found: Vec<_> = counts
            .iter()
            .map(|count| (count.sequence, count.health.as_str(), count.devices, count.seen))
            .collect();
        assert_eq!(
            found,
            [
                (-1, "new", 10_000, 0),
                (0, "crashing", 10_000, 10_000),
                (0, "failing", 10_000, 10_000),
                (0, "revoked", 10_000, 10_000),
                (0, "unheard", 10_000, 10_000),
                (0, "updating", 10_000, 10_000),
                (1, "failing", 10_000, 0),
                (1, "ok", 10_000, 0),
                (1, "silent", 10_000, 0),
                (1, "updating", 10_000, 0),
            ]
        );
    }
}
