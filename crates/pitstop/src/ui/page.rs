//! A page: heading, facts, tables, notes, next commands.
//!
//! Texts come from images, devices and servers: what a terminal would obey is taken out of each before colours are added.

use std::fmt::{self, Display};
use std::io::IsTerminal;

use comfy_table::{Attribute, Color, ColumnConstraint, ContentArrangement, Table, Width, presets};

use super::hints;
use super::style::{Tone, paint};
use super::text::{in_a_line, printable};

/// Blank columns left of everything below a heading.
const INDENT: &str = "  ";

/// Blank columns behind each column of a table.
const GAP: usize = 2;

/// The longest line of a paragraph: fits every terminal, and is easy to read on a wide one.
const NOTE_COLUMNS: usize = 78;

/// What a command shows to a person, built part by part; parts are set apart by one blank line.
#[derive(Debug, Default)]
pub(crate) struct Page {
    parts: Vec<String>,
}

/// A table cell or the value of a fact: text with a tone.
#[derive(Debug, Clone)]
pub(crate) struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    /// Its text, without the tone.
    #[cfg(test)]
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// A cell of this tone.
    pub(crate) fn new(tone: Tone, text: impl Into<String>) -> Self {
        Self { text: in_a_line(&text.into()), tone }
    }

    /// The text, or a dim dash when there is none.
    pub(crate) fn or_dash(text: Option<impl Into<String>>) -> Self {
        match text.map(Into::into) {
            Some(text) if !text.is_empty() => Self::new(Tone::Plain, text),
            Some(_) | None => Self::new(Tone::Dim, "-"),
        }
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::new(Tone::Plain, text)
    }
}

impl Page {
    /// A page that begins with a heading.
    pub(crate) fn titled(heading: impl Display) -> Self {
        Self { parts: vec![paint(Tone::Heading, heading).to_string()] }
    }

    /// A page that begins without one.
    pub(crate) fn plain() -> Self {
        Self::default()
    }

    /// A page that is a text as it stands, such as a file's.
    pub(crate) fn verbatim(text: &str) -> Self {
        Self { parts: vec![printable(text.trim_end()).into_owned()] }
    }

    /// Adds labels and values, aligned.
    pub(crate) fn facts<L: AsRef<str>>(mut self, facts: impl IntoIterator<Item = (L, Cell)>) -> Self {
        let facts: Vec<(L, Cell)> = facts.into_iter().collect();
        let width = facts.iter().map(|(label, _)| label.as_ref().chars().count()).max().unwrap_or(0);
        let lines = facts.iter().map(|(label, cell)| {
            let label = format!("{:width$}", label.as_ref());
            format!("{INDENT}{}  {}", paint(Tone::Dim, label), paint(cell.tone, &cell.text))
        });
        self.parts.push(lines.collect::<Vec<_>>().join("\n"));
        self
    }

    /// Adds a table. On a terminal it is held within the terminal's width; in a pipe lines are as long as they
    /// need to be.
    pub(crate) fn table<const N: usize>(
        mut self,
        headers: [&str; N],
        rows: impl IntoIterator<Item = [Cell; N]>,
    ) -> Self {
        let rows: Vec<_> = rows.into_iter().collect();
        // Serial consoles often say that they have no columns at all.
        let columns = Table::new().width().filter(|columns| std::io::stdout().is_terminal() && *columns > 0);
        self.parts.push(table(headers, rows, columns.map(usize::from)));
        self
    }

    /// Adds a paragraph. Its lines are broken here, and where the text breaks them.
    pub(crate) fn note(self, text: impl Display) -> Self {
        self.toned_note(Tone::Plain, text)
    }

    /// Adds a paragraph of this tone.
    pub(crate) fn toned_note(mut self, tone: Tone, text: impl Display) -> Self {
        let text = text.to_string();
        self.parts.push(paint(tone, textwrap::fill(&printable(&text), by_words(NOTE_COLUMNS))).to_string());
        self
    }

    /// Says that a list goes on after `limit` entries.
    pub(crate) fn more(self, limit: usize) -> Self {
        self.toned_note(Tone::Dim, format_args!("There are more than {limit}; --limit N lists more."))
    }

    /// Adds what to do next: a sentence and the commands that do it.
    pub(crate) fn next<C: Display>(mut self, what: &str, commands: impl IntoIterator<Item = C>) -> Self {
        let mut part = printable(what).into_owned();
        for command in commands {
            part += &format!("\n{INDENT}{}", paint(Tone::Command, hints::command(&command.to_string())));
        }
        self.parts.push(part);
        self
    }
}

