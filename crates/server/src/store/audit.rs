//! Table `audit`: who changed what. It is written in the transaction of the change, and grows until it is too old to be
//! kept, where the server is told that there is such an age.

use serde_json::Value;
use sqlx::{AnyConnection, AnyPool, Connection as _, Executor as _};

use super::events::time_id;
use super::filter::{Filter, Place};
use super::idempotency::Once;
use super::{Store, StoreError};

/// Who changes something, and when. Every function of the store by which somebody changes what the server is to do takes
/// one, and calls [`Change::record`] within its transaction.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    /// Id of the API token, or `server`.
    actor: String,
    actor_name: String,
    pub(crate) at_ms: i64,
    /// The try of a request that may come again.
    once: Option<Once>,
}

/// What was changed.
#[derive(Clone, Debug)]
pub(crate) struct Record<'a> {
    /// Such as `rollout.abort`.
    pub(crate) action: &'static str,
    /// Such as `rollout`.
    pub(crate) kind: &'static str,
    /// Its id.
    pub(crate) subject: &'a str,
    pub(crate) product: Option<&'a str>,
    /// What was there; `None` when there was nothing. No secrets, no hashes of secrets.
    pub(crate) before: Option<Value>,
    /// What is there now.
    pub(crate) after: Option<Value>,
}

row! {
    /// A line of the audit log as it is stored.
    #[derive(Clone, Debug)]
    pub(crate) struct AuditRow {
        pub(crate) id: String,
        pub(crate) at_ms: i64,
        pub(crate) actor: String,
        pub(crate) actor_name: String,
        pub(crate) action: String,
        pub(crate) kind: String,
        pub(crate) subject: String,
        pub(crate) product: Option<String>,
        pub(crate) before_json: Option<String>,
        pub(crate) after_json: Option<String>,
    }
}

/// Id and name of the server itself as an actor.
const SERVER: &str = "server";

/// So many tokens of one name are looked for.
const MAX_ACTORS: i64 = 100;

/// The kinds of what can be changed, as lines name them.
pub(crate) const KINDS: [&str; 13] = [
    "artifact",
    "audit",
    "ca",
    "certificate",
    "channel",
    "device",
    "evidence",
    "product",
    "publisher-key",
    "release",
    "rollout",
    "token",
    "webhook",
];

/// Which lines of the audit log; empty texts fit all.
#[derive(Clone, Debug, Default)]
pub(crate) struct AuditFilter {
    /// Ids of who made the change; empty for everybody.
    pub(crate) actors: Vec<String>,
    pub(crate) kind: String,
    pub(crate) subject: String,
    pub(crate) product: String,
    /// The product that the reader is bound to.
    pub(crate) scope: String,
    pub(crate) since_ms: i64,
    /// Exclusive.
    pub(crate) until_ms: i64,
}

impl Change {
    pub(crate) fn new(actor: impl Into<String>, actor_name: impl Into<String>, at_ms: i64) -> Self {
        Self { actor: actor.into(), actor_name: actor_name.into(), at_ms, once: None }
    }

    /// The change is what a request is about that may come again.
    pub(crate) fn once(self, once: Option<Once>) -> Self {
        Self { once, ..self }
    }

    /// For what is changed on the way to what a request is about.
    pub(crate) fn aside(&self) -> Self {
        Self { once: None, ..self.clone() }
    }

    /// A change that the server makes by itself.
    pub(crate) fn by_server(at_ms: i64) -> Self {
        Self::new(SERVER, SERVER, at_ms)
    }

