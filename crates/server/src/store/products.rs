//! Tables `products` and `publisher_keys`.

use super::{Store, StoreError};

/// A product as it is stored.
#[derive(Clone, Debug, sqlx::FromRow)]
pub(crate) struct ProductRow {
    pub(crate) name: String,
    pub(crate) chip: String,
    pub(crate) layout_name: String,
    pub(crate) layout_csv: String,
    pub(crate) strategy: String,
    /// JSON list of slots.
    pub(crate) slots: String,
    pub(crate) created_at_ms: i64,
}

/// A publisher key of a product.
#[derive(Clone, Debug, sqlx::FromRow)]
pub(crate) struct KeyRow {
    pub(crate) name: String,
    pub(crate) key_hex: String,
}

/// A product to add, with its first publisher keys.
#[derive(Clone, Debug)]
pub(crate) struct NewProduct {
    pub(crate) row: ProductRow,
    pub(crate) keys: Vec<KeyRow>,
}

const PRODUCT_BY_NAME: &str = "SELECT name, chip, layout_name, layout_csv, strategy, slots, created_at_ms \
     FROM products WHERE name = $1";

impl Store {
    /// Adds a product; [`StoreError::is_duplicate`] when the name is taken.
    pub(crate) async fn add_product(&self, product: &NewProduct) -> Result<(), StoreError> {
        let row = &product.row;
        let mut transaction = self.pool.begin().await?;
        sqlx::query(
            "INSERT INTO products (name, chip, layout_name, layout_csv, strategy, slots, created_at_ms) \
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
        )
        .bind(&row.name)
        .bind(&row.chip)
        .bind(&row.layout_name)
        .bind(&row.layout_csv)
        .bind(&row.strategy)
        .bind(&row.slots)
        .bind(row.created_at_ms)
        .execute(&mut *transaction)
        .await?;
        for key in &product.keys {
            sqlx::query(INSERT_KEY)
                .bind(&row.name)
                .bind(&key.key_hex)
                .bind(&key.name)
                .bind(row.created_at_ms)
                .execute(&mut *transaction)
                .await?;
        }
        transaction.commit().await?;
        Ok(())
    }

    /// A product by its name.
    pub(crate) async fn product(&self, name: &str) -> Result<Option<ProductRow>, StoreError> {
        Ok(sqlx::query_as(PRODUCT_BY_NAME).bind(name).fetch_optional(&self.pool).await?)
    }

    /// Products in the order of their names, past `after`.
    pub(crate) async fn products(&self, after: &str, limit: i64) -> Result<Vec<ProductRow>, StoreError> {
        Ok(sqlx::query_as(
            "SELECT name, chip, layout_name, layout_csv, strategy, slots, created_at_ms \
             FROM products WHERE name > $1 ORDER BY name LIMIT $2",
        )
        .bind(after)
        .bind(limit)
        .fetch_all(&self.pool)
        .await?)
    }

    /// The publisher keys of a product, oldest first.
    pub(crate) async fn publisher_keys(&self, product: &str) -> Result<Vec<KeyRow>, StoreError> {
        Ok(sqlx::query_as(
            "SELECT name, key_hex FROM publisher_keys WHERE product = $1 ORDER BY created_at_ms, key_hex",
        )
        .bind(product)
        .fetch_all(&self.pool)
        .await?)
    }

    /// Adds a publisher key; [`StoreError::is_duplicate`] when the product has it.
    pub(crate) async fn add_publisher_key(
        &self,
        product: &str,
        key: &KeyRow,
        now_ms: i64,
    ) -> Result<(), StoreError> {
        sqlx::query(INSERT_KEY)
            .bind(product)
            .bind(&key.key_hex)
            .bind(&key.name)
            .bind(now_ms)
            .execute(&self.pool)
            .await?;
        Ok(())
    }
}

const INSERT_KEY: &str =
    "INSERT INTO publisher_keys (product, key_hex, name, created_at_ms) VALUES ($1, $2, $3, $4)";
