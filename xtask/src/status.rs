//! `cargo xtask status`: what was shown to work on which chip (docs/status.toml), as tables in the documents.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, ensure};
use serde::Deserialize;

/// Where the tables stand.
const DOCUMENTS: [&str; 2] = ["README.md", "docs/hardware.md"];
const BEGIN: &str = "<!-- status by chip, from docs/status.toml -->\n";
const END: &str = "<!-- end of status by chip -->";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Status {
    state: BTreeMap<String, State>,
    chip: Vec<Chip>,
    row: Vec<Row>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    /// What a cell in this state says.
    word: String,
    /// What that claims.
    criterion: String,
    /// Whether a cell must say what showed it.
    needs: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Chip {
    name: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    name: String,
    cells: Vec<Cell>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Cell {
    state: String,
    shown: Option<String>,
}

/// Writes the tables.
///
/// Errors: data that claims without saying what showed it; a document without the place for the table.
pub(crate) fn run(root: &Path) -> anyhow::Result<()> {
    let table = table(root)?;
    for document in DOCUMENTS {
        let path = root.join(document);
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {document}"))?;
        let (head, _, tail) = split(&text).with_context(|| document.to_owned())?;
        fs::write(&path, format!("{head}{table}{tail}"))
            .with_context(|| format!("cannot write {document}"))?;
    }
    Ok(())
}

/// The table, as the data has it.
fn table(root: &Path) -> anyhow::Result<String> {
    let text = fs::read_to_string(root.join("docs/status.toml")).context("cannot read docs/status.toml")?;
    render(&toml::from_str(&text).context("docs/status.toml")?)
}

fn render(status: &Status) -> anyhow::Result<String> {
    let mut lines = vec![
        format!(
            "| | {} |",
            status.chip.iter().map(|chip| chip.name.as_str()).collect::<Vec<_>>().join(" | ")
        ),
        format!("| --- |{}", " --- |".repeat(status.chip.len())),
    ];
    for Row { name, cells } in &status.row {
        let (expected, found) = (status.chip.len(), cells.len());
        ensure!(expected == found, "expected {expected} cells in {name:?}, found {found}");
        let cells: Vec<_> = cells
            .iter()
            .map(|cell| claim(status, cell).with_context(|| format!("{name:?}")))
            .collect::<Result<_, _>>()?;
        lines.push(format!("| {name} | {} |", cells.join(" | ")));
    }
    let legend = status.state.values().map(|State { word, criterion, .. }| format!("*{word}*: {criterion}"));
    lines.push(String::new());
    lines.push(legend.collect::<Vec<_>>().join(". ") + ".");
    Ok(lines.join("\n") + "\n")
}

fn claim(status: &Status, Cell { state, shown }: &Cell) -> anyhow::Result<String> {
    let State { word, needs, .. } =
        status.state.get(state).with_context(|| format!("the state {state:?} is not among those"))?;
    ensure!(*needs == shown.is_some(), "a cell says what showed it if its state needs that, and only then");
    Ok(shown.as_ref().map_or_else(|| word.clone(), |shown| format!("{word}: {shown}")))
}

/// What stands before, between and after the marks.
fn split(text: &str) -> anyhow::Result<(&str, &str, &str)> {
    let missing = || format!("expected a place between {:?} and {END:?}, found none", BEGIN.trim());
    let (head, rest) = text.split_once(BEGIN).with_context(missing)?;
    let (between, _) = rest.split_once(END).with_context(missing)?;
    let from = head.len() + BEGIN.len();
    Ok((&text[..from], between, &text[from + between.len()..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_are_those_of_the_data() {
        let root = crate::repository_root();
        let table = table(root).unwrap();
        for document in DOCUMENTS {
            let text = fs::read_to_string(root.join(document)).unwrap();
            let (_, between, _) = split(&text).unwrap();
            assert!(between == table, "{document}: `cargo xtask status` writes what docs/status.toml says");
        }
    }

    /// A command that showed something must be one that is there.
    #[test]
    fn commands_that_are_named_exist() {
        let root = crate::repository_root();
        let table = table(root).unwrap();
        let command = <crate::Arguments as clap::CommandFactory>::command();
        let mut named = 0;
        for shown in table.split('`').filter(|part| part.starts_with("cargo ")) {
            let words: Vec<_> = shown.split(' ').collect();
            named += 1;
            match words[..] {
                ["cargo", "xtask", name, ..] => assert!(command.find_subcommand(name).is_some(), "{shown}"),
                ["cargo", "test", "-p", package, ref rest @ ..] => {
                    let folder = root.join("crates").join(package);
                    assert!(folder.is_dir(), "{shown}");
                    if let ["--test", test] = rest {
                        assert!(folder.join(format!("tests/{test}.rs")).is_file(), "{shown}");
                    }
                }
                _ => panic!("not known how to check {shown}"),
            }
        }
        assert!(named > 10, "{named}");
    }

    #[test]
    fn a_claim_needs_what_showed_it() {
        let of = |cell: &str| {
            let text = format!(
                "state.run = {{ word = \"ran\", criterion = \"once\", needs = true }}\n\
                 state.missing = {{ word = \"no\", criterion = \"not there\", needs = false }}\n\
                 [[chip]]\nname = \"C3\"\n[[row]]\nname = \"Wi-Fi\"\ncells = [{cell}]"
            );
            render(&toml::from_str(&text).unwrap())
        };
        let table = of("{ state = \"run\", shown = \"`cargo xtask ci`\" }").unwrap();
        let legend = "*no*: not there. *ran*: once.";
        assert_eq!(
            table,
            format!("| | C3 |\n| --- | --- |\n| Wi-Fi | ran: `cargo xtask ci` |\n\n{legend}\n")
        );
        assert!(of("{ state = \"missing\" }").is_ok());
        for wrong in
            ["{ state = \"run\" }", "{ state = \"missing\", shown = \"x\" }", "{ state = \"silicon\" }", ""]
        {
            assert!(of(wrong).is_err(), "{wrong}");
        }
    }
}
