//! Why the database did not do what it was asked to.

use sqlx::migrate::MigrateError;

use crate::failing::{Failing, Fails};

/// Why the database did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    #[error("{}{source}", Advice(.source))]
    Sql {
        #[from]
        source: sqlx::Error,
    },
    #[error(transparent)]
    Migrate(#[from] MigrateError),
    #[error("expected a path in UTF-8, found {0}; choose another data directory")]
    Path(String),
    #[error("{at} does not answer: {source}; see that it runs and takes connections from here")]
    Connect { at: String, source: sqlx::Error },
    #[error("what is stored of {what} cannot be read: {error}; restore the database from a backup")]
    Unreadable { what: String, error: String },
    /// A group of writes or of reads failed, of which this was one.
    #[error("{text}")]
    Group { failing: Failing, text: String },
    #[error("another try of the same request took the place of this one")]
    Overtaken,
    #[error("the server is shutting down")]
    Closed,
}

/// What an operator is to do, before the error itself.
struct Advice<'a>(&'a sqlx::Error);

impl std::fmt::Display for Advice<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match failing(self.0) {
            Failing::Away => {
                "the database does not answer; see that it runs and that nothing holds it locked: "
            }
            Failing::Full => "the database has no room left; make room where it is kept: ",
            Failing::Slow => "it took too long for a database as large as this: ",
            Failing::Conflict | Failing::Text | Failing::Request => "",
        })
    }
}

impl Fails for StoreError {
    fn failing(&self) -> Failing {
        match self {
            Self::Sql { source } => failing(source),
            Self::Group { failing, .. } => *failing,
            Self::Overtaken => Failing::Conflict,
            Self::Connect { .. } | Self::Closed => Failing::Away,
            Self::Migrate(_) | Self::Path(_) | Self::Unreadable { .. } => Failing::Request,
        }
    }
}

impl StoreError {
    /// Whether a row with the same key is there already.
    pub(crate) fn is_duplicate(&self) -> bool {
        self.database_error().is_some_and(sqlx::error::DatabaseError::is_unique_violation)
    }

    fn database_error(&self) -> Option<&dyn sqlx::error::DatabaseError> {
        match self {
            Self::Sql { source } => source.as_database_error(),
            Self::Migrate(_)
            | Self::Path(_)
            | Self::Connect { .. }
            | Self::Unreadable { .. }
            | Self::Group { .. }
            | Self::Overtaken
            | Self::Closed => None,
        }
    }
}

fn failing(error: &sqlx::Error) -> Failing {
    match error {
        sqlx::Error::Database(error) => error.code().map_or(Failing::Request, |code| failing_by_code(&code)),
        // A protocol error is a connection that ended, or a proxy without a database behind it.
        sqlx::Error::Io(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed
        | sqlx::Error::BeginFailed => Failing::Away,
        _ => Failing::Request,
    }
}

/// SQLite's result codes (sqlite.org/rescode.html) are numbers, whose low byte is the primary one; SQLSTATEs of
/// PostgreSQL (appendix A of its manual) have five characters, of which the first two are the class.
fn failing_by_code(code: &str) -> Failing {
    if let (5, Some(class)) = (code.len(), code.get(..2)) {
        return match (class, code) {
            (_, "53100") => Failing::Full,
            // character_not_in_repertoire: U+0000, which SQLite takes.
            (_, "22021") => Failing::Text,
            // query_canceled: by statement_timeout.
            (_, "57014") => Failing::Slow,
            // The last: foreign_key_violation, for somebody deleted what a row is about.
            (_, "40001" | "40P01" | "23503") => Failing::Conflict,
            // Connection exceptions; out of memory or connections; intervention of an operator; a system error; a lock
            // that another one holds; a transaction that was ended because it rested.
            ("08" | "53" | "57" | "58", _) | (_, "55P03" | "25P03") => Failing::Away,
            _ => Failing::Request,
        };
    }
    let code = code.parse::<u32>();
    // SQLITE_CONSTRAINT_FOREIGNKEY.
    if code == Ok(787) {
        return Failing::Conflict;
    }
    match code.map(|code| code & 0xff) {
        // SQLITE_FULL.
        Ok(13) => Failing::Full,
        // SQLITE_INTERRUPT.
        Ok(9) => Failing::Slow,
        // SQLITE_BUSY, _LOCKED, _READONLY, _IOERR, _CANTOPEN.
        Ok(5 | 6 | 8 | 10 | 14) => Failing::Away,
        Ok(_) | Err(_) => Failing::Request,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_of_both_databases_tell_whose_turn_it_is() {
        for (code, expected) in [
            ("13", Failing::Full),
            ("5", Failing::Away),
            ("517", Failing::Away),
            ("778", Failing::Away),
            ("19", Failing::Request),
            ("2067", Failing::Request),
            ("53100", Failing::Full),
            ("53300", Failing::Away),
            ("57P01", Failing::Away),
            ("57014", Failing::Slow),
            ("9", Failing::Slow),
            ("57P03", Failing::Away),
            ("40P01", Failing::Conflict),
            ("23503", Failing::Conflict),
            ("787", Failing::Conflict),
            ("23505", Failing::Request),
            ("22021", Failing::Text),
            ("", Failing::Request),
        ] {
            assert_eq!(failing_by_code(code), expected, "{code}");
        }
    }
}
