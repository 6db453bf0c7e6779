//! Table `artifacts`: what was uploaded, and for whom.
//!
//! A file and its row cannot be written at once. An upload stores the file, notes it, and sees that it is still there. A
//! deletion marks the row, removes the file, and removes the row: while the mark stands nobody notes or publishes the
//! artifact, and what was noted within a day is not marked. So on any number of instances no row that is not marked lacks
//! its file.

use manifest::Digest;
use serde_json::json;
use sqlx::AnyConnection;

use super::filter::Filter;
use super::{Change, Record, Store, StoreError};

row! {
    /// An artifact as it is stored.
    #[derive(Clone, Debug)]
    pub(crate) struct ArtifactRow {
        pub(crate) digest: String,
        /// Empty when whoever uploaded it named none.
        pub(crate) product: String,
        pub(crate) size_bytes: i64,
        pub(crate) uploaded_at_ms: i64,
        pub(crate) deleting_at_ms: Option<i64>,
        /// Whether a release has it (0, 1).
        pub(crate) is_used: i64,
    }
}

/// Which artifacts; empty texts fit all.
#[derive(Clone, Debug, Default)]
pub(crate) struct ArtifactFilter {
    pub(crate) product: String,
    /// The product that the reader is bound to.
    pub(crate) scope: String,
    /// Only those that no release has.
    pub(crate) unused: bool,
}

/// What became of an artifact that was to be noted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Noted {
    Done,
    /// Somebody deletes it just now; nothing was noted.
    BeingDeleted,
}

/// What became of an artifact that was to be deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ArtifactDeletion {
    /// It is marked: its file is to be removed, and then its row.
    Begun,
    NotFound,
    /// A release has it.
    Used {
        product: String,
        sequence: i64,
    },
    /// It was uploaded a short while ago, and may be about to be published.
    Young {
        until_ms: i64,
    },
    /// Somebody else deletes it just now.
    BeingDeleted,
}

/// Whoever uploads has so long to publish.
pub(crate) const YOUNG_MS: i64 = 24 * 3_600_000;

/// A deletion that is not over by then was broken off, and may be begun again.
pub(super) const BROKEN_OFF_MS: i64 = 10 * 60_000;

macro_rules! is_used {
    () => {
        "EXISTS (SELECT 1 FROM releases r WHERE r.digest = a.digest) \
             OR EXISTS (SELECT 1 FROM releases r WHERE r.elf_digest = a.digest)"
    };
}

