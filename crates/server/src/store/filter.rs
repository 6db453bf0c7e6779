//! The WHERE of a list: only the conditions that were asked for, so that the database finds an index for them.

use std::fmt::Write as _;

use sqlx::any::AnyRow;
use sqlx::sqlite::SqliteRow;
use sqlx::{AnyConnection, AssertSqlSafe, FromRow};

use super::StoreError;
use super::questions::{Questions, Value};

/// A place between two entries of a list, by the key that it is ordered by.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Place<'a> {
    /// The page begins after this key; an empty one is before the first entry.
    After(&'a str),
    /// The page ends before this key; an empty one is behind the last entry.
    Before(&'a str),
}

/// The conditions of a list, with their values.
#[derive(Debug, Default)]
pub(super) struct Filter {
    sql: String,
    values: Vec<Value>,
}

/// A list that was not asked for yet.
#[derive(Debug)]
pub(super) struct Question {
    sql: String,
    values: Vec<Value>,
}

impl Question {
    /// Asks on a connection, which may be in a transaction.
    pub(super) async fn fetch_on<T>(self, connection: &mut AnyConnection) -> Result<Vec<T>, StoreError>
    where
        T: for<'row> FromRow<'row, AnyRow> + Send + Unpin,
    {
        // Safe: whatever comes from outside is bound.
        let mut query = sqlx::query_as(AssertSqlSafe(self.sql));
        for value in self.values {
            query = match value {
                Value::Text(text) => query.bind(text),
                Value::Number(number) => query.bind(number),
            };
        }
        Ok(query.fetch_all(connection).await?)
    }
}

impl Filter {
    /// A condition that holds a text, such as `product = {}`; an empty text is no condition.
    pub(super) fn text(&mut self, condition: &'static str, value: &str) {
        if !value.is_empty() {
            self.values.push(Value::Text(value.to_owned()));
            self.and(condition);
        }
    }

    /// That a column has one of these texts; without any it is no condition.
    pub(super) fn one_of(&mut self, column: &'static str, values: &[String]) {
        if !values.is_empty() {
            let first = self.values.len() + 1;
            self.values.extend(values.iter().cloned().map(Value::Text));
            self.add(&format!("{column} IN ({})", places(first, values.len())));
        }
    }

    /// A condition that holds a number.
    pub(super) fn number(&mut self, condition: &'static str, value: i64) {
        self.values.push(Value::Number(value));
        self.and(condition);
    }

    /// A condition that holds a number and a text, such as `(at_ms, id) < ({number}, {text})`.
    pub(super) fn pair(&mut self, condition: &'static str, number: i64, text: &str) {
        self.values.extend([Value::Number(number), Value::Text(text.to_owned())]);
        let places = [self.values.len() - 1, self.values.len()].map(|place| format!("${place}"));
        self.add(&condition.replace("{number}", &places[0]).replace("{text}", &places[1]));
    }

    /// That a key of a number and the id is beyond another one.
    pub(super) fn beyond(&mut self, key: &'static str, sign: &'static str, number: i64, id: &str) {
        let places = self.places_of(number, id);
        self.add(&format!("({key}, id) {sign} {places}"));
    }

    /// The places of a number and a text for what stands behind the conditions: `($3, $4)`.
    pub(super) fn places_of(&mut self, number: i64, text: &str) -> String {
        let first = self.values.len() + 1;
        self.values.extend([Value::Number(number), Value::Text(text.to_owned())]);
        format!("({})", places(first, 2))
    }

    /// A condition by itself, or one about the value that was added last.
    pub(super) fn and(&mut self, condition: &'static str) {
        self.add(&condition.replace("{}", &format!("${}", self.values.len())));
    }

    fn add(&mut self, condition: &str) {
        let joint = if self.sql.is_empty() { "WHERE" } else { " AND" };
        // Writing to a `String` cannot fail.
        let _ = write!(self.sql, "{joint} ({condition})");
    }

    /// The rows of `select`, the conditions, and `order`, which ends with the place of the limit.
    pub(super) async fn fetch<T>(
        self,
        questions: &Questions,
        select: &str,
        order: &str,
        limit: i64,
    ) -> Result<Vec<T>, StoreError>
    where
        T: for<'row> FromRow<'row, AnyRow> + for<'row> FromRow<'row, SqliteRow> + Send + Unpin,
    {
        let Question { sql, values } = self.question(select, order, limit);
        questions.ask(sql, values).await
    }

    /// The same, to be asked later.
    pub(super) fn question(mut self, select: &str, order: &str, limit: i64) -> Question {
        let sql = self.statement(select, order);
        self.values.push(Value::Number(limit));
        Question { sql, values: self.values }
    }

    /// How many rows of `from` fit, counted up to `most`.
    pub(super) async fn count(
        mut self,
        questions: &Questions,
        from: &'static str,
        most: i64,
    ) -> Result<i64, StoreError> {
        let question = self.count_statement(from);
        self.values.push(Value::Number(most));
        let counted: Vec<(i64,)> = questions.ask(question, self.values).await?;
        Ok(counted.first().map_or(0, |(count,)| *count))
    }

    pub(super) fn count_statement(&self, from: &'static str) -> String {
        let found = self.statement(from, "LIMIT {}");
        format!("SELECT COUNT(*) FROM ({found}) AS found")
    }

    pub(super) fn statement(&self, select: &str, order: &str) -> String {
        let limit = format!("${}", self.values.len() + 1);
        format!("{select} {} {}", self.sql, order.replace("{}", &limit))
    }
}

/// `$2, $3, $4` for three places from the second on.
pub(super) fn places(first: usize, count: usize) -> String {
    (first..first + count).map(|place| format!("${place}")).collect::<Vec<_>>().join(", ")
}

/// One statement over so many keys, for each of a few sizes: the databases prepare each once.
pub(super) struct Statements<const N: usize> {
    sizes: [usize; N],
    texts: [String; N],
}

impl<const N: usize> Statements<N> {
    /// `sizes` rise; `statement` has a place for each of so many keys.
    pub(super) fn new(sizes: [usize; N], statement: impl Fn(usize) -> String) -> Self {
        Self { sizes, texts: sizes.map(statement) }
    }

    /// The most keys of one statement.
    pub(super) fn max(&self) -> usize {
        self.sizes[N - 1]
    }

    /// The smallest statement that holds these keys, and what to bind: for places that are left over the first key again.
    pub(super) fn of<'a>(
        &'static self,
        keys: &'a [&'a str],
    ) -> (&'static str, impl Iterator<Item = &'a str>) {
        let index = self.sizes.iter().position(|size| *size >= keys.len()).unwrap_or(N - 1);
        let again = keys.first().copied().into_iter().cycle();
        (&self.texts[index], keys.iter().copied().chain(again).take(self.sizes[index]))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use super::*;

    #[test]
    fn only_what_is_asked_for_is_a_condition() {
        let mut filter = Filter::default();
        filter.text("product = {}", "");
        assert_eq!(filter.statement("SELECT", "LIMIT {}"), "SELECT  LIMIT $1");
        filter.number("at_ms >= {}", 5);
        filter.text("(a = {} OR b = {})", "x");
        filter.and("c IS NULL");
        filter.pair("(d, e) < ({number}, {text})", 6, "y");
        assert_eq!(
            filter.statement("SELECT", "LIMIT {}"),
            "SELECT WHERE (at_ms >= $1) AND ((a = $2 OR b = $2)) AND (c IS NULL) AND ((d, e) < ($3, $4)) LIMIT $5"
        );
        assert_eq!(places(2, 3), "$2, $3, $4");
    }

    #[test]
    fn a_group_takes_the_smallest_statement_that_holds_it() {
        static STATEMENTS: LazyLock<Statements<2>> =
            LazyLock::new(|| Statements::new([1, 4], |size| places(1, size)));
        for (keys, statement, bound) in [
            (&["a"][..], "$1", &["a"][..]),
            (&["a", "b"], "$1, $2, $3, $4", &["a", "b", "a", "a"]),
            (&["a", "b", "c", "d"], "$1, $2, $3, $4", &["a", "b", "c", "d"]),
        ] {
            let (text, binds) = STATEMENTS.of(keys);
            assert_eq!((text, binds.collect::<Vec<_>>().as_slice()), (statement, bound));
        }
        assert_eq!(STATEMENTS.max(), 4);
    }
}
