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

/// Text that names no place to keep things.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LocationError {
    /// It names no database.
    #[error("expected `sqlite` or `postgres://user@host/database`, found {found:?}")]
    Database {
        /// The text, without what follows the scheme: that may be a password.
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
        let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "postgres" | "postgresql"));
        url.map(|url| Self::Postgres(PostgresUrl(url))).ok_or_else(|| LocationError::Database {
            found: match text.split_once("://") {
                Some((scheme, _)) => format!("{scheme}://…"),
                None => text.to_owned(),
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
        ] {
            let error = text.parse::<Database>().unwrap_err();
            assert_eq!(error, LocationError::Database { found: found.to_owned() });
        }
    }
}