const ARTIFACTS: &str = concat!(
    "SELECT a.digest, a.product, a.size_bytes, a.uploaded_at_ms, a.deleting_at_ms, \
         CAST(CASE WHEN ",
    is_used!(),
    " THEN 1 ELSE 0 END AS BIGINT) AS is_used FROM artifacts a"
);

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

    /// Artifacts in the order of their digests, past `after`.
    pub(crate) async fn artifacts(
        &self,
        filter: &ArtifactFilter,
        after: &str,
        limit: i64,
    ) -> Result<Vec<ArtifactRow>, StoreError> {
        let mut conditions = Filter::default();
        conditions.text("a.digest > {}", after);
        conditions.text("a.product = {}", &filter.product);
        conditions.text("a.product = {}", &filter.scope);
        if filter.unused {
            conditions.and(concat!("NOT (", is_used!(), ")"));
        }
        conditions.fetch(&self.questions, ARTIFACTS, "ORDER BY a.digest LIMIT {}", limit).await
    }

    /// An artifact by its digest.
    pub(crate) async fn artifact(&self, digest: Digest) -> Result<Option<ArtifactRow>, StoreError> {
        Ok(sqlx::query_as(sqlx::AssertSqlSafe(format!("{ARTIFACTS} WHERE a.digest = $1")))
            .bind(digest.to_string())
            .fetch_optional(&self.pool)
            .await?)
    }

    /// Notes an artifact that is stored, from now on. One that was noted before stays that of its first product.
    pub(crate) async fn add_artifact(
        &self,
        digest: Digest,
        product: &str,
        size_bytes: u64,
        change: &Change,
    ) -> Result<Noted, StoreError> {
        let digest = digest.to_string();
        let mut transaction = self.pool.begin().await?;
        let noted = sqlx::query(
            "INSERT INTO artifacts (digest, product, size_bytes, uploaded_at_ms) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (digest) DO UPDATE SET uploaded_at_ms = excluded.uploaded_at_ms \
                 WHERE artifacts.deleting_at_ms IS NULL",
        )
        .bind(&digest)
        .bind(product)
        .bind(i64::try_from(size_bytes).unwrap_or(i64::MAX))
        .bind(change.at_ms)
        .execute(&mut *transaction)
        .await?;
        if noted.rows_affected() == 0 {
            return Ok(Noted::BeingDeleted);
        }
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
        Ok(Noted::Done)
    }

    /// Notes that an artifact which was noted before was uploaded again. `false`: it was not, or is being deleted.
    pub(crate) async fn touch_artifact(&self, digest: Digest, now_ms: i64) -> Result<bool, StoreError> {
        let touched = sqlx::query(
            "UPDATE artifacts SET uploaded_at_ms = $1 WHERE digest = $2 AND deleting_at_ms IS NULL",
        )
        .bind(now_ms)
        .bind(digest.to_string())
        .execute(&self.pool)
        .await?;
        Ok(touched.rows_affected() == 1)
    }

    /// Notes an artifact that is stored and was not noted, as one of no product: the server was stopped in between. When
    /// somebody deletes it just now, publishing finds that out.
    pub(crate) async fn note_artifact(
        &self,
        digest: Digest,
        size_bytes: u64,
        change: &Change,
    ) -> Result<(), StoreError> {
        if !self.has_artifact(digest).await? {
            self.add_artifact(digest, "", size_bytes, change).await?;
        }
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

    /// Marks an artifact that no release has as one that is being deleted.
    pub(crate) async fn begin_deleting(
        &self,
        digest: Digest,
        change: &Change,
    ) -> Result<ArtifactDeletion, StoreError> {
        let text = digest.to_string();
        let mut transaction = self.pool.begin().await?;
        // A publisher who took it first is waited for, and its release is seen below.
        sqlx::query("UPDATE artifacts SET size_bytes = size_bytes WHERE digest = $1")
            .bind(&text)
            .execute(&mut *transaction)
            .await?;
        let found: Option<ArtifactRow> =
            sqlx::query_as(sqlx::AssertSqlSafe(format!("{ARTIFACTS} WHERE a.digest = $1")))
                .bind(&text)
                .fetch_optional(&mut *transaction)
                .await?;
        let Some(found) = found else { return Ok(ArtifactDeletion::NotFound) };
        let user: Option<(String, i64)> = sqlx::query_as(
            "SELECT product, sequence FROM releases WHERE digest = $1 \
             UNION ALL SELECT product, sequence FROM releases WHERE elf_digest = $1 LIMIT 1",
        )
        .bind(&text)
        .fetch_optional(&mut *transaction)
        .await?;
        if let Some((product, sequence)) = user {
            return Ok(ArtifactDeletion::Used { product, sequence });
        }
        let until_ms = found.uploaded_at_ms.saturating_add(YOUNG_MS);
        match found.deleting_at_ms {
            None if until_ms > change.at_ms => return Ok(ArtifactDeletion::Young { until_ms }),
            Some(at_ms) if at_ms > change.at_ms.saturating_sub(BROKEN_OFF_MS) => {
                return Ok(ArtifactDeletion::BeingDeleted);
            }
            None | Some(_) => {}
        }
        sqlx::query("UPDATE artifacts SET deleting_at_ms = $1 WHERE digest = $2")
            .bind(change.at_ms)
            .bind(&text)
            .execute(&mut *transaction)
            .await?;
        let record = Record {
            action: "artifact.delete",
            kind: "artifact",
            subject: &text,
            product: Some(found.product.as_str()).filter(|product| !product.is_empty()),
            before: Some(json!({ "size_bytes": found.size_bytes })),
            after: None,
        };
        change.record(&mut transaction, record).await?;
        transaction.commit().await?;
        Ok(ArtifactDeletion::Begun)
    }

    /// Forgets an artifact whose file is removed.
    pub(crate) async fn finish_deleting(&self, digest: Digest) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM artifacts WHERE digest = $1 AND deleting_at_ms IS NOT NULL")
            .bind(digest.to_string())
            .execute(&self.pool)
            .await?;
        Ok(())
    }
}

/// Makes an artifact that was taken, and is of no product, one of a product's. `false`: the product's quota has no room for
/// it. One of another product stays there.
pub(super) async fn claim_artifact(
    connection: &mut AnyConnection,
    digest: &str,
    product: &str,
    quota_bytes: u64,
) -> Result<bool, StoreError> {
    let claimed = sqlx::query(
        "UPDATE artifacts SET product = $1 WHERE digest = $2 AND product = '' AND size_bytes <= $3 - \
             (SELECT CAST(COALESCE(SUM(size_bytes), 0) AS BIGINT) FROM artifacts WHERE product = $1)",
    )
    .bind(product)
    .bind(digest)
    .bind(i64::try_from(quota_bytes).unwrap_or(i64::MAX))
    .execute(&mut *connection)
    .await?;
    if claimed.rows_affected() == 1 {
        return Ok(true);
    }
    let owner: String = sqlx::query_scalar("SELECT product FROM artifacts WHERE digest = $1")
        .bind(digest)
        .fetch_one(connection)
        .await?;
    Ok(!owner.is_empty())
}

/// Takes an artifact for a release that is about to be added. `false`: it is not there, or is being deleted.
pub(super) async fn hold_artifact(connection: &mut AnyConnection, digest: &str) -> Result<bool, StoreError> {
    let held = sqlx::query(
        "UPDATE artifacts SET size_bytes = size_bytes WHERE digest = $1 AND deleting_at_ms IS NULL",
    )
    .bind(digest)
    .execute(connection)
    .await?;
    Ok(held.rows_affected() == 1)
}
