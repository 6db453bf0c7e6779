//! Tables. Where the screen is narrow they scroll by themselves; on a phone each row is a card.

use std::cmp::Ordering;

use maud::{Markup, html};
use serde::Deserialize;

use crate::api::Query;

/// Name and class: `num` for numbers, `grow` for what takes the room that is left, `bare` for controls, whose name is not
/// shown, and `wrap` for long keys.
pub(crate) type Column = (&'static str, &'static str);

/// A row with a cell for each column; an empty cell is left out of a card.
pub(crate) struct Row {
    class: &'static str,
    cells: Vec<Markup>,
}

pub(crate) fn row(cells: impl Into<Vec<Markup>>) -> Row {
    Row { class: "", cells: cells.into() }
}

impl Row {
    pub(crate) fn with_class(self, class: &'static str) -> Self {
        Self { class, ..self }
    }
}

/// How a list is sorted: the links in the heads of its columns go to the same list in another order.
pub(crate) struct Sorting<'a> {
    /// Columns that it can be sorted by, with the names of that in the address.
    pub(crate) columns: Vec<(&'static str, &'static str)>,
    /// What needs no name there.
    pub(crate) usual: &'a str,
    pub(crate) sort: &'a str,
    pub(crate) is_descending: bool,
    /// The list, and its filter without an order.
    pub(crate) path: &'a str,
    pub(crate) filter: &'a Query,
}

impl Sorting<'_> {
    /// Whether the list is sorted by a column, and the link in its head; `None` for one that it is not sorted by.
    fn of(&self, column: &str) -> Option<(Option<&'static str>, String)> {
        let usual = self.usual;
        let (_, name) = self.columns.iter().find(|(known, _)| *known == column)?;
        let is_chosen = *name == self.sort;
        let turned = is_chosen && !self.is_descending;
        let link = self
            .filter
            .clone()
            .maybe("sort", (*name != usual).then_some(*name))
            .maybe("order", turned.then_some("descending"))
            .on(self.path);
        let direction = if self.is_descending { "descending" } else { "ascending" };
        Some((is_chosen.then_some(direction), link))
    }
}

/// A column that a list is sorted by which is loaded whole: its head, its name in the address, and the order.
pub(crate) type By<T> = (&'static str, &'static str, fn(&T, &T) -> Ordering);

/// In which order somebody wants a list that is loaded whole; nothing: as the API has it.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct Asked {
    sort: String,
    order: String,
}

impl Asked {
    /// Sorts a list, and tells what the heads of its columns say. `usual`: what the API has it by, and whether the other way round.
    pub(crate) fn sort<'a, T>(
        &'a self,
        items: &mut [T],
        by: &[By<T>],
        usual: (&'a str, bool),
        path: &'a str,
        filter: &'a Query,
    ) -> Sorting<'a> {
        let chosen = by.iter().find(|(_, name, _)| *name == self.sort);
        let (sort, is_descending) = match chosen {
            Some((_, name, compare)) => {
                items.sort_by(compare);
                if self.order == "descending" {
                    items.reverse();
                }
                (*name, self.order == "descending")
            }
            None => usual,
        };
        let columns = by.iter().map(|(column, name, _)| (*column, *name)).collect();
        Sorting { columns, usual: "", sort, is_descending, path, filter }
    }
}

pub(crate) fn table(label: &str, columns: &[Column], rows: impl IntoIterator<Item = Row>) -> Markup {
    sorted(label, columns, None, rows)
}

