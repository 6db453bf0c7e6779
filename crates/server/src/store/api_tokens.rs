//! Table `api_tokens`.

use super::{Store, StoreError};

impl Store {
    /// Whether there is any admin token.
    pub(crate) async fn has_admin_token(&self) -> Result<bool, StoreError> {
        let count: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM api_tokens WHERE role = 'admin'")
            .fetch_one(&self.pool)
            .await?;
        Ok(count > 0)
    }

    /// Adds an admin token by its hash.
    pub(crate) async fn add_admin_token(
        &self,
        hash: &str,
        name: &str,
        now_ms: i64,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO api_tokens (id, token_hash, name, role, created_at_ms) \
             VALUES ('tok-' || SUBSTR($1, 1, 12), $1, $2, 'admin', $3)",
        )
        .bind(hash)
        .bind(name)
        .bind(now_ms)
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Whether an admin token has this hash.
    pub(crate) async fn is_admin_token(&self, hash: &str) -> Result<bool, StoreError> {
        let count: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM api_tokens WHERE token_hash = $1")
            .bind(hash)
            .fetch_one(&self.pool)
            .await?;
        Ok(count > 0)
    }
}
