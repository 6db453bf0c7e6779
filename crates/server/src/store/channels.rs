//! Table `channels`.

use serde_json::json;

use super::{Change, Record, Store, StoreError};

row! {
    /// A channel of a product.
    #[derive(Clone, Debug)]
    pub(crate) struct ChannelRow {
        pub(crate) name: String,
        pub(crate) created_at_ms: i64,
    }
}

impl Store {
    /// Channels of a product in the order of their names, past `after`.
    pub(crate) async fn channels(
        &self,
        product: &str,
        after: &str,
        limit: i64,
    ) -> Result<Vec<ChannelRow>, StoreError> {
        Ok(sqlx::query_as(
            "SELECT name, created_at_ms FROM channels WHERE product = $1 AND name > $2 ORDER BY name LIMIT $3",
        )
        .bind(product)
        .bind(after)
        .bind(limit)
        .fetch_all(&self.pool)
        .await?)
    }

    /// Whether a product has a channel of this name.
    pub(crate) async fn has_channel(&self, product: &str, name: &str) -> Result<bool, StoreError> {
        let count: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM channels WHERE product = $1 AND name = $2")
            .bind(product)
            .bind(name)
            .fetch_one(&self.pool)
            .await?;
        Ok(count > 0)
    }

    /// Adds a channel; [`StoreError::is_duplicate`] when the product has it.
    pub(crate) async fn add_channel(
        &self,
        product: &str,
        name: &str,
        change: &Change,
    ) -> Result<(), StoreError> {
        let mut transaction = self.pool.begin().await?;
        sqlx::query("INSERT INTO channels (product, name, created_at_ms) VALUES ($1, $2, $3)")
            .bind(product)
            .bind(name)
            .bind(change.at_ms)
            .execute(&mut *transaction)
            .await?;
        let record = Record {
            action: "channel.create",
            kind: "channel",
            subject: name,
            product: Some(product),
            before: None,
            after: Some(json!({ "name": name })),
        };
        change.record(&mut transaction, record).await?;
        transaction.commit().await?;
        Ok(())
    }
}