/// A table within so many columns, its cells broken between words; where that does not do, the cells of a row below each other.
fn table<const N: usize>(headers: [&str; N], rows: Vec<[Cell; N]>, columns: Option<usize>) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).enforce_styling();
    let mut constraints = Vec::new();
    if let Some(columns) = columns {
        let of_column = |column: usize, measure: fn(&str) -> usize| {
            let cells = rows.iter().map(|row| measure(&row[column].text));
            cells.chain([measure(headers[column])]).max().unwrap_or_default()
        };
        let widths = |measure| (0..N).map(move |column| of_column(column, measure) + GAP);
        let place = columns.saturating_sub(INDENT.len());
        if widths(longest_word).sum::<usize>() > place {
            return below_each_other(headers, &rows, columns);
        }
        if widths(textwrap::core::display_width).sum::<usize>() > place {
            table.set_content_arrangement(ContentArrangement::Dynamic);
            table.set_width(u16::try_from(place).unwrap_or(u16::MAX));
            let at_least = |width: usize| {
                ColumnConstraint::LowerBoundary(Width::Fixed(u16::try_from(width).unwrap_or(u16::MAX)))
            };
            constraints = widths(longest_word).map(at_least).collect();
        }
    }
    table.set_header(headers.map(|header| comfy_table::Cell::new(header).add_attribute(Attribute::Dim)));
    for row in rows {
        table.add_row(row.map(comfy_table::Cell::from));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.set_constraints(constraints);
    let lines = table.lines().map(|line| format!("{INDENT}{}", trim_end(&line)));
    lines.collect::<Vec<_>>().join("\n")
}

/// Each row as labels and values, with a blank line between rows.
fn below_each_other<const N: usize>(headers: [&str; N], rows: &[[Cell; N]], columns: usize) -> String {
    let label_columns = headers.iter().map(|header| header.chars().count()).max().unwrap_or_default();
    let before = INDENT.len() + label_columns + GAP;
    let place = columns.saturating_sub(before).max(1);
    let rows = rows.iter().map(|row| {
        let lines = headers.iter().zip(row).map(|(header, cell)| {
            let label = paint(Tone::Dim, format!("{header:label_columns$}"));
            let value = textwrap::wrap(&cell.text, by_words(place)).into_iter();
            let value = value.map(|line| paint(cell.tone, line).to_string()).collect::<Vec<_>>();
            format!("{INDENT}{label}  {}", value.join(&format!("\n{:before$}", "")))
        });
        lines.collect::<Vec<_>>().join("\n")
    });
    rows.collect::<Vec<_>>().join("\n\n")
}

fn longest_word(text: &str) -> usize {
    text.split(' ').map(textwrap::core::display_width).max().unwrap_or_default()
}

/// Lines are broken between words alone: ids and commands, which have hyphens, are to be copied.
pub(super) fn by_words(columns: usize) -> textwrap::Options<'static> {
    textwrap::Options::new(columns)
        .word_separator(textwrap::WordSeparator::AsciiSpace)
        .word_splitter(textwrap::WordSplitter::NoHyphenation)
        .break_words(false)
}

/// Removes blanks at the end of a line, also those before the sequence that ends a colour (`ESC [ … m`).
fn trim_end(line: &str) -> String {
    let line = line.trim_end();
    match line.rfind("\x1b[").map(|start| line.split_at(start)) {
        Some((text, end)) if end.find('m') == Some(end.len() - 1) => format!("{}{end}", text.trim_end()),
        Some(_) | None => line.to_owned(),
    }
}

impl Display for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.parts.join("\n\n"))
    }
}

