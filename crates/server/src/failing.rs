//! What an error of something that is kept elsewhere means for whoever asked.

use std::error::Error;

/// Whose turn it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failing {
    /// The database is away, locked or overloaded: what was asked for may go well later. It may have been done.
    Away,
    /// Another transaction was in the way, and this one gave in: it was not done.
    Conflict,
    /// A text has U+0000, which PostgreSQL can neither store nor be asked for.
    Text,
    /// There is no room left.
    Full,
    /// It took too long, and was given up.
    Slow,
    /// The server itself, or what it was asked for.
    Request,
}

/// An error that says whose turn it is.
pub(crate) trait Fails: Error + Send + Sync + Sized + 'static {
    /// Whose turn it is.
    fn failing(&self) -> Failing;
}
