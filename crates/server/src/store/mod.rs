//! The data layer: one set of migrations and queries for SQLite and Postgres.
//!
//! Everything goes through sqlx's `Any` driver and stays within what both databases understand: `$1` placeholders,
//! BIGINT and TEXT. A transaction starts with a write, because SQLite cannot turn a reader into a writer when
//! another one was faster.

mod api_tokens;
mod check_ins;
mod devices;
mod enrollment;
mod events;
mod products;
mod releases;

use std::path::Path;
use std::sync::Once;

use sqlx::any::{AnyConnectOptions, AnyPoolOptions};
use sqlx::migrate::MigrateError;
use sqlx::{AnyPool, Executor as _};

pub(crate) use check_ins::{Known, Seen, SeenOutcome};
pub(crate) use devices::{DeviceRow, NewDevice};
pub(crate) use enrollment::{EnrollmentRow, Redemption};
pub(crate) use events::{Event, EventRow};
pub(crate) use products::{KeyRow, NewProduct, ProductRow};
pub(crate) use releases::{NewRelease, ReleaseRow};

/// Connections to an SQLite database: one writes at a time, the others read.
const SQLITE_CONNECTIONS: u32 = 8;

/// The database.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    pool: AnyPool,
}

/// Why the database did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    #[error(transparent)]
    Sql(#[from] sqlx::Error),
    #[error(transparent)]
    Migrate(#[from] MigrateError),
    #[error("expected a path in UTF-8, found {0}; choose another data directory")]
    Path(String),
}

impl StoreError {
    /// Whether a row with the same key is there already.
    pub(crate) fn is_duplicate(&self) -> bool {
        match self {
            Self::Sql(error) => error.as_database_error().is_some_and(|error| error.is_unique_violation()),
            Self::Migrate(_) | Self::Path(_) => false,
        }
    }
}

impl Store {
    /// Opens an SQLite database, makes it when it is not there, and brings its schema up to date.
    pub(crate) async fn open_sqlite(path: &Path) -> Result<Self, StoreError> {
        static DRIVERS: Once = Once::new();
        DRIVERS.call_once(sqlx::any::install_default_drivers);

        let options: AnyConnectOptions = sqlite_url(path)?.parse()?;
        let pool = AnyPoolOptions::new()
            .max_connections(SQLITE_CONNECTIONS)
            .after_connect(|connection, _| {
                Box::pin(async move {
                    // FULL: what was answered survives a power cut. A writer waits for its turn up to 20 s.
                    connection
                        .execute(
                            "PRAGMA busy_timeout = 20000; PRAGMA journal_mode = WAL; \
                             PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;",
                        )
                        .await?;
                    Ok(())
                })
            })
            .connect_with(options)
            .await?;
        Self::migrated(pool).await
    }

    async fn migrated(pool: AnyPool) -> Result<Self, StoreError> {
        sqlx::migrate!("src/store/migrations").run(&pool).await?;
        Ok(Self { pool })
    }

    /// Asks whether the database answers.
    pub(crate) async fn ping(&self) -> Result<(), StoreError> {
        self.pool.execute("SELECT 1").await?;
        Ok(())
    }

    /// Finishes what is under way and closes all connections.
    pub(crate) async fn close(&self) {
        self.pool.close().await;
    }
}

/// `sqlite:` and the path, percent-encoded.
fn sqlite_url(path: &Path) -> Result<String, StoreError> {
    use std::fmt::Write as _;

    let text = path.to_str().ok_or_else(|| StoreError::Path(path.display().to_string()))?;
    let mut url = "sqlite://".to_owned();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"/-_.~".contains(&byte) {
            url.push(char::from(byte));
        } else {
            // Writing to a `String` cannot fail.
            let _ = write!(url, "%{byte:02X}");
        }
    }
    url.push_str("?mode=rwc");
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn any_path_opens_and_opens_again() {
        let dir = tempfile::tempdir().unwrap();
        let odd = dir.path().join("a b?c#d%41é");
        std::fs::create_dir(&odd).unwrap();
        let path = odd.join("pitstop.db");
        for _ in 0..2 {
            let store = Store::open_sqlite(&path).await.unwrap();
            assert!(store.products("", 10).await.unwrap().is_empty());
            store.close().await;
        }
        assert!(path.exists());
    }

    #[tokio::test]
    async fn the_database_is_set_to_lose_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open_sqlite(&dir.path().join("pitstop.db")).await.unwrap();
        for (pragma, expected) in [("PRAGMA synchronous", 2), ("PRAGMA foreign_keys", 1)] {
            let value: i64 = sqlx::query_scalar(pragma).fetch_one(&store.pool).await.unwrap();
            assert_eq!(value, expected, "{pragma}");
        }
        let mode: String = sqlx::query_scalar("PRAGMA journal_mode").fetch_one(&store.pool).await.unwrap();
        assert_eq!(mode, "wal");
    }
}
