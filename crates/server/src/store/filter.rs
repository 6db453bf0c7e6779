//! The WHERE of a list: only the conditions that were asked for, so that the database finds an index for them.

use std::fmt::Write as _;

use sqlx::FromRow;
use sqlx::any::AnyRow;
use sqlx::sqlite::SqliteRow;

use super::StoreError;
use super::questions::{Questions, Value};

/// The conditions of a list, with their values.
#[derive(Debug, Default)]
pub(super) struct Filter {
    sql: String,
    values: Vec<Value>,
}

impl Filter {
    /// A condition that holds a text, such as `product = {}`; an empty text is no condition.
    pub(super) fn text(&mut self, condition: &'static str, value: &str) {
        if !value.is_empty() {
            self.values.push(Value::Text(value.to_owned()));
            self.and(condition);
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
        mut self,
        questions: &Questions,
        select: &'static str,
        order: &'static str,
        limit: i64,
    ) -> Result<Vec<T>, StoreError>
    where
        T: for<'row> FromRow<'row, AnyRow> + for<'row> FromRow<'row, SqliteRow> + Send + Unpin,
    {
        let question = self.statement(select, order);
        self.values.push(Value::Number(limit));
        questions.ask(question, self.values).await
    }

    pub(super) fn statement(&self, select: &'static str, order: &'static str) -> String {
        let limit = format!("${}", self.values.len() + 1);
        format!("{select} {} {}", self.sql, order.replace("{}", &limit))
    }
}

/// `$2, $3, $4` for three places from the second on.
pub(super) fn places(first: usize, count: usize) -> String {
    (first..first + count).map(|place| format!("${place}")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
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
}
