//! Table `api_tokens`.

use serde_json::json;

use super::{Change, Record, Store, StoreError};

row! {
    /// An API token as it is stored, without its hash.
    #[derive(Clone, Debug)]
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
}

/// How the revocation of a token ended.
#[derive(Clone, Debug)]
pub(crate) enum Revocation {
    /// It is revoked, now or since before.
    Done(TokenRow),
    NotFound,
    /// Without it nobody could make tokens; nothing was changed.
    Last,
}

/// How the deletion of a token ended.
#[derive(Clone, Debug)]
pub(crate) enum TokenDeletion {
    Done(TokenRow),
    NotFound,
    /// It is good; nothing was changed.
    Good,
}

const TOKEN_BY_ID: &str = "SELECT id, name, role, product, created_at_ms, expires_at_ms, revoked_at_ms FROM api_tokens \
     WHERE id = $1";

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

    /// API tokens in the order of their ids, past `after`.
    pub(crate) async fn tokens(&self, after: &str, limit: i64) -> Result<Vec<TokenRow>, StoreError> {
        Ok(sqlx::query_as(
            "SELECT id, name, role, product, created_at_ms, expires_at_ms, revoked_at_ms FROM api_tokens \
             WHERE id > $1 ORDER BY id LIMIT $2",
        )
        .bind(after)
        .bind(limit)
        .fetch_all(&self.pool)
        .await?)
    }

    /// Revokes an API token, once.
    pub(crate) async fn revoke_token(&self, id: &str, change: &Change) -> Result<Revocation, StoreError> {
        let mut transaction = self.pool.begin().await?;
        // Takes the rows that the count below is about: of two admins who revoke each other at once, one waits.
        sqlx::query("UPDATE api_tokens SET revoked_at_ms = revoked_at_ms WHERE role = 'admin'")
            .execute(&mut *transaction)
            .await?;
        let revoked =
            sqlx::query("UPDATE api_tokens SET revoked_at_ms = $1 WHERE id = $2 AND revoked_at_ms IS NULL")
                .bind(change.at_ms)
                .bind(id)
                .execute(&mut *transaction)
                .await?
                .rows_affected();
        let row: Option<TokenRow> =
            sqlx::query_as(TOKEN_BY_ID).bind(id).fetch_optional(&mut *transaction).await?;
        let Some(row) = row else { return Ok(Revocation::NotFound) };
        if revoked == 0 {
            return Ok(Revocation::Done(row));
        }
        // One that expires is no way back in.
        let admins: i64 = sqlx::query_scalar(
            "SELECT COUNT(*) FROM api_tokens WHERE role = 'admin' AND product IS NULL \
                 AND revoked_at_ms IS NULL AND expires_at_ms IS NULL",
        )
        .fetch_one(&mut *transaction)
        .await?;
        if admins == 0 {
            transaction.rollback().await?;
            return Ok(Revocation::Last);
        }
        let record = Record {
            action: "token.revoke",
            kind: "token",
            subject: id,
            product: row.product.as_deref(),
            before: Some(json!({ "revoked_at": null })),
            after: Some(json!({ "revoked_at": crate::clock::rfc3339(change.at_ms) })),
        };
        change.record(&mut transaction, record).await?;
        transaction.commit().await?;
        Ok(Revocation::Done(row))
    }

    /// Deletes an API token that was revoked or has expired.
    pub(crate) async fn delete_token(&self, id: &str, change: &Change) -> Result<TokenDeletion, StoreError> {
        let mut transaction = self.pool.begin().await?;
        sqlx::query("UPDATE api_tokens SET revoked_at_ms = revoked_at_ms WHERE id = $1")
            .bind(id)
            .execute(&mut *transaction)
            .await?;
        let row: Option<TokenRow> =
            sqlx::query_as(TOKEN_BY_ID).bind(id).fetch_optional(&mut *transaction).await?;
        let Some(row) = row else { return Ok(TokenDeletion::NotFound) };
        if row.revoked_at_ms.is_none() && row.expires_at_ms.is_none_or(|at_ms| at_ms > change.at_ms) {
            return Ok(TokenDeletion::Good);
        }
        for statement in ["DELETE FROM sessions WHERE token = $1", "DELETE FROM api_tokens WHERE id = $1"] {
            sqlx::query(statement).bind(id).execute(&mut *transaction).await?;
        }
        let record = Record {
            action: "token.delete",
            kind: "token",
            subject: id,
            product: row.product.as_deref(),
            before: Some(json!({ "name": row.name, "role": row.role, "product": row.product })),
            after: None,
        };
        change.record(&mut transaction, record).await?;
        transaction.commit().await?;
        Ok(TokenDeletion::Done(row))
    }
}
