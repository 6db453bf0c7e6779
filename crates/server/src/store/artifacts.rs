//! Table `artifacts`: what was uploaded, and for whom.

use manifest::Digest;
use serde_json::json;

use super::{Change, Record, Store, StoreError};

impl Store {
    /// How many bytes of artifacts were uploaded for a product; of an empty name, for none.
    pub(crate) async fn uploaded_bytes(&self, product: &str) -> Result<u64, StoreError> {
        let bytes: i64 = sqlx::query_scalar(
            "SELECT CAST(COALESCE(SUM(size_bytes), 0) AS BIGINT) FROM artifacts WHERE product = $1",
        )
        .bind(product)
        .fetch_one(&self.pool)
        .await?;
        Ok(bytes.unsigned_abs())
    }

    /// Notes an artifact that is stored. One that was noted before stays that of its first product.
    pub(crate) async fn add_artifact(
        &self,
        digest: Digest,
        product: &str,
        size_bytes: u64,
        change: &Change,
    ) -> Result<(), StoreError> {
        let digest = digest.to_string();
        let mut transaction = self.pool.begin().await?;
        sqlx::query(
            "INSERT INTO artifacts (digest, product, size_bytes, uploaded_at_ms) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (digest) DO NOTHING",
        )
        .bind(&digest)
        .bind(product)
        .bind(i64::try_from(size_bytes).unwrap_or(i64::MAX))
        .bind(change.at_ms)
        .execute(&mut *transaction)
        .await?;
        let record = Record {
            action: "artifact.upload",
            kind: "artifact",
            subject: &digest,
            product: Some(product).filter(|product| !product.is_empty()),
            before: None,
            after: Some(json!({ "size_bytes": size_bytes })),
        };
        change.record(&mut transaction, record).await?;
        transaction.commit().await?;
        Ok(())
    }

    /// Makes an artifact that is of no product one of a product's, and notes one that is stored and was not noted. `false`: the
    /// product's quota has no room for it. One of another product stays there.
    pub(crate) async fn claim_artifact(
        &self,
        digest: Digest,
        product: &str,
        size_bytes: u64,
        quota_bytes: u64,
        change: &Change,
    ) -> Result<bool, StoreError> {
        if !self.has_artifact(digest).await? {
            // The server was stopped between storing it and noting it.
            self.add_artifact(digest, "", size_bytes, change).await?;
        }
        let digest = digest.to_string();
        let claimed = sqlx::query(
            "UPDATE artifacts SET product = $1 WHERE digest = $2 AND product = '' AND size_bytes <= $3 - \
                 (SELECT CAST(COALESCE(SUM(size_bytes), 0) AS BIGINT) FROM artifacts WHERE product = $1)",
        )
        .bind(product)
        .bind(&digest)
        .bind(i64::try_from(quota_bytes).unwrap_or(i64::MAX))
        .execute(&self.pool)
        .await?;
        if claimed.rows_affected() == 1 {
            return Ok(true);
        }
        let owner: Option<String> = sqlx::query_scalar("SELECT product FROM artifacts WHERE digest = $1")
            .bind(&digest)
            .fetch_optional(&self.pool)
            .await?;
        Ok(owner.is_some_and(|owner| !owner.is_empty()))
    }

    /// Whether an artifact was noted.
    pub(crate) async fn has_artifact(&self, digest: Digest) -> Result<bool, StoreError> {
        let noted: Option<i64> = sqlx::query_scalar("SELECT size_bytes FROM artifacts WHERE digest = $1")
            .bind(digest.to_string())
            .fetch_optional(&self.pool)
            .await?;
        Ok(noted.is_some())
    }
}