impl From<Cell> for comfy_table::Cell {
    fn from(cell: Cell) -> Self {
        let styled = Self::new(cell.text);
        match cell.tone {
            Tone::Plain => styled,
            Tone::Heading => styled.add_attribute(Attribute::Bold),
            Tone::Dim => styled.add_attribute(Attribute::Dim),
            Tone::Good => styled.fg(Color::DarkGreen),
            Tone::Warn => styled.fg(Color::DarkYellow),
            Tone::Bad => styled.fg(Color::DarkRed).add_attribute(Attribute::Bold),
            Tone::Command => styled.fg(Color::DarkCyan),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `pitstop device list` is made of, at widths of terminals.
    #[test]
    fn tables_break_no_word_and_fit_42_columns() {
        let headers = ["ID", "PRODUCT", "CHANNEL", "HEALTH", "RUNS", "LAST SEEN", "LAST OUTCOME"];
        let cells = [
            "AA:BB:CC:DD:EE:FF",
            "lamp",
            "stable",
            "unheard",
            "1.10.0",
            "3 days ago",
            "image-not-an-application",
        ];
        let row = || cells.map(|text| Cell::new(Tone::Warn, text));
        let shown = |columns: Option<usize>| {
            let text = table(headers, vec![row(), row()], columns);
            anstream::adapter::strip_str(&text).to_string()
        };
        let wide = shown(None);
        assert_eq!(wide.lines().count(), 3, "{wide}");
        assert_eq!(shown(Some(200)), wide);
        for columns in 42..130 {
            let text = shown(Some(columns));
            let widest = text.lines().map(textwrap::core::display_width).max();
            assert!(widest <= Some(columns), "{columns}: {widest:?}\n{text}");
            for word in headers.iter().chain(&cells).flat_map(|text| text.split(' ')) {
                assert!(text.contains(word), "{columns}: {word}\n{text}");
            }
        }
        let narrow = shown(Some(42));
        assert!(narrow.starts_with("  ID            AA:BB:CC:DD:EE:FF\n  PRODUCT       lamp\n"), "{narrow}");
        assert!(shown(Some(90)).lines().count() > 3);
    }

    fn plain(page: Page) -> String {
        anstream::adapter::strip_str(&page.to_string()).to_string()
    }

    #[test]
    fn facts_are_aligned_and_parts_are_set_apart() {
        let page = Page::titled("Lamp")
            .facts([("id", Cell::from("lamp-1")), ("product", Cell::or_dash(None::<String>))])
            .next("Next:", ["pitstop device list"]);
        assert_eq!(plain(page), "Lamp\n\n  id       lamp-1\n  product  -\n\nNext:\n  pitstop device list\n");
    }

    /// Whatever a page is made of, a terminal finds the colours that the page adds, ends of lines, and text.
    #[test]
    fn of_texts_of_others_a_terminal_obeys_nothing() {
        let hostile = "a\x1b]0;title\x07b\u{9b}2J\x1b[31mc\u{202e}d\r\u{8}";
        let page = Page::titled(hostile)
            .facts([("label", hostile.into()), ("dash", Cell::or_dash(Some(hostile)))])
            .table(["COLUMN"], [[Cell::new(Tone::Bad, hostile)], [hostile.into()]])
            .note(hostile)
            .toned_note(Tone::Warn, hostile)
            .next(hostile, [hostile])
            .to_string();
        let mut parts = page.split('\x1b');
        let first = parts.next().unwrap().to_owned();
        let text = parts.fold(first, |text, part| {
            let (colour, rest) = part.split_once('m').unwrap();
            let is_colour = colour
                .strip_prefix('[')
                .is_some_and(|codes| codes.bytes().all(|byte| byte.is_ascii_digit() || byte == b';'));
            assert!(is_colour && colour != "[31", "{colour:?}");
            text + rest
        });
        assert!(text.chars().all(|char| char == '\n' || wire::is_printable(char)), "{text:?}");
        assert_eq!(text.matches("a]0;titleb2J[31mcd").count(), 9, "{text}");
    }

    #[test]
    fn a_cell_is_one_line() {
        assert_eq!(Cell::from("a\nb\tc").text, "a b c");
    }

    #[test]
    fn paragraphs_are_broken_between_words() {
        let text = plain(Page::plain().note("word ".repeat(40)).note("one\ntwo"));
        assert!(text.lines().all(|line| line.len() <= NOTE_COLUMNS && !line.ends_with(' ')), "{text}");
        assert!(text.ends_with("\n\none\ntwo\n"), "{text}");
        let ids: Vec<_> = (0..40).map(|number| format!("sim-lamp-{number:03}")).collect();
        let text = plain(Page::plain().note(ids.join(", ")));
        assert!(ids.iter().all(|id| text.contains(id)), "no id is broken: {text}");
    }

    #[test]
    fn tables_end_without_blanks() {
        let page = Page::plain()
            .table(["ID", "STATE"], [["a".into(), "new".into()], ["lamp".into(), Cell::new(Tone::Bad, "x")]]);
        assert_eq!(plain(page), "  ID    STATE\n  a     new\n  lamp  x\n");
    }
}
