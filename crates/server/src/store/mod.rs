//! The data layer: one set of migrations and queries for SQLite and Postgres.
//!
//! Everything goes through sqlx's `Any` driver and stays within what both databases understand: `$1` placeholders,
//! BIGINT and TEXT. A transaction starts with a write, because SQLite cannot turn a reader into a writer when
//! another one was faster; and it changes rows of one table in the order of their keys, because on Postgres two
//! that take the same rows in another order stop each other.

// Before those that use it.
#[macro_use]
mod row;

mod api_tokens;
mod archive;
mod archived;
mod artifacts;
mod audit;
mod channels;
mod check_ins;
mod deletion;
mod device_bulk;
mod device_list;
mod device_row;
mod devices;
mod enrollment;
mod error;
mod events;
mod filter;
mod fleet;
mod health;
mod idempotency;
mod presence;
mod product_row;
mod products;
mod publisher_keys;
mod questions;
mod reader;
mod releases;
mod retention;
mod revision;
mod rollout_changes;
mod rollout_row;
mod rollouts;
mod schema;
mod sessions;
mod settings;
mod silence;
mod snapshot;
mod webhooks;
mod writer;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sqlx::any::{AnyConnectOptions, AnyPoolOptions, install_default_drivers};
use sqlx::{AnyConnection, AnyPool, ConnectOptions as _, Connection as _, Executor as _};
use tokio::time::{sleep, timeout};

pub(crate) use api_tokens::{Revocation, TokenDeletion, TokenRow};
pub(crate) use archive::ArchiveRefusal;
pub(crate) use artifacts::{ArtifactDeletion, ArtifactFilter, ArtifactRow, Noted, YOUNG_MS};
pub(crate) use audit::{AuditFilter, AuditRow, Change, KINDS, Record, differences, json_or_text};
pub(crate) use channels::ChannelRow;
pub(crate) use check_ins::{
    AttemptRow, AttemptWrite, Counted, DeviceWrite, FailureWrite, Known, Move, Said, Seen, SeenOutcome,
    stored,
};
pub(crate) use deletion::{DeviceDeletion, MAX_COUNTED, ProductDeletion};
pub(crate) use device_bulk::{Bulk, BulkAction, BulkPart};
pub(crate) use device_list::{DeviceFilter, is_place, place_of};
pub(crate) use device_row::DeviceRow;
pub(crate) use devices::{DeviceChange, DeviceRevocation, NewDevice};
pub(crate) use enrollment::{
    BACKDATED, DeviceCertificate, EnrollmentRow, Redemption, Renewal, UsedCertificate,
};
pub(crate) use error::StoreError;
pub(crate) use events::{Event, EventRow, ExportedEvent};
pub(crate) use filter::Place;
pub(crate) use fleet::{CertificateCount, Count, NO_SEQUENCE};
pub(crate) use idempotency::{Begun, KEYS_KEPT_MS, Once};
pub(crate) use presence::Candidate;
pub(crate) use product_row::ProductRow;
pub(crate) use products::{LayoutChange, NewProduct, ProductChange, SettingsChange};
pub(crate) use publisher_keys::{KeyRow, Trust};
pub(crate) use releases::{Added, Namesake, NewRelease, ReleaseFactsRow, ReleaseRow, default_plan};
pub(crate) use revision::{Changed, IfMatch, Unchanged, etag};
pub(crate) use rollout_changes::{NewRollout, RolloutRefusal};
pub(crate) use rollout_row::{RolloutRow, WaveRow};
pub(crate) use rollouts::RolloutFilter;
pub(crate) use settings::{Behind, InForce, Phase, Revoked, Rollover};
pub(crate) use silence::OverdueRow;
pub(crate) use snapshot::copy_sqlite;
pub(crate) use webhooks::{DeliveryRow, NewDelivery, Sent, WebhookRow};

use questions::Questions;

