//! Table `publisher_keys`.

use serde_json::{Value, json};

use super::products::take;
use super::{Change, Changed, IfMatch, Record, Store, StoreError};
use crate::clock;

/// A publisher key of a product.
#[derive(Clone, Debug, sqlx::FromRow)]
pub(crate) struct KeyRow {
    pub(crate) name: String,
    pub(crate) key_hex: String,
    pub(crate) created_at_ms: i64,
    pub(crate) revoked_at_ms: Option<i64>,
}

impl KeyRow {
    pub(super) fn json(&self) -> Value {
        json!({ "name": self.name, "key": self.key_hex })
    }
}

pub(super) const INSERT_KEY: &str =
    "INSERT INTO publisher_keys (product, key_hex, name, created_at_ms) VALUES ($1, $2, $3, $4)";

impl Store {
    /// The publisher keys of a product, oldest first, revoked ones too.
    pub(crate) async fn publisher_keys(&self, product: &str) -> Result<Vec<KeyRow>, StoreError> {
        Ok(sqlx::query_as(
            "SELECT name, key_hex, created_at_ms, revoked_at_ms FROM publisher_keys WHERE product = $1 \
             ORDER BY created_at_ms, key_hex",
        )
        .bind(product)
        .fetch_all(&self.pool)
        .await?)
    }

    /// Adds a publisher key; [`StoreError::is_duplicate`] when the product has it, or had it and it is revoked.
    pub(crate) async fn add_publisher_key(
        &self,
        product: &str,
        key: &KeyRow,
        change: &Change,
        if_match: &IfMatch,
    ) -> Result<Changed<()>, StoreError> {
        let mut transaction = self.pool.begin().await?;
        match take(&mut transaction, product, if_match).await? {
            Changed::Done(_) => {}
            Changed::Not(why) => return Ok(Changed::Not(why)),
        }
        sqlx::query(INSERT_KEY)
            .bind(product)
            .bind(&key.key_hex)
            .bind(&key.name)
            .bind(key.created_at_ms)
            .execute(&mut *transaction)
            .await?;
        let record = Record {
            action: "publisher-key.add",
            kind: "publisher-key",
            subject: &key.key_hex,
            product: Some(product),
            before: None,
            after: Some(key.json()),
        };
        change.record(&mut transaction, record).await?;
        transaction.commit().await?;
        Ok(Changed::Done(()))
    }

    /// Revokes a publisher key, once: what it signed is not published any more. Releases of before stay.
    pub(crate) async fn revoke_publisher_key(
        &self,
        product: &str,
        key: &KeyRow,
        change: &Change,
        if_match: &IfMatch,
    ) -> Result<Changed<()>, StoreError> {
        let mut transaction = self.pool.begin().await?;
        match take(&mut transaction, product, if_match).await? {
            Changed::Done(_) => {}
            Changed::Not(why) => return Ok(Changed::Not(why)),
        }
        let revoked = sqlx::query(
            "UPDATE publisher_keys SET revoked_at_ms = $1 \
             WHERE product = $2 AND key_hex = $3 AND revoked_at_ms IS NULL",
        )
        .bind(change.at_ms)
        .bind(product)
        .bind(&key.key_hex)
        .execute(&mut *transaction)
        .await?
        .rows_affected();
        if revoked == 0 {
            // Revoked since before: the product stays at its revision.
            transaction.rollback().await?;
            return Ok(Changed::Done(()));
        }
        let record = Record {
            action: "publisher-key.revoke",
            kind: "publisher-key",
            subject: &key.key_hex,
            product: Some(product),
            before: Some(json!({ "name": key.name, "revoked_at": null })),
            after: Some(json!({ "name": key.name, "revoked_at": clock::rfc3339(change.at_ms) })),
        };
        change.record(&mut transaction, record).await?;
        transaction.commit().await?;
        Ok(Changed::Done(()))
    }
}
