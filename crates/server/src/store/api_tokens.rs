//! Table `api_tokens`.

use serde_json::json;

use super::{Change, Record, Store, StoreError};

/// An API token as it is stored, without its hash.
#[derive(Clone, Debug, sqlx::FromRow)]
pub(crate) struct TokenRow {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) role: String,
    /// The one product that it is for.
    pub(crate) product: Option<String>,
    pub(crate) created_at_ms: i64,
    pub(crate) expires_at_ms: Option<i64>,
    pub(crate) revoked_at_ms: Option<i64>,
}

impl Store {
    /// Whether there is any admin token.
    pub(crate) async fn has_admin_token(&self) -> Result<bool, StoreError> {
        let count: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM api_tokens WHERE role = 'admin'")
            .fetch_one(&self.pool)
            .await?;
        Ok(count > 0)
    }

    /// Adds an API token by its hash.
    pub(crate) async fn add_token(
        &self,
        token: &TokenRow,
        token_hash: &str,
        change: &Change,
    ) -> Result<(), StoreError> {
        let mut transaction = self.pool.begin().await?;
        sqlx::query(
            "INSERT INTO api_tokens (id, token_hash, name, role, product, created_at_ms, expires_at_ms) \
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
        )
        .bind(&token.id)
        .bind(token_hash)
        .bind(&token.name)
        .bind(&token.role)
        .bind(&token.product)
        .bind(token.created_at_ms)
        .bind(token.expires_at_ms)
        .execute(&mut *transaction)
        .await?;
        let after = json!({
            "name": token.name, "role": token.role, "product": token.product,
            "expires_at": token.expires_at_ms.map(crate::clock::rfc3339),
        });
        let record = Record {
            action: "token.create",
            kind: "token",
            subject: &token.id,
            product: token.product.as_deref(),
            before: None,
            after: Some(after),
        };
        change.record(&mut transaction, record).await?;
        transaction.commit().await?;
        Ok(())
    }

    /// The API token that has this hash.
    pub(crate) async fn token_by_hash(&self, token_hash: &str) -> Result<Option<TokenRow>, StoreError> {
        Ok(sqlx::query_as(
            "SELECT id, name, role, product, created_at_ms, expires_at_ms, revoked_at_ms FROM api_tokens \
             WHERE token_hash = $1",
        )
        .bind(token_hash)
        .fetch_optional(&self.pool)
        .await?)
    }
}