use crate::files::create_private;
use crate::location::{Database, PostgresUrl};
use crate::metrics::Metrics;

/// Connections to an SQLite database: one writes at a time, the others read.
const SQLITE_CONNECTIONS: Connections = Connections { devices: 6, people: 4, questions: 2 };

/// FULL: what was answered survives a power cut. A writer waits for its turn up to 5 s.
const SQLITE_SETTINGS: &str = "PRAGMA busy_timeout = 5000; PRAGMA journal_mode = WAL; \
     PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;";

/// Connections of one instance to a Postgres database, which takes 100 unless it is told otherwise.
const POSTGRES_CONNECTIONS: Connections = Connections { devices: 12, people: 6, questions: 2 };

/// Devices and people have connections of their own: who asks much waits for others of their kind alone.
struct Connections {
    devices: u32,
    people: u32,
    /// Of those that people ask, the ones about large tables.
    questions: u32,
}

/// Time to get a connection, and for a connection to answer when its use is over. A request waits no longer for a
/// database that is away; a request that was given up leaves no connection behind that hangs.
const CONNECTION_PATIENCE: Duration = Duration::from_secs(5);

/// How long a server that starts waits for its database, and how long between two questions.
const START_PATIENCE: Duration = Duration::from_secs(60);
const START_PAUSE: Duration = Duration::from_secs(2);

/// Time for a connection that rested to answer before it is used.
const PING_PATIENCE: Duration = Duration::from_millis(500);

/// Rows that an instance has locked are free again when it says nothing more for 15 s, which is longer than a commit may
/// take; a session whose machine is gone ends after 60 s (30 s + 3 * 10 s).
const POSTGRES_SETTINGS: &str = "SET idle_in_transaction_session_timeout = '15s'; \
     SET tcp_keepalives_idle = 30; SET tcp_keepalives_interval = 10; SET tcp_keepalives_count = 3;";

/// No question takes longer, but for a migration: an index over a million rows takes its time.
const POSTGRES_PATIENCE: &str = "SET statement_timeout = '30s'";

/// As long as [`questions::PATIENCE`].
const POSTGRES_QUESTIONS: &str = "SET statement_timeout = '10s'; SET default_transaction_read_only = on";

/// The database.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    pool: AnyPool,
    people: AnyPool,
    questions: questions::Questions,
    reader: reader::Reader,
    writer: writer::Writer,
}

impl Store {
    /// Opens the database and brings its schema up to date. `data_dir` is where SQLite's file is.
    pub(crate) async fn open(
        database: &Database,
        data_dir: &Path,
        metrics: Arc<Metrics>,
    ) -> Result<Self, StoreError> {
        match database {
            Database::Sqlite => Self::open_sqlite(&data_dir.join("pitstop.db"), metrics).await,
            Database::Postgres(url) => Self::open_postgres(url, metrics).await,
        }
    }

    /// Opens an SQLite database and makes it when it is not there.
    async fn open_sqlite(path: &Path, metrics: Arc<Metrics>) -> Result<Self, StoreError> {
        // SQLite would make it for everybody to read; what it makes beside it has the mode of the database.
        create_private(path).map_err(sqlx::Error::Io)?;
        let options = quiet(sqlite_url(path)?.parse()?);
        // A connection to a file does not break while it rests, so it is not asked before each use.
        let pool = |connections| {
            pool(connections, &[SQLITE_SETTINGS])
                .test_before_acquire(false)
                .acquire_timeout(2 * CONNECTION_PATIENCE)
                .after_release(|connection, _| {
                    Box::pin(async {
                        // Nor is a question left without its answer: outside a transaction there is nothing to find out.
                        if connection.is_in_transaction() { is_fit(connection).await } else { Ok(true) }
                    })
                })
        };
        schema::migrate(pool(1).connect_with(options.clone()).await?).await?;
        let devices = pool(SQLITE_CONNECTIONS.devices).connect_with(options.clone()).await?;
        let people = pool(SQLITE_CONNECTIONS.people).connect_lazy_with(options);
        let questions = Questions::sqlite(path, SQLITE_CONNECTIONS.questions, questions::PATIENCE);
        Self::start(devices, people, questions, metrics).await
    }

