//! What people ask of large tables: on connections that only read, and each question ends in its time.
//!
//! PostgreSQL has a setting for that. SQLite asks a callback now and then whether to go on, which sqlx's `Any` driver does
//! not reach, so these connections are of SQLite's own driver.

use std::path::Path;
use std::time::{Duration, Instant};

use sqlx::any::AnyRow;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions, SqliteRow};
use sqlx::{
    AnyPool, AssertSqlSafe, ConnectOptions as _, Executor as _, FromRow, SqliteConnection, SqlitePool,
};

use super::{CONNECTION_PATIENCE, StoreError};

/// The longest that a question may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// SQLite looks at the clock after so many instructions of its virtual machine, about a millisecond's worth.
const INSTRUCTIONS: i32 = 20_000;

/// Connections for questions.
#[derive(Clone, Debug)]
pub(super) enum Questions {
    Sqlite(SqlitePool),
    /// The settings of its connections bound the time.
    Postgres(AnyPool),
}

/// A value in a question.
#[derive(Debug)]
pub(super) enum Value {
    Text(String),
    Number(i64),
}

impl Questions {
    /// On an SQLite database that is there.
    pub(super) fn sqlite(path: &Path, connections: u32, patience: Duration) -> Self {
        let pool = SqlitePoolOptions::new()
            .max_connections(connections)
            .acquire_timeout(2 * CONNECTION_PATIENCE)
            .test_before_acquire(false)
            .after_connect(move |connection, _| {
                Box::pin(async move {
                    connection.execute("PRAGMA busy_timeout = 5000; PRAGMA query_only = TRUE;").await?;
                    bound(connection, patience).await
                })
            })
            .before_acquire(move |connection, _| {
                Box::pin(async move { bound(connection, patience).await.map(|()| true) })
            });
        let options = SqliteConnectOptions::new().filename(path).disable_statement_logging();
        Self::Sqlite(pool.connect_lazy_with(options))
    }

    /// The condition that an id fits a pattern of small letters. SQLite's LIKE takes no notice of case, and to make a million
    /// ids small first would take as long as to look at them.
    pub(super) fn id_has(&self) -> &'static str {
        match self {
            Self::Sqlite(_) => "id LIKE {} ESCAPE '!'",
            Self::Postgres(_) => "LOWER(id) LIKE {} ESCAPE '!'",
        }
    }

    /// Has SQLite go through a table by this index; PostgreSQL knows how many rows have which value, and chooses by that.
    pub(super) fn by_index(&self, index: &str) -> String {
        match self {
            Self::Sqlite(_) => format!("INDEXED BY {index}"),
            Self::Postgres(_) => String::new(),
        }
    }

    /// Asks one question, which is text of this program with numbered places for `values`.
    pub(super) async fn ask<T>(&self, question: String, values: Vec<Value>) -> Result<Vec<T>, StoreError>
    where
        T: for<'row> FromRow<'row, AnyRow> + for<'row> FromRow<'row, SqliteRow> + Send + Unpin,
    {
        macro_rules! ask_on {
            ($pool:expr) => {{
                // Safe: whatever comes from outside is bound.
                let mut query = sqlx::query_as(AssertSqlSafe(question));
                for value in values {
                    query = match value {
                        Value::Text(text) => query.bind(text),
                        Value::Number(number) => query.bind(number),
                    };
                }
                Ok(query.fetch_all($pool).await?)
            }};
        }
        match self {
            Self::Sqlite(pool) => ask_on!(pool),
            Self::Postgres(pool) => ask_on!(pool),
        }
    }

    pub(super) async fn close(&self) {
        match self {
            Self::Sqlite(pool) => pool.close().await,
            Self::Postgres(pool) => pool.close().await,
        }
    }
}

/// From now on the connection has so long for its next question.
async fn bound(connection: &mut SqliteConnection, patience: Duration) -> Result<(), sqlx::Error> {
    let ends = Instant::now() + patience;
    let mut handle = connection.lock_handle().await?;
    handle.set_progress_handler(INSTRUCTIONS, move || Instant::now() < ends);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::Store;
    use super::*;
    use crate::failing::{Failing, Fails as _};

    #[tokio::test]
    async fn a_question_without_end_ends_and_the_next_one_has_its_own_time() {
        let dir = tempfile::tempdir().unwrap();
        let _store = Store::in_dir(dir.path()).await;
        let questions = Questions::sqlite(&dir.path().join("pitstop.db"), 1, Duration::from_millis(200));
        for _ in 0..3 {
            let endless =
                "WITH RECURSIVE n (i) AS (SELECT $1 UNION ALL SELECT i + 1 FROM n) SELECT COUNT(*) FROM n";
            let began = Instant::now();
            let asked = questions.ask::<(i64,)>(endless.to_owned(), vec![Value::Number(1)]).await;
            let error = asked.unwrap_err();
            assert_eq!(error.failing(), Failing::Slow, "{error}");
            assert!(began.elapsed() < Duration::from_secs(5));
            let short = questions.ask::<(i64,)>("SELECT COUNT(*) FROM devices".to_owned(), Vec::new()).await;
            assert_eq!(short.unwrap(), [(0,)]);
        }
        let written = questions.ask::<(i64,)>("DELETE FROM devices".to_owned(), Vec::new()).await;
        assert!(written.unwrap_err().to_string().contains("readonly"));
    }
}
