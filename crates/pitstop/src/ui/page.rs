//! A page: heading, facts, tables, notes, next commands.
//!
//! Texts come from images, devices and servers: what a terminal would obey is taken out of each before colours are added.

use std::fmt::{self, Display};

use comfy_table::{Attribute, Color, ColumnConstraint, ContentArrangement, Table, Width, presets};
use console::Term;

use super::hints;
use super::style::{Tone, paint};
use super::text::{in_a_line, printable};

/// Blank columns left of everything below a heading.
const INDENT: &str = "  ";

/// Blank columns behind each column of a table.
const GAP: usize = 2;

/// The longest line of a paragraph: fits every terminal, and is easy to read on a wide one.
const NOTE_COLUMNS: usize = 78;

/// What a command shows to a person, built part by part; parts are set apart by one blank line. On a terminal all of it is held
/// within the terminal's width, but for commands, which are to be copied; in a pipe lines of facts and tables are as long as they
/// need to be.
#[derive(Debug, Default)]
pub(crate) struct Page {
    parts: Vec<String>,
    /// Of the terminal.
    columns: Option<usize>,
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
        let page = Self::plain();
        let heading = page.filled(&heading.to_string());
        Self { parts: vec![paint(Tone::Heading, heading).to_string()], ..page }
    }

    /// A page that begins without one.
    pub(crate) fn plain() -> Self {
        Self { parts: Vec::new(), columns: columns() }
    }

    /// A page that is a text as it stands, such as a file's.
    pub(crate) fn verbatim(text: &str) -> Self {
        Self { parts: vec![printable(text.trim_end()).into_owned()], columns: None }
    }

    /// Adds labels and values, aligned.
    pub(crate) fn facts<L: AsRef<str>>(mut self, facts: impl IntoIterator<Item = (L, Cell)>) -> Self {
        let facts: Vec<(L, Cell)> = facts.into_iter().collect();
        let facts: Vec<_> = facts.iter().map(|(label, cell)| (label.as_ref(), cell)).collect();
        self.parts.push(labelled(&facts, self.columns));
        self
    }

    /// Adds a table.
    pub(crate) fn table<const N: usize>(
        mut self,
        headers: [&str; N],
        rows: impl IntoIterator<Item = [Cell; N]>,
    ) -> Self {
        self.parts.push(table(headers, rows.into_iter().collect(), self.columns));
        self
    }

    /// Adds a paragraph. Its lines are broken here, and where the text breaks them.
    pub(crate) fn note(self, text: impl Display) -> Self {
        self.toned_note(Tone::Plain, text)
    }

    /// Adds a paragraph of this tone.
    pub(crate) fn toned_note(mut self, tone: Tone, text: impl Display) -> Self {
        let columns = self.columns.map_or(NOTE_COLUMNS, |columns| columns.min(NOTE_COLUMNS));
        let text = textwrap::fill(&printable(&text.to_string()), by_words(columns));
        self.parts.push(paint(tone, text).to_string());
        self
    }

    /// Says that a list goes on after `limit` entries.
    pub(crate) fn more(self, limit: usize) -> Self {
        self.toned_note(Tone::Dim, format_args!("There are more than {limit}; --limit N lists more."))
    }

    /// Adds what to do next: a sentence and the commands that do it.
    pub(crate) fn next<C: Display>(mut self, what: &str, commands: impl IntoIterator<Item = C>) -> Self {
        let mut part = self.filled(what);
        for command in commands {
            part += &format!("\n{INDENT}{}", paint(Tone::Command, hints::command(&command.to_string())));
        }
        self.parts.push(part);
        self
    }

    /// A sentence that is one line where it fits.
    fn filled(&self, text: &str) -> String {
        let text = printable(text);
        match self.columns {
            Some(columns) => textwrap::fill(&text, by_words(columns)),
            None => text.into_owned(),
        }
    }
}

/// The columns of standard output, where that is a terminal.
fn columns() -> Option<usize> {
    let terminal = Term::stdout();
    let (_, columns) = terminal.size_checked().filter(|_| terminal.is_term())?;
    // Serial consoles often say that they have none at all.
    Some(usize::from(columns)).filter(|columns| *columns > 0)
}

/// Labels and values, the values in a column of their own, or below their label where a word has no place there. Lines are broken
/// between words.
fn labelled(facts: &[(&str, &Cell)], columns: Option<usize>) -> String {
    let label_columns = facts.iter().map(|(label, _)| label.chars().count()).max().unwrap_or_default();
    let beside = INDENT.len() + label_columns + GAP;
    let lines = facts.iter().filter(|(label, cell)| !(label.is_empty() && cell.text.is_empty()));
    let lines = lines.map(|(label, cell)| {
        let has_place =
            columns.is_none_or(|columns| longest_word(&cell.text) <= columns.saturating_sub(beside));
        let before = if has_place { beside } else { 2 * INDENT.len() };
        let place = columns.map_or(usize::MAX, |columns| columns.saturating_sub(before).max(1));
        let value = textwrap::wrap(&cell.text, by_words(place)).into_iter();
        let value = value.map(|line| paint(cell.tone, line).to_string()).collect::<Vec<_>>();
        let value = value.join(&format!("\n{:before$}", ""));
        if has_place {
            let label = paint(Tone::Dim, format!("{label:label_columns$}"));
            format!("{INDENT}{label}{:GAP$}{value}", "")
        } else {
            format!("{INDENT}{}\n{:before$}{value}", paint(Tone::Dim, label), "")
        }
    });
    lines.collect::<Vec<_>>().join("\n")
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
    let rows = rows.iter().map(|row| {
        let facts: Vec<_> = headers.into_iter().zip(row).collect();
        labelled(&facts, Some(columns))
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

    #[test]
    fn pages_fit_42_columns_but_for_commands() {
        let command = "pitstop rollout watch ro-0123456789abcdef0123456789abcdef";
        let page = || Page { columns: Some(42), ..Page::default() };
        let long = "Certificates of the old CA end on 2027-01-31, which is in 62 days";
        let text =
            plain(page().facts([("old certificates", Cell::from(long))]).note(long).next(long, [command]));
        let (commands, others): (Vec<_>, Vec<_>) = text.lines().partition(|line| line.contains(command));
        assert_eq!(commands.len(), 1, "{text}");
        assert!(others.iter().all(|line| line.len() <= 42), "{text}");
        assert!(
            text.starts_with("  old certificates  Certificates of the\n                    old CA end on\n"),
            "{text}"
        );
        let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(words.matches(long).count(), 3, "{text}");
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
