//! Table `sessions`, and who comes with a secret.

use super::{Store, StoreError, TokenRow};

row! {
    /// The API token that a bearer has, or whose session it is.
    #[derive(Clone, Debug)]
    pub(crate) struct BearerRow {
        /// When its session ends; `None` for the token itself.
        pub(crate) session_expires_at_ms: Option<i64>,
    }
    with {
        pub(crate) token: TokenRow,
    }
}

/// Sessions of one token at once: past that the oldest one ends. Nobody fills the database by logging in.
const MAX_SESSIONS: i64 = 64;

impl Store {
    /// Whom a secret with this hash belongs to: an API token, or a session of one.
    pub(crate) async fn bearer(&self, hash: &str) -> Result<Option<BearerRow>, StoreError> {
        Ok(sqlx::query_as(
            "SELECT id, name, role, product, created_at_ms, expires_at_ms, revoked_at_ms, \
                 CAST(NULL AS BIGINT) AS session_expires_at_ms \
             FROM api_tokens WHERE token_hash = $1 \
             UNION ALL \
             SELECT t.id, t.name, t.role, t.product, t.created_at_ms, t.expires_at_ms, t.revoked_at_ms, \
                 s.expires_at_ms \
             FROM sessions s JOIN api_tokens t ON t.id = s.token WHERE s.secret_hash = $1",
        )
        .bind(hash)
        .fetch_optional(&self.pool)
        .await?)
    }

    /// Begins a session of a token. Those that expired go.
    pub(crate) async fn begin_session(
        &self,
        token: &str,
        secret_hash: &str,
        now_ms: i64,
        expires_at_ms: i64,
    ) -> Result<(), StoreError> {
        let mut transaction = self.pool.begin().await?;
        sqlx::query(
            "INSERT INTO sessions (secret_hash, token, created_at_ms, expires_at_ms) VALUES ($1, $2, $3, $4)",
        )
        .bind(secret_hash)
        .bind(token)
        .bind(now_ms)
        .bind(expires_at_ms)
        .execute(&mut *transaction)
        .await?;
        sqlx::query(
            "DELETE FROM sessions WHERE token = $1 AND secret_hash <> $2 AND (expires_at_ms <= $3 \
                 OR secret_hash NOT IN (SELECT secret_hash FROM sessions WHERE token = $1 \
                     ORDER BY created_at_ms DESC, secret_hash LIMIT $4))",
        )
        .bind(token)
        .bind(secret_hash)
        .bind(now_ms)
        .bind(MAX_SESSIONS)
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(())
    }

    /// Ends a session.
    pub(crate) async fn end_session(&self, secret_hash: &str) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM sessions WHERE secret_hash = $1")
            .bind(secret_hash)
            .execute(&self.pool)
            .await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::Change;
    use super::*;

    #[tokio::test]
    async fn a_token_has_so_many_sessions_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::in_dir(dir.path()).await;
        for id in ["tok-1", "tok-2"] {
            let token = TokenRow {
                id: id.to_owned(),
                name: id.to_owned(),
                role: "viewer".to_owned(),
                product: None,
                created_at_ms: 0,
                expires_at_ms: None,
                revoked_at_ms: None,
            };
            store.add_token(&token, id, &Change::by_server(0)).await.unwrap();
        }
        // The newest of all, and of another token.
        store.begin_session("tok-2", "other", MAX_SESSIONS + 2, 1000).await.unwrap();
        for number in 0..MAX_SESSIONS + 2 {
            store.begin_session("tok-1", &format!("s{number:03}"), number, 1000).await.unwrap();
        }
        for (hash, is_there) in
            [("s000", false), ("s001", false), ("s002", true), ("s065", true), ("other", true)]
        {
            assert_eq!(store.bearer(hash).await.unwrap().is_some(), is_there, "{hash}");
        }
        // All have expired by now.
        store.begin_session("tok-1", "late", 1000, 2000).await.unwrap();
        assert!(store.bearer("s065").await.unwrap().is_none());
        let bearer = store.bearer("late").await.unwrap().unwrap();
        assert_eq!((bearer.token.id.as_str(), bearer.session_expires_at_ms), ("tok-1", Some(2000)));
        assert_eq!(store.bearer("tok-1").await.unwrap().unwrap().session_expires_at_ms, None);
        store.end_session("late").await.unwrap();
        assert!(store.bearer("late").await.unwrap().is_none());
    }
}
