//! Lists in pages.

use api::page::{Order, Page, Total};
use serde::Deserialize;
use utoipa::IntoParams;

use crate::problem::Problem;
use crate::store::Place;

const DEFAULT_LIMIT: i64 = 100;
const MAX_LIMIT: i64 = 1000;

/// As far as entries are counted to tell how many there are: one more than is told.
pub(super) const COUNTED: i64 = 10_001;

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

/// What is told of entries that were counted up to [`COUNTED`].
pub(super) fn total(counted: i64) -> Total {
    Total { count: counted.min(COUNTED - 1), has_more: counted == COUNTED }
}

/// `?limit=&cursor=&before=&order=` of a list that is read both ways.
#[derive(Debug)]
pub(super) struct BothWays {
    page: PageParams,
    before: Option<String>,
    /// Whether its order is the other way round than usual.
    is_turned: bool,
}

impl BothWays {
    pub(super) fn new(
        limit: Option<i64>,
        cursor: Option<String>,
        before: Option<String>,
    ) -> Result<Self, Problem> {
        match (&cursor, &before) {
            (Some(_), Some(_)) => Err(Problem::Unsuitable(
                "expected either cursor, for the page after it, or before, for the page before it; found both"
                    .to_owned(),
            )),
            (_, _) => {
                let before = before.filter(|before| !before.is_empty());
                Ok(Self { page: PageParams { limit, cursor }, before, is_turned: false })
            }
        }
    }

    /// In this order, if one is asked for; `usual` is the store's.
    pub(super) fn in_order(self, order: Option<Order>, usual: Order) -> Self {
        Self { is_turned: order.is_some_and(|order| order != usual), ..self }
    }

    /// What the page is next to, in the store's order.
    pub(super) fn place(&self) -> Place<'_> {
        match (&self.before, self.is_turned) {
            (None, false) => Place::After(self.page.after()),
            (None, true) => Place::Before(self.page.after()),
            (Some(before), false) => Place::Before(before),
            (Some(before), true) => Place::After(before),
        }
    }

    /// As [`PageParams::rows`].
    pub(super) fn rows(&self) -> Result<i64, Problem> {
        self.page.rows()
    }

    /// A page of the rows read, which are in the store's order; `key` gives a row's place in it.
    pub(super) fn page<R, T>(
        &self,
        mut rows: Vec<R>,
        key: impl Fn(&R) -> String,
        show: impl FnMut(R) -> Result<T, Problem>,
    ) -> Result<Page<T>, Problem> {
        if self.is_turned {
            rows.reverse();
        }
        let Some(before) = &self.before else {
            let previous_cursor = rows.first().filter(|_| self.page.cursor.is_some()).map(&key);
            return Ok(Page { previous_cursor, ..self.page.page(rows, key, show)? });
        };
        let limit = usize::try_from(self.page.limit()?).unwrap_or_default();
        let left_out = rows.len().saturating_sub(limit);
        rows.drain(..left_out);
        let previous_cursor = rows.first().filter(|_| left_out > 0).map(&key);
        // What the page ends before comes next, and so does what has taken its place.
        let next_cursor = Some(rows.last().map_or_else(|| before.clone(), &key));
        Ok(Page {
            items: rows.into_iter().map(show).collect::<Result<_, _>>()?,
            next_cursor,
            previous_cursor,
            total: None,
        })
    }
}

impl PageParams {
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
        let items = rows.into_iter().map(show).collect::<Result<_, _>>()?;
        Ok(Page { items, next_cursor, previous_cursor: None, total: None })
    }
}