/// The roles are said as well, because browsers forget them of a table whose display is another one.
pub(crate) fn sorted(
    label: &str,
    columns: &[Column],
    sorting: Option<&Sorting<'_>>,
    rows: impl IntoIterator<Item = Row>,
) -> Markup {
    html! {
        div.scroll role="region" aria-label=(label) tabindex="0" {
            table.cards role="table" {
                thead role="rowgroup" {
                    tr role="row" {
                        @for (name, class) in columns {
                            @let sort = sorting.and_then(|sorting| sorting.of(name));
                            th class=[shown(class)] role="columnheader" scope="col"
                                aria-sort=[sort.as_ref().and_then(|(direction, _)| *direction)] {
                                @if *class == "bare" {
                                    span.hidden { (name) }
                                } @else if let Some((_, link)) = &sort {
                                    a href=(link) { (name) }
                                } @else {
                                    (name)
                                }
                            }
                        }
                    }
                }
                tbody role="rowgroup" {
                    @for row in rows {
                        tr class=[shown(row.class)] role="row" {
                            @for ((name, class), cell) in columns.iter().zip(row.cells) {
                                td class=[shown(class)] role="cell" data-label=(name) { (cell) }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn shown(class: &str) -> Option<&str> {
    Some(class).filter(|class| !class.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cell_says_what_it_is() {
        let rows = [row([html! { "lamp-1" }, html! { "7" }, html! {}]).with_class("open")];
        let table = table("Devices", &[("Device", ""), ("Starts", "num"), ("Revoke", "bare")], rows);
        let table = table.into_string();
        for part in [
            r#"<th class="num" role="columnheader" scope="col">Starts</th>"#,
            r#"<span class="hidden">Revoke</span>"#,
            r#"<tr class="open" role="row">"#,
            r#"<td role="cell" data-label="Device">lamp-1</td>"#,
            r#"<td class="num" role="cell" data-label="Starts">7</td>"#,
            r#"<td class="bare" role="cell" data-label="Revoke"></td>"#,
        ] {
            assert!(table.contains(part), "{part} in {table}");
        }
    }

    #[test]
    fn a_head_leads_to_the_other_order_and_says_which_one_it_is() {
        let filter = Query::new().and("product", "lamp");
        let head = |sort: &str, is_descending: bool| {
            let columns = vec![("Device", "id"), ("Last seen", "last-seen")];
            let path = "/devices";
            let sorting = Sorting { columns, usual: "id", sort, is_descending, path, filter: &filter };
            let columns = &[("Device", ""), ("Last seen", ""), ("Note", "")];
            sorted("Devices", columns, Some(&sorting), []).into_string()
        };
        let by_id = head("id", false);
        for part in [
            r#"aria-sort="ascending"><a href="/devices?product=lamp&amp;order=descending">Device</a>"#,
            r#"scope="col"><a href="/devices?product=lamp&amp;sort=last-seen">Last seen</a>"#,
            r#"scope="col">Note</th>"#,
        ] {
            assert!(by_id.contains(part), "{part} in {by_id}");
        }
        let by_time = head("last-seen", true);
        for part in [
            r#"scope="col"><a href="/devices?product=lamp">Device</a>"#,
            r#"aria-sort="descending"><a href="/devices?product=lamp&amp;sort=last-seen">Last seen</a>"#,
        ] {
            assert!(by_time.contains(part), "{part} in {by_time}");
        }
    }

    #[test]
    fn a_list_that_is_loaded_whole_is_sorted_here() {
        let by: [By<(u8, &str)>; 2] =
            [("Number", "number", |a, b| a.0.cmp(&b.0)), ("Name", "name", |a, b| a.1.cmp(b.1))];
        let filter = Query::new();
        for (sort, order, expected, heads) in [
            ("", "", [3, 2, 1], ("number", true)),
            ("number", "", [1, 2, 3], ("number", false)),
            ("name", "", [2, 3, 1], ("name", false)),
            ("name", "descending", [1, 3, 2], ("name", true)),
            ("colour", "descending", [3, 2, 1], ("number", true)),
        ] {
            let asked = Asked { sort: sort.to_owned(), order: order.to_owned() };
            let mut items = [(3, "b"), (2, "a"), (1, "c")];
            let sorting = asked.sort(&mut items, &by, ("number", true), "/", &filter);
            assert_eq!(items.map(|(number, _)| number), expected, "{sort} {order}");
            assert_eq!((sorting.sort, sorting.is_descending), heads, "{sort} {order}");
        }
    }
}
