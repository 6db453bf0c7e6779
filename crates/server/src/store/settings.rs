//! Table `settings`: what all instances of a server must agree about.

use super::{Store, StoreError};

/// SHA-256 of the CA's certificate.
const CA: &str = "ca";

impl Store {
    /// The SHA-256 of the CA that this database's devices trust; `None` before the first start.
    pub(crate) async fn ca_fingerprint(&self) -> Result<Option<String>, StoreError> {
        Ok(sqlx::query_scalar("SELECT value FROM settings WHERE name = $1")
            .bind(CA)
            .fetch_optional(&self.pool)
            .await?)
    }

    /// Records the SHA-256 of the CA unless one is recorded, and returns the recorded one: of two first starts at
    /// once with two CAs, one wins.
    pub(crate) async fn record_ca(&self, fingerprint: &str) -> Result<String, StoreError> {
        sqlx::query("INSERT INTO settings (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING")
            .bind(CA)
            .bind(fingerprint)
            .execute(&self.pool)
            .await?;
        Ok(self.ca_fingerprint().await?.unwrap_or_default())
    }
}