    /// Adds the line to the audit log, within the transaction of the change.
    pub(crate) async fn record(
        &self,
        connection: &mut AnyConnection,
        record: Record<'_>,
    ) -> Result<(), StoreError> {
        debug_assert!(KINDS.contains(&record.kind), "{} is not in KINDS", record.kind);
        sqlx::query(
            "INSERT INTO audit (id, at_ms, actor, actor_name, action, kind, subject, product, before_json, \
                 after_json) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        )
        .bind(time_id(self.at_ms))
        .bind(self.at_ms)
        .bind(&self.actor)
        .bind(&self.actor_name)
        .bind(record.action)
        .bind(record.kind)
        .bind(record.subject)
        .bind(record.product)
        .bind(record.before.map(|before| before.to_string()))
        .bind(record.after.map(|after| after.to_string()))
        .execute(&mut *connection)
        .await?;
        match &self.once {
            Some(once) => once.note(connection, &format!("{} {}", record.kind, record.subject)).await,
            None => Ok(()),
        }
    }
}

/// What is stored as JSON, for an audit line; whatever else there were is told as it is.
pub(crate) fn json_or_text(stored: &str) -> Value {
    serde_json::from_str(stored).unwrap_or_else(|_| stored.into())
}

/// Of two JSON objects the members that differ: what an audit line says of a change of settings.
pub(crate) fn differences(before: &Value, after: &Value) -> (Value, Value) {
    let (Value::Object(before), Value::Object(after)) = (before, after) else {
        return (before.clone(), after.clone());
    };
    let differs = |key: &String| before.get(key) != after.get(key);
    let only = |object: &serde_json::Map<String, Value>| {
        object
            .iter()
            .filter(|(key, _)| differs(key))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect::<serde_json::Map<_, _>>()
            .into()
    };
    (only(before), only(after))
}

impl Store {
    /// The ids of actors that a text names: of the tokens of this name, else the text itself, as an id.
    pub(crate) async fn actors(&self, text: &str) -> Result<Vec<String>, StoreError> {
        if text.is_empty() {
            return Ok(Vec::new());
        }
        let mut ids: Vec<String> =
            sqlx::query_scalar("SELECT id FROM api_tokens WHERE name = $1 ORDER BY id LIMIT $2")
                .bind(text)
                .bind(MAX_ACTORS)
                .fetch_all(&self.pool)
                .await?;
        if ids.is_empty() || text == SERVER {
            ids.push(text.to_owned());
        }
        Ok(ids)
    }

    /// Adds a line that goes with no change of its own.
    pub(crate) async fn note(&self, record: Record<'_>, change: &Change) -> Result<(), StoreError> {
        let mut transaction = self.pool.begin().await?;
        change.record(&mut transaction, record).await?;
        transaction.commit().await?;
        Ok(())
    }

