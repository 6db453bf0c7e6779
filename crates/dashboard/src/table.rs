//! Tables. Where the screen is narrow they scroll by themselves; on a phone each row is a card.

use maud::{Markup, html};

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

/// The roles are said as well, because browsers forget them of a table whose display is another one.
pub(crate) fn table(label: &str, columns: &[Column], rows: impl IntoIterator<Item = Row>) -> Markup {
    html! {
        div.scroll role="region" aria-label=(label) tabindex="0" {
            table.cards role="table" {
                thead role="rowgroup" {
                    tr role="row" {
                        @for (name, class) in columns {
                            th class=[shown(class)] role="columnheader" scope="col" {
                                @if *class == "bare" { span.hidden { (name) } } @else { (name) }
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
}
