//! A copy of an SQLite database while a server writes to it.

use std::path::Path;
use std::time::Duration;

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _};

use super::StoreError;

/// A server that closes its database holds it for a moment.
const BUSY_TIMEOUT: Duration = Duration::from_secs(20);

/// Copies a database as it is at one moment into a file that is empty or not there. Writers need not wait.
pub(crate) async fn copy_sqlite(from: &Path, to: &Path) -> Result<(), StoreError> {
    let target = to.to_str().ok_or_else(|| StoreError::Path(to.display().to_string()))?;
    let mut connection =
        SqliteConnectOptions::new().filename(from).busy_timeout(BUSY_TIMEOUT).connect().await?;
    sqlx::query("VACUUM INTO $1").bind(target).execute(&mut connection).await?;
    connection.close().await?;
    Ok(())
}