    /// Lines of the audit log, newest first; those next to `place`, a line by its id.
    pub(crate) async fn audit(
        &self,
        filter: &AuditFilter,
        place: Place<'_>,
        limit: i64,
    ) -> Result<Vec<AuditRow>, StoreError> {
        let mut conditions = Filter::default();
        conditions.one_of("actor", &filter.actors);
        conditions.text("kind = {}", &filter.kind);
        conditions.text("subject = {}", &filter.subject);
        conditions.text("product = {}", &filter.product);
        conditions.text("product = {}", &filter.scope);
        if filter.since_ms > 0 {
            conditions.number("at_ms >= {}", filter.since_ms);
        }
        if filter.until_ms < i64::MAX {
            conditions.number("at_ms < {}", filter.until_ms);
        }
        let order = match place {
            Place::After(id) => {
                conditions.text("id < {}", id);
                "ORDER BY id DESC LIMIT {}"
            }
            Place::Before(id) => {
                conditions.text("id > {}", id);
                "ORDER BY id LIMIT {}"
            }
        };
        let select = "SELECT id, at_ms, actor, actor_name, action, kind, subject, product, before_json, after_json \
             FROM audit";
        let mut rows: Vec<AuditRow> = conditions.fetch(&self.questions, select, order, limit).await?;
        if let Place::Before(_) = place {
            rows.reverse();
        }
        Ok(rows)
    }
}

/// Has the database refuse whatever would change a line of the audit log, or remove one that is past the horizon
/// (`retention.rs`).
///
/// Triggers are written in each database's own dialect, so that they are no part of the migrations.
pub(super) async fn make_append_only(pool: &AnyPool) -> Result<(), StoreError> {
    let mut connection = pool.acquire().await?;
    let statements: &[&'static str] = match connection.backend_name() {
        "PostgreSQL" => &POSTGRES_TRIGGERS,
        _ => &SQLITE_TRIGGERS,
    };
    let mut transaction = connection.begin().await?;
    for statement in statements {
        transaction.execute(*statement).await?;
    }
    transaction.commit().await?;
    Ok(())
}

const SQLITE_TRIGGERS: [&str; 3] = [
    "CREATE TRIGGER IF NOT EXISTS audit_is_not_changed BEFORE UPDATE ON audit \
     BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END",
    "DROP TRIGGER IF EXISTS audit_is_not_deleted",
    "CREATE TRIGGER audit_is_not_deleted BEFORE DELETE ON audit \
     WHEN OLD.at_ms >= COALESCE((SELECT CAST(value AS BIGINT) FROM settings WHERE name = 'audit-horizon'), 0) \
     BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END",
];

/// The lock keeps instances that start at the same time apart; it ends with the transaction.
const POSTGRES_TRIGGERS: [&str; 7] = [
    "SELECT pg_advisory_xact_lock(7015474)",
    "CREATE OR REPLACE FUNCTION audit_is_append_only() RETURNS trigger LANGUAGE plpgsql AS \
     $$ BEGIN RAISE EXCEPTION 'the audit log is append-only'; END $$",
    "DROP TRIGGER IF EXISTS audit_is_append_only ON audit",
    "CREATE TRIGGER audit_is_append_only BEFORE UPDATE OR TRUNCATE ON audit \
     FOR EACH STATEMENT EXECUTE FUNCTION audit_is_append_only()",
    "CREATE OR REPLACE FUNCTION audit_is_kept() RETURNS trigger LANGUAGE plpgsql AS \
     $$ BEGIN \
       IF OLD.at_ms < COALESCE((SELECT CAST(value AS BIGINT) FROM settings WHERE name = 'audit-horizon'), 0) \
         THEN RETURN OLD; END IF; \
       RAISE EXCEPTION 'the audit log is append-only'; \
     END $$",
    "DROP TRIGGER IF EXISTS audit_is_kept ON audit",
    "CREATE TRIGGER audit_is_kept BEFORE DELETE ON audit FOR EACH ROW EXECUTE FUNCTION audit_is_kept()",
];

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[tokio::test]
    async fn the_database_refuses_to_change_or_delete_a_line() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::in_dir(dir.path()).await;
        // A second start finds the triggers there.
        make_append_only(&store.pool).await.unwrap();
        let record = Record {
            action: "device.revoke",
            kind: "device",
            subject: "lamp-1",
            product: Some("lamp"),
            before: Some(json!({ "state": "enrolled" })),
            after: None,
        };
        let mut connection = store.pool.acquire().await.unwrap();
        Change::by_server(1000).record(&mut connection, record).await.unwrap();
        for statement in ["UPDATE audit SET actor = 'x'", "DELETE FROM audit"] {
            let error = sqlx::query(statement).execute(&mut *connection).await.unwrap_err().to_string();
            assert!(error.contains("append-only"), "{error}");
        }
        let filter = AuditFilter { until_ms: i64::MAX, ..AuditFilter::default() };
        let rows = store.audit(&filter, Place::After(""), 10).await.unwrap();
        assert_eq!((rows.len(), rows[0].actor.as_str()), (1, "server"));
        assert_eq!(rows[0].before_json.as_deref(), Some("{\"state\":\"enrolled\"}"));
    }

    #[test]
    fn the_document_names_every_kind() {
        let document = include_str!("../../../../docs/openapi.json");
        for kind in KINDS {
            assert!(document.contains(&format!("`{kind}`")), "{kind}");
        }
    }

    #[test]
    fn a_line_has_what_differs() {
        let (before, after) =
            differences(&json!({ "a": 1, "b": [2], "c": 3 }), &json!({ "a": 1, "b": [], "d": 4 }));
        assert_eq!((before, after), (json!({ "b": [2], "c": 3 }), json!({ "b": [], "d": 4 })));
    }
}
