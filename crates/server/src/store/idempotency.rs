//! Table `idempotency_keys`: requests that may come again, and what became of them.
//!
//! What a request changes is noted in the transaction of the change ([`Once::note`]). So it is known of every try that was broken
//! off whether it changed something, and none is repeated that did.

use sqlx::AnyConnection;

use super::{Store, StoreError};

/// One try of a request that may come again.
#[derive(Clone, Debug)]
pub(crate) struct Once {
    /// SHA-256 over the bearer's secret and the key.
    pub(crate) id: String,
    /// Tells this try from others.
    pub(crate) attempt: String,
}

/// What is known of a request that comes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Begun {
    /// It is to be done.
    First,
    /// The key was that of another request.
    OtherRequest,
    /// It is being done.
    InFlight,
    /// It was done, and its answer is lost: what it changed.
    AnswerLost(String),
    /// It was done.
    Answered { status: i64, answer: String },
}

row! {
    struct Row {
        request_hash: String,
        begun_at_ms: i64,
        attempt: String,
        made: Option<String>,
        status: Option<i64>,
        answer: Option<String>,
    }
}

/// So long a key is remembered.
pub(crate) const KEYS_KEPT_MS: i64 = 24 * 3_600_000;

/// A try that is not over by then was broken off: more than an answer may take.
const IN_FLIGHT_MS: i64 = 2 * 60_000;

impl Once {
    /// Notes that the request changes something, within the transaction of that. Another try that took its place makes the
    /// transaction fail.
    pub(super) async fn note(&self, connection: &mut AnyConnection, made: &str) -> Result<(), StoreError> {
        let noted = sqlx::query("UPDATE idempotency_keys SET made = $1 WHERE id = $2 AND attempt = $3")
            .bind(made)
            .bind(&self.id)
            .bind(&self.attempt)
            .execute(connection)
            .await?;
        if noted.rows_affected() == 1 { Ok(()) } else { Err(StoreError::Overtaken) }
    }
}

impl Store {
    /// Begins a request, or tells what became of it.
    pub(crate) async fn begin_once(
        &self,
        once: &Once,
        request_hash: &str,
        now_ms: i64,
    ) -> Result<Begun, StoreError> {
        let begun = sqlx::query(
            "INSERT INTO idempotency_keys (id, request_hash, begun_at_ms, attempt) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (id) DO NOTHING",
        )
        .bind(&once.id)
        .bind(request_hash)
        .bind(now_ms)
        .bind(&once.attempt)
        .execute(&self.pool)
        .await?;
        if begun.rows_affected() == 1 {
            return Ok(Begun::First);
        }
        let row: Option<Row> = sqlx::query_as(
            "SELECT request_hash, begun_at_ms, attempt, made, status, answer FROM idempotency_keys WHERE id = $1",
        )
        .bind(&once.id)
        .fetch_optional(&self.pool)
        .await?;
        // Refused a moment ago, and forgotten.
        let Some(row) = row else { return Ok(Begun::InFlight) };
        let is_old = row.begun_at_ms < now_ms.saturating_sub(KEYS_KEPT_MS);
        if !is_old {
            if row.request_hash != request_hash {
                return Ok(Begun::OtherRequest);
            }
            if let Some((status, answer)) = row.status.zip(row.answer) {
                return Ok(Begun::Answered { status, answer });
            }
            // Its change is there before its answer.
            if row.begun_at_ms > now_ms.saturating_sub(IN_FLIGHT_MS) {
                return Ok(Begun::InFlight);
            }
            if let Some(made) = row.made {
                return Ok(Begun::AnswerLost(made));
            }
        }
        let taken = sqlx::query(
            "UPDATE idempotency_keys SET request_hash = $1, begun_at_ms = $2, attempt = $3, made = NULL, \
                 status = NULL, answer = NULL \
             WHERE id = $4 AND attempt = $5 AND (made IS NULL OR $6 = 1)",
        )
        .bind(request_hash)
        .bind(now_ms)
        .bind(&once.attempt)
        .bind(&once.id)
        .bind(&row.attempt)
        .bind(i64::from(is_old))
        .execute(&self.pool)
        .await?;
        Ok(if taken.rows_affected() == 1 { Begun::First } else { Begun::InFlight })
    }

    /// Stores the answer to a request.
    pub(crate) async fn finish_once(&self, once: &Once, status: u16, answer: &str) -> Result<(), StoreError> {
        sqlx::query("UPDATE idempotency_keys SET status = $1, answer = $2 WHERE id = $3 AND attempt = $4")
            .bind(i64::from(status))
            .bind(answer)
            .bind(&once.id)
            .bind(&once.attempt)
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// Forgets a request that changed nothing: it may be tried again.
    pub(crate) async fn forget_once(&self, once: &Once) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM idempotency_keys WHERE id = $1 AND attempt = $2 AND made IS NULL")
            .bind(&once.id)
            .bind(&once.attempt)
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// Deletes the oldest requests of before a time, at most so many; how many there were.
    pub(crate) async fn expire_once(&self, before_ms: i64, limit: i64) -> Result<u64, StoreError> {
        let expired = sqlx::query(
            "DELETE FROM idempotency_keys WHERE id IN (SELECT id FROM idempotency_keys WHERE begun_at_ms < $1 \
                 ORDER BY begun_at_ms, id LIMIT $2)",
        )
        .bind(before_ms)
        .bind(limit)
        .execute(&self.pool)
        .await?;
        Ok(expired.rows_affected())
    }
}
