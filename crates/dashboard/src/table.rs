//! Tables. Where the screen is narrow they scroll by themselves; on a phone each row is a card.

use maud::{Markup, html};

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
    /// Columns that it can be sorted by, with what the API calls that. The first is the usual one.
    pub(crate) columns: &'a [(&'static str, &'static str)],
    /// As the API has it; empty for the usual one.
    pub(crate) sort: &'a str,
    pub(crate) is_descending: bool,
    /// The list, and its filter without an order.
    pub(crate) path: &'a str,
    pub(crate) filter: &'a Query,
}

impl Sorting<'_> {
    /// Whether the list is sorted by a column, and the link in its head; `None` for one that it is not sorted by.
    fn of(&self, column: &str) -> Option<(Option<&'static str>, String)> {
        let usual = self.columns.first()?.1;
        let (_, name) = self.columns.iter().find(|(known, _)| *known == column)?;
        let is_chosen = *name == if self.sort.is_empty() { usual } else { self.sort };
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
            let columns = &[("Device", "id"), ("Last seen", "last-seen")];
            let sorting = Sorting { columns, sort, is_descending, path: "/devices", filter: &filter };
            let columns = &[("Device", ""), ("Last seen", ""), ("Note", "")];
            sorted("Devices", columns, Some(&sorting), []).into_string()
        };
        let by_id = head("", false);
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
}
