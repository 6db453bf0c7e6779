//! Table `releases`.

use super::{Store, StoreError};

/// A release as it is stored.
#[derive(Clone, Debug, sqlx::FromRow)]
pub(crate) struct ReleaseRow {
    pub(crate) product: String,
    pub(crate) sequence: i64,
    pub(crate) version: String,
    pub(crate) digest: String,
    pub(crate) size_bytes: i64,
    pub(crate) chip: String,
    /// JSON of the app descriptor.
    pub(crate) app: Option<String>,
    pub(crate) min_slot_bytes: i64,
    pub(crate) notes: String,
    pub(crate) manifest_base64: String,
    pub(crate) created_at_ms: i64,
}

/// A release to add.
pub(crate) type NewRelease = ReleaseRow;

impl Store {
    /// Adds a release when its sequence number is higher than all others of its product.
    ///
    /// `false`: it is not, and nothing was added.
    pub(crate) async fn add_release(&self, release: &NewRelease) -> Result<bool, StoreError> {
        // One statement, so that of two publishers with the same number one loses.
        let result = sqlx::query(
            "INSERT INTO releases (product, sequence, version, digest, size_bytes, chip, app, min_slot_bytes, \
                 notes, manifest_base64, created_at_ms) \
             SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11 \
             WHERE NOT EXISTS (SELECT 1 FROM releases WHERE product = $1 AND sequence >= $2)",
        )
        .bind(&release.product)
        .bind(release.sequence)
        .bind(&release.version)
        .bind(&release.digest)
        .bind(release.size_bytes)
        .bind(&release.chip)
        .bind(&release.app)
        .bind(release.min_slot_bytes)
        .bind(&release.notes)
        .bind(&release.manifest_base64)
        .bind(release.created_at_ms)
        .execute(&self.pool)
        .await
        .map_err(StoreError::from);
        match result {
            Ok(result) => Ok(result.rows_affected() == 1),
            Err(error) if error.is_duplicate() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The newest release of a product.
    pub(crate) async fn newest_release(&self, product: &str) -> Result<Option<ReleaseRow>, StoreError> {
        Ok(self.releases(product, i64::MAX, 1).await?.into_iter().next())
    }

    /// Releases of a product, newest first, with a sequence number of at most `up_to`.
    pub(crate) async fn releases(
        &self,
        product: &str,
        up_to: i64,
        limit: i64,
    ) -> Result<Vec<ReleaseRow>, StoreError> {
        Ok(sqlx::query_as(
            "SELECT product, sequence, version, digest, size_bytes, chip, app, min_slot_bytes, notes, \
                 manifest_base64, created_at_ms \
             FROM releases WHERE product = $1 AND sequence <= $2 ORDER BY sequence DESC LIMIT $3",
        )
        .bind(product)
        .bind(up_to)
        .bind(limit)
        .fetch_all(&self.pool)
        .await?)
    }

    /// A release by its sequence number.
    pub(crate) async fn release(
        &self,
        product: &str,
        sequence: i64,
    ) -> Result<Option<ReleaseRow>, StoreError> {
        let newest = self.releases(product, sequence, 1).await?.into_iter().next();
        Ok(newest.filter(|release| release.sequence == sequence))
    }

    /// The size in bytes of an artifact that a release of the product has; `None` when none has it.
    pub(crate) async fn artifact_size(&self, product: &str, digest: &str) -> Result<Option<i64>, StoreError> {
        Ok(sqlx::query_scalar("SELECT size_bytes FROM releases WHERE digest = $1 AND product = $2 LIMIT 1")
            .bind(digest)
            .bind(product)
            .fetch_optional(&self.pool)
            .await?)
    }
}