    /// Opens a Postgres database, which must be there: after a power cut it may come later than the server, and is waited for.
    async fn open_postgres(url: &PostgresUrl, metrics: Arc<Metrics>) -> Result<Self, StoreError> {
        let options = quiet(url.as_str().parse()?);
        let pool = |connections, settings| {
            pool(connections, settings)
                .acquire_timeout(CONNECTION_PATIENCE)
                .test_before_acquire(false)
                .before_acquire(|connection, _| Box::pin(is_there(connection)))
                .after_release(|connection, _| Box::pin(is_fit(connection)))
        };
        let began = Instant::now();
        let migrations = loop {
            match pool(1, &[POSTGRES_SETTINGS]).connect_with(options.clone()).await {
                Ok(migrations) => break migrations,
                Err(error) if may_come(&error) && began.elapsed() < START_PATIENCE => {
                    tracing::warn!("the database {url} does not answer yet: {error}; it is asked again");
                    sleep(START_PAUSE).await;
                }
                Err(source) => return Err(StoreError::Connect { at: url.to_string(), source }),
            }
        };
        schema::migrate(migrations).await?;
        let settings: &[_] = &[POSTGRES_SETTINGS, POSTGRES_PATIENCE];
        let devices = pool(POSTGRES_CONNECTIONS.devices, settings).connect_with(options.clone()).await?;
        let people = pool(POSTGRES_CONNECTIONS.people, settings).connect_lazy_with(options.clone());
        let questions: &[_] = &[POSTGRES_SETTINGS, POSTGRES_QUESTIONS];
        let questions = pool(POSTGRES_CONNECTIONS.questions, questions).connect_lazy_with(options);
        Self::start(devices, people, Questions::Postgres(questions), metrics).await
    }

    async fn start(
        pool: AnyPool,
        people: AnyPool,
        questions: Questions,
        metrics: Arc<Metrics>,
    ) -> Result<Self, StoreError> {
        audit::make_append_only(&pool).await?;
        events::go_on_after_stored_ids(&pool).await?;
        let reader = reader::Reader::start(pool.clone());
        let writer = writer::Writer::start(pool.clone(), metrics);
        Ok(Self { pool, people, questions, reader, writer })
    }

    /// The same database for the API, and for what is counted beside: devices do not wait for its connections.
    pub(crate) fn for_people(&self) -> Self {
        Self { pool: self.people.clone(), ..self.clone() }
    }

    /// Asks whether the database answers.
    pub(crate) async fn ping(&self) -> Result<(), StoreError> {
        self.pool.execute("SELECT 1").await?;
        Ok(())
    }

    /// Finishes what is under way and closes all connections.
    pub(crate) async fn close(&self) {
        self.writer.close().await;
        self.pool.close().await;
        self.people.close().await;
        self.questions.close().await;
    }
}

/// Whether a database that did not answer may do so in a moment: no host, no connection, or one that is just starting
/// (`cannot_connect_now`, PostgreSQL's appendix A).
fn may_come(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut => true,
        sqlx::Error::Database(error) => error.code().is_some_and(|code| code == "57P03"),
        _ => false,
    }
}

/// sqlx would write a warning with the whole statement for each that takes more than a second: on a busy disk whoever keeps it
/// busy would fill the log. How long writes take is a metric.
fn quiet(options: AnyConnectOptions) -> AnyConnectOptions {
    options.disable_statement_logging()
}

