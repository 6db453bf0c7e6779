//! Table `publisher_keys`.

use serde_json::{Value, json};

use super::product_row::take;
use super::{Change, Changed, IfMatch, Record, Store, StoreError};
use crate::clock;

row! {
    /// A publisher key of a product.
    #[derive(Clone, Debug)]
    pub(crate) struct KeyRow {
        pub(crate) name: String,
        pub(crate) key_hex: String,
        pub(crate) created_at_ms: i64,
        pub(crate) revoked_at_ms: Option<i64>,
    }
}

impl KeyRow {
    pub(super) fn json(&self) -> Value {
        json!({ "name": self.name, "key": self.key_hex })
    }
}

/// Sets of publisher keys that are looked at for one count: those of a few generations of provisioning.
const MAX_SETS: usize = 64;

/// Devices that are looked at for one count; a larger fleet is counted in part.
const MAX_COUNTED: i64 = 100_000;

/// How many devices of a product trust a publisher key, of those that tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Trust {
    pub(crate) trusting: i64,
    pub(crate) others: i64,
    /// Whether there are more devices than were counted.
    pub(crate) in_part: bool,
}

pub(super) const INSERT_KEY: &str =
    "INSERT INTO publisher_keys (product, key_hex, name, created_at_ms) VALUES ($1, $2, $3, $4)";

impl Store {
    /// Stores which publisher keys a device said it trusts.
    pub(crate) async fn note_publishers(
        &self,
        device: &str,
        publishers: Option<&str>,
    ) -> Result<(), StoreError> {
        sqlx::query("UPDATE devices SET publishers = $1 WHERE id = $2")
            .bind(publishers)
            .bind(device)
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// Counts the devices of a product by whether they trust the key with this id. It steps from one set of keys to the next
    /// in the index, and counts no more than a bound.
    pub(crate) async fn trust(&self, product: &str, key_id: &str) -> Result<Trust, StoreError> {
        let (mut trust, mut last) = (Trust::default(), String::new());
        for _ in 0..MAX_SETS {
            let next: Option<String> = sqlx::query_scalar(
                "SELECT MIN(publishers) FROM devices WHERE product = $1 AND publishers > $2",
            )
            .bind(product)
            .bind(&last)
            .fetch_one(&self.pool)
            .await?;
            let Some(next) = next else { return Ok(trust) };
            let left = MAX_COUNTED - trust.trusting - trust.others;
            let devices: i64 = sqlx::query_scalar(
                "SELECT COUNT(*) FROM (SELECT 1 FROM devices \
                     WHERE product = $1 AND publishers = $2 AND revoked_at_ms IS NULL LIMIT $3) AS counted",
            )
            .bind(product)
            .bind(&next)
            .bind(left + 1)
            .fetch_one(&self.pool)
            .await?;
            if next.split(' ').any(|id| id == key_id) {
                trust.trusting += devices.min(left);
            } else {
                trust.others += devices.min(left);
            }
            if devices > left {
                break;
            }
            last = next;
        }
        Ok(Trust { in_part: true, ..trust })
    }

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

    /// Revokes a publisher key, once: what it signed is not published any more. Releases of before stay. `false`: it is the
    /// last one, and `force` was not said.
    pub(crate) async fn revoke_publisher_key(
        &self,
        product: &str,
        key: &KeyRow,
        force: bool,
        change: &Change,
        if_match: &IfMatch,
    ) -> Result<Changed<bool>, StoreError> {
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
            return Ok(Changed::Done(true));
        }
        let left: i64 = sqlx::query_scalar(
            "SELECT COUNT(*) FROM publisher_keys WHERE product = $1 AND revoked_at_ms IS NULL",
        )
        .bind(product)
        .fetch_one(&mut *transaction)
        .await?;
        if left == 0 && !force {
            transaction.rollback().await?;
            return Ok(Changed::Done(false));
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
        Ok(Changed::Done(true))
    }
}
