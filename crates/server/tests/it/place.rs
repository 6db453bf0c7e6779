//! Where the server of one test keeps things. The environment chooses the backend:
//!
//! | variable | value | without it |
//! | --- | --- | --- |
//! | `PITSTOP_TEST_DATABASE` | `postgres://…`: a database to make schemas in, one for each test | SQLite |
//! | `PITSTOP_TEST_ARTIFACTS` | `s3://…`: a bucket to use prefixes of, one for each test; with `AWS_ENDPOINT_URL` and so on | local files |

use std::fs::DirEntry;
use std::path::Path;
use std::{env, fs};

use futures_util::TryStreamExt as _;
use manifest::Digest;
use object_store::aws::AmazonS3Builder;
use object_store::{ClientOptions, ObjectStore as _, ObjectStoreExt as _};
use rand::RngCore as _;
use serde_json::{Value, json};
use server::{Artifacts, Config, Database};
use sqlx::{AnyConnection, Connection as _, PgConnection};
use tempfile::TempDir;

/// A data directory, a database and a home for artifacts that no other test has.
pub(crate) struct Place {
    dir: TempDir,
    /// Of a Postgres database; without one it is SQLite's in the directory.
    postgres: Option<String>,
    artifacts: Artifacts,
}

impl Place {
    pub(crate) async fn new() -> Self {
        let artifacts = match env::var("PITSTOP_TEST_ARTIFACTS") {
            Ok(bucket) => format!("{bucket}/{}", new_name()).parse().unwrap(),
            Err(_) => Artifacts::Local,
        };
        Self { dir: tempfile::tempdir().unwrap(), postgres: new_database().await, artifacts }
    }

    /// SQLite and local files, whatever the environment says.
    pub(crate) fn embedded() -> Self {
        Self::embedded_in(&env::temp_dir())
    }

    /// The same on another disk.
    pub(crate) fn embedded_in(disk: &Path) -> Self {
        let dir = tempfile::tempdir_in(disk).unwrap();
        Self { dir, postgres: None, artifacts: Artifacts::Local }
    }

    /// This database, and local files.
    pub(crate) fn at_postgres(url: String) -> Self {
        Self { dir: tempfile::tempdir().unwrap(), postgres: Some(url), artifacts: Artifacts::Local }
    }

    /// The database is gone, and all that was in it; the data directory is as it was.
    pub(crate) async fn lose_database(&mut self) {
        for name in ["pitstop.db", "pitstop.db-wal", "pitstop.db-shm"] {
            // Not there when the database is elsewhere, or was closed well.
            let _ = fs::remove_file(self.path().join(name));
        }
        self.postgres = new_database().await;
    }

    /// Another data directory with the same database and CA: for a second instance.
    pub(crate) fn beside(&self) -> Self {
        let place = self.stranger();
        copy_ca(self.path(), place.path());
        place
    }

    /// Another data directory with the same database, and no CA.
    pub(crate) fn stranger(&self) -> Self {
        assert!(self.postgres.is_some(), "two instances need PITSTOP_TEST_DATABASE=postgres://…");
        let dir = tempfile::tempdir().unwrap();
        Self { dir, postgres: self.postgres.clone(), artifacts: self.artifacts.clone() }
    }

    /// Whether its database is SQLite's.
    pub(crate) fn is_embedded(&self) -> bool {
        self.postgres.is_none()
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// The database, past the server.
    pub(crate) async fn connect(&self) -> AnyConnection {
        let sqlite = || format!("sqlite://{}", self.path().join("pitstop.db").display());
        let url = self.postgres.clone().unwrap_or_else(sqlite);
        AnyConnection::connect(&url).await.unwrap()
    }

    /// A configuration on free ports.
    pub(crate) fn config(&self) -> Config {
        let mut config = Config::new(self.path());
        config.database = self.postgres.as_ref().map_or(Database::Sqlite, |url| url.parse().unwrap());
        config.artifacts = self.artifacts.clone();
        config.device_addr.set_port(0);
        config.admin_addr.set_port(0);
        config
    }

    /// The same for a server in another process.
    pub(crate) fn to_json(&self) -> Value {
        json!({
            "data": self.path(),
            "database": self.postgres.as_deref().unwrap_or("sqlite"),
            "artifacts": self.artifacts.to_string(),
        })
    }

    /// The files or objects there are of artifacts, whole or not: name, and SHA-256 of the content.
    pub(crate) async fn stored_artifacts(&self) -> Vec<(String, Digest)> {
        match &self.artifacts {
            Artifacts::Local => {
                let folders = fs::read_dir(self.path().join("artifacts")).unwrap();
                let files = folders.flat_map(|folder| fs::read_dir(folder.unwrap().path()).unwrap());
                let named = |file: DirEntry| {
                    (file.file_name().into_string().unwrap(), Digest::of(&fs::read(file.path()).unwrap()))
                };
                files.map(|file| named(file.unwrap())).collect()
            }
            Artifacts::S3(location) => {
                let text = location.to_string();
                let (bucket, prefix) = text.strip_prefix("s3://").unwrap().split_once('/').unwrap();
                let options = ClientOptions::new().with_allow_http(true);
                let builder = AmazonS3Builder::from_env().with_client_options(options);
                let bucket = builder.with_bucket_name(bucket).build().unwrap();
                let objects: Vec<_> = bucket.list(Some(&prefix.into())).try_collect().await.unwrap();
                let mut named = Vec::new();
                for object in objects {
                    let bytes = bucket.get(&object.location).await.unwrap().bytes().await.unwrap();
                    named.push((object.location.filename().unwrap().to_owned(), Digest::of(&bytes)));
                }
                named
            }
        }
    }
}

/// Copies the CA of one instance to another, as an operator does.
pub(crate) fn copy_ca(from: &Path, to: &Path) {
    fs::create_dir(to.join("ca")).unwrap();
    for name in ["ca.key", "ca.pem"] {
        fs::copy(from.join("ca").join(name), to.join("ca").join(name)).unwrap();
    }
}

async fn new_database() -> Option<String> {
    match env::var("PITSTOP_TEST_DATABASE") {
        Ok(url) => Some(new_schema(&url).await),
        Err(_) => None,
    }
}

/// Makes a schema. It stays behind: the gate throws its whole cluster away.
async fn new_schema(url: &str) -> String {
    let schema = new_name();
    let mut connection = PgConnection::connect(url).await.unwrap();
    let statement = format!("CREATE SCHEMA {schema}");
    sqlx::query(sqlx::AssertSqlSafe(statement)).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    let separator = if url.contains('?') { '&' } else { '?' };
    format!("{url}{separator}options[search_path]={schema}")
}

fn new_name() -> String {
    let mut random = [0; 8];
    rand::thread_rng().fill_bytes(&mut random);
    format!("test_{}", hex::encode(random))
}