fn pool(max_connections: u32, settings: &'static [&'static str]) -> AnyPoolOptions {
    static DRIVERS: std::sync::Once = std::sync::Once::new();
    DRIVERS.call_once(install_default_drivers);

    AnyPoolOptions::new().max_connections(max_connections).after_connect(move |connection, _| {
        Box::pin(async move {
            for settings in settings {
                connection.execute(*settings).await?;
            }
            Ok(())
        })
    })
}

/// Whether a connection may be used again. An error has it closed without another word.
///
/// When there is no room left or the disk fails, SQLite itself takes a transaction back
/// (sqlite.org/lang_transaction.html, section 2.3.1). sqlx 0.9 goes on to believe in it: the next one would be a savepoint
/// within a transaction that nobody commits.
async fn is_fit(connection: &mut AnyConnection) -> Result<bool, sqlx::Error> {
    // What is to be rolled back is rolled back before the answer.
    timeout(CONNECTION_PATIENCE, connection.ping()).await.unwrap_or(Err(sqlx::Error::PoolTimedOut))?;
    Ok(!connection.is_in_transaction())
}

/// Whether a connection that rested is still one. One that says nothing is closed, and the next one is asked: whoever needs
/// one does not wait for all that a network has forgotten.
async fn is_there(connection: &mut AnyConnection) -> Result<bool, sqlx::Error> {
    Ok(timeout(PING_PATIENCE, connection.ping()).await.is_ok_and(|answer| answer.is_ok()))
}

/// What a group of reads or writes comes to, or [`Failing::Away`] when that takes longer.
async fn in_time<T>(
    deadline: Duration,
    work: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    let late = || StoreError::from(sqlx::Error::Io(io::ErrorKind::TimedOut.into()));
    timeout(deadline, work).await.unwrap_or_else(|_| Err(late()))
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
impl Store {
    /// A new SQLite database.
    async fn in_dir(dir: &Path) -> Self {
        Self::open_sqlite(&dir.join("pitstop.db"), Arc::new(Metrics::new())).await.unwrap()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failing::{Failing, Fails as _};

    #[tokio::test]
    async fn any_path_opens_and_opens_again() {
        let dir = tempfile::tempdir().unwrap();
        let odd = dir.path().join("a b?c#d%41é");
        std::fs::create_dir(&odd).unwrap();
        let path = odd.join("pitstop.db");
        for _ in 0..2 {
            let store = Store::open_sqlite(&path, Arc::new(Metrics::new())).await.unwrap();
            assert!(store.products("", "", 10).await.unwrap().is_empty());
            store.close().await;
        }
        assert!(path.exists());
    }

    #[tokio::test]
    async fn a_connection_that_found_no_room_is_not_used_again() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::in_dir(dir.path()).await;
        let mut connection = store.pool.acquire().await.unwrap();
        connection.execute("PRAGMA max_page_count = 1").await.unwrap();
        let mut transaction = connection.begin().await.unwrap();
        let fill = "INSERT INTO settings (name, value) VALUES ('x', HEX(ZEROBLOB(1000000)))";
        let error = StoreError::from(transaction.execute(fill).await.unwrap_err());
        assert_eq!(error.failing(), Failing::Full, "{error}");
        drop(transaction);
        drop(connection);
        let mut connections = Vec::new();
        for _ in 0..SQLITE_CONNECTIONS.devices {
            connections.push(store.pool.acquire().await.unwrap());
        }
        assert!(connections.iter().all(|connection| !connection.is_in_transaction()));
    }

    #[tokio::test]
    async fn the_database_is_set_to_lose_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::in_dir(dir.path()).await;
        for (pragma, expected) in [("PRAGMA synchronous", 2), ("PRAGMA foreign_keys", 1)] {
            let value: i64 = sqlx::query_scalar(pragma).fetch_one(&store.pool).await.unwrap();
            assert_eq!(value, expected, "{pragma}");
        }
        let mode: String = sqlx::query_scalar("PRAGMA journal_mode").fetch_one(&store.pool).await.unwrap();
        assert_eq!(mode, "wal");
    }
}
