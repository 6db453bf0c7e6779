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

    /// Whether an artifact was noted.
    pub(crate) async fn has_artifact(&self, digest: Digest) -> Result<bool, StoreError> {
        let noted: Option<i64> = sqlx::query_scalar("SELECT size_bytes FROM artifacts WHERE digest = $1")
            .bind(digest.to_string())
            .fetch_optional(&self.pool)
            .await?;
        Ok(noted.is_some())
    }
}
