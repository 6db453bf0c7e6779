//! Lists in pages.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::problem::Problem;

const DEFAULT_LIMIT: i64 = 100;
const MAX_LIMIT: i64 = 1000;

/// `?limit=&cursor=`.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(default)]
pub(super) struct PageParams {
    /// Entries of a page; 100 when it is absent.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<i64>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// One page of a list; `next_cursor` asks for the next one.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Page<T> {
    items: Vec<T>,
    /// Asks for the next page; null on the last one.
    next_cursor: Option<String>,
}

impl<T> Page<T> {
    /// A list that is always whole.
    pub(super) fn whole(items: Vec<T>) -> Self {
        Self { items, next_cursor: None }
    }
}

impl PageParams {
    pub(super) fn new(limit: Option<i64>, cursor: Option<String>) -> Self {
        Self { limit, cursor }
    }

    /// The key after which the page starts; empty for the first page.
    pub(super) fn after(&self) -> &str {
        self.cursor.as_deref().unwrap_or_default()
    }

    /// How many rows to read: one more than the page has, to know whether there is a next one.
    pub(super) fn rows(&self) -> Result<i64, Problem> {
        Ok(self.limit()? + 1)
    }

    fn limit(&self) -> Result<i64, Problem> {
        match self.limit {
            None => Ok(DEFAULT_LIMIT),
            Some(limit @ 1..=MAX_LIMIT) => Ok(limit),
            Some(found) => {
                Err(Problem::Invalid(format!("expected a limit of 1 to {MAX_LIMIT}, found {found}")))
            }
        }
    }

    /// A page of the rows read; `key` gives a row's place in the list.
    pub(super) fn page<R, T>(
        &self,
        mut rows: Vec<R>,
        key: impl Fn(&R) -> String,
        show: impl FnMut(R) -> Result<T, Problem>,
    ) -> Result<Page<T>, Problem> {
        let limit = usize::try_from(self.limit()?).unwrap_or_default();
        let has_more = rows.len() > limit;
        rows.truncate(limit);
        let next_cursor = rows.last().filter(|_| has_more).map(key);
        Ok(Page { items: rows.into_iter().map(show).collect::<Result<_, _>>()?, next_cursor })
    }
}
