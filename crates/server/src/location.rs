//! Where a server keeps things, as an operator writes it: `sqlite` or `postgres://…`, `files` or `s3://…`.

use std::fmt;
use std::str::FromStr;

use url::Url;

/// Where the database is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Database {
    /// The file `pitstop.db` in the data directory.
    Sqlite,
    /// PostgreSQL, which several instances of the server may share.
    Postgres(PostgresUrl),
}

/// The address of a PostgreSQL database. It may hold a password, which neither `Debug` nor `Display` show.
#[derive(Clone, PartialEq, Eq)]
pub struct PostgresUrl(Url);

/// Where the artifacts are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Artifacts {
    /// The directory `artifacts` in the data directory.
    Local,
    /// An S3 store, which several instances of the server may share. Endpoint, region and credentials come from the
    /// usual variables: `AWS_ENDPOINT_URL`, `AWS_REGION`, `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` and so on.
    S3(S3Location),
}

/// A bucket of an S3 store, and what the names of its objects begin with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct S3Location {
    bucket: String,
    prefix: String,
}

/// Text that names no place to keep things.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LocationError {
    /// It names no database.
    #[error("expected `sqlite` or `postgres://user@host/database`, found {found:?}")]
    Database {
        /// The text, without what follows the scheme: that may be a password.
        found: String,
    },
    /// It names no place for artifacts.
    #[error("expected `local`, `s3://bucket` or `s3://bucket/prefix`, found {found:?}")]
    Artifacts {
        /// The text.
        found: String,
    },
}

impl PostgresUrl {
    /// All of it, for the database driver only.
    pub(crate) fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl fmt::Display for PostgresUrl {
    /// User, host, port and database, as one would tell somebody else.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut url = self.0.clone();
        // Both fail for a URL without a host only; then there is no password to take away either.
        let _ = url.set_password(None);
        url.set_query(None);
        f.write_str(url.as_str())
    }
}

impl fmt::Debug for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PostgresUrl({self})")
    }
}

impl FromStr for Database {
    type Err = LocationError;

    fn from_str(text: &str) -> Result<Self, LocationError> {
        if text == "sqlite" {
            return Ok(Self::Sqlite);
        }
        let is_postgres =
            |url: &Url| url.has_authority() && matches!(url.scheme(), "postgres" | "postgresql");
        let url = Url::parse(text).ok().filter(is_postgres);
        url.map(|url| Self::Postgres(PostgresUrl(url))).ok_or_else(|| LocationError::Database {
            found: match (text.split_once("://"), text.split_once([':', '@', ' '])) {
                (Some((scheme, _)), _) => format!("{scheme}://…"),
                (None, Some((head, _))) => format!("{head}…"),
                (None, None) => text.to_owned(),
            },
        })
    }
}

impl fmt::Display for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite => f.write_str("sqlite"),
            Self::Postgres(url) => url.fmt(f),
        }
    }
}

impl S3Location {
    pub(crate) fn bucket(&self) -> &str {
        &self.bucket
    }

    /// Without a slash at either end; may be empty.
    pub(crate) fn prefix(&self) -> &str {
        &self.prefix
    }
}

impl fmt::Display for S3Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}", self.bucket)?;
        if self.prefix.is_empty() { Ok(()) } else { write!(f, "/{}", self.prefix) }
    }
}

impl FromStr for Artifacts {
    type Err = LocationError;

    fn from_str(text: &str) -> Result<Self, LocationError> {
        if text == "local" {
            return Ok(Self::Local);
        }
        let location = text.strip_prefix("s3://").map(|rest| rest.split_once('/').unwrap_or((rest, "")));
        match location {
            Some((bucket, prefix)) if is_bucket(bucket) && is_prefix(prefix) => {
                let (bucket, prefix) = (bucket.to_owned(), prefix.trim_end_matches('/').to_owned());
                Ok(Self::S3(S3Location { bucket, prefix }))
            }
            Some(_) | None => Err(LocationError::Artifacts { found: text.to_owned() }),
        }
    }
}

/// What all S3 stores take as a bucket's name (Amazon's rules for general purpose buckets).
fn is_bucket(name: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte);
    (3..=63).contains(&name.len()) && name.bytes().all(is_allowed)
}

/// Folders of plain names, so that nothing has to be escaped.
fn is_prefix(text: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let is_folder = |folder: &str| !matches!(folder, "" | "." | "..") && folder.bytes().all(is_allowed);
    text.is_empty() || text.strip_suffix('/').unwrap_or(text).split('/').all(is_folder)
}

impl fmt::Display for Artifacts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local => f.write_str("local"),
            Self::S3(location) => location.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn databases_are_named_and_passwords_are_not_shown() {
        assert_eq!("sqlite".parse(), Ok(Database::Sqlite));
        for scheme in ["postgres", "postgresql"] {
            let text = format!("{scheme}://pitstop:secret@db.example:5433/fleet?password=secret");
            let database: Database = text.parse().unwrap();
            let Database::Postgres(url) = &database else { panic!("{database}") };
            assert_eq!(url.as_str(), text);
            assert_eq!(database.to_string(), format!("{scheme}://pitstop@db.example:5433/fleet"));
            assert!(!format!("{database:?}").contains("secret"));
        }
        for (text, found) in [
            ("", ""),
            ("SQLite", "SQLite"),
            ("mysql://user:secret@host/db", "mysql://…"),
            ("postgres://user:secret@", "postgres://…"),
            ("postgres:/user:secret@db.example/fleet", "postgres…"),
            ("host=db.example password=secret", "host=db.example…"),
        ] {
            let error = text.parse::<Database>().unwrap_err();
            assert_eq!(error, LocationError::Database { found: found.to_owned() });
        }
    }

    #[test]
    fn artifacts_are_local_or_in_a_bucket() {
        assert_eq!("local".parse(), Ok(Artifacts::Local));
        for (text, bucket, prefix, shown) in [
            ("s3://fleet", "fleet", "", "s3://fleet"),
            ("s3://fleet/", "fleet", "", "s3://fleet"),
            ("s3://my.fleet-1/a/b_c/", "my.fleet-1", "a/b_c", "s3://my.fleet-1/a/b_c"),
        ] {
            let artifacts: Artifacts = text.parse().unwrap();
            let Artifacts::S3(location) = &artifacts else { panic!("{artifacts}") };
            assert_eq!((location.bucket(), location.prefix()), (bucket, prefix));
            assert_eq!(artifacts.to_string(), shown);
        }
        for text in [
            "",
            "files",
            "S3://fleet",
            "s3://",
            "s3://ab",
            "s3://Fleet",
            "s3:///prefix",
            "s3://fleet//a",
            "s3://fleet/a//b",
            "s3://fleet/../a",
            "s3://fleet/ä",
            "https://fleet.s3.amazonaws.com",
        ] {
            let error = text.parse::<Artifacts>().unwrap_err();
            assert_eq!(error, LocationError::Artifacts { found: text.to_owned() });
        }
    }
}
