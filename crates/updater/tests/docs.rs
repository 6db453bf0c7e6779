//! What the documents say against what the code does.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::path::Path;

use updater::limits;
use updater::policy::{self, FailureClass};
use wire::Reason;

const RECOVERY: &str = include_str!("../../../docs/recovery.md");
const STATE_SOURCE: &str = include_str!("../src/state/mod.rs");

/// The rows of the table below a heading of the document, each as its cells.
fn table(heading: &str) -> Vec<Vec<&'static str>> {
    let section = RECOVERY.split("\n## ").find(|section| section.starts_with(heading));
    let section = section.unwrap_or_else(|| panic!("docs/recovery.md has no section {heading:?}"));
    let cells = |line: &'static str| line.trim_matches('|').split('|').map(str::trim).collect();
    let rows: Vec<_> = section.lines().filter(|line| line.starts_with('|')).skip(2).map(cells).collect();
    assert!(!rows.is_empty(), "docs/recovery.md has no table below {heading:?}");
    rows
}

fn written(class: FailureClass) -> &'static str {
    match class {
        FailureClass::None => "journal: the floor; vault: outcome, time floor, record",
        FailureClass::Release | FailureClass::Application => "vault: outcome, unless it is there already",
        FailureClass::Device => "journal: one entry",
        FailureClass::Network | FailureClass::Circumstances => "nothing",
    }
}

#[test]
fn the_table_of_failure_classes_is_that_of_the_policy() {
    let row = |&reason: &Reason| {
        let class = policy::failure_class(reason);
        let chunk = if policy::worth_another_try(reason) { "tried again" } else { "ends the install" };
        vec![format!("`{}`", reason.name()), format!("{class:?}"), written(class).into(), chunk.into()]
    };
    let expected: Vec<_> = Reason::ALL.iter().map(row).collect();
    assert_eq!(table("Failure classes"), expected);
}

#[test]
fn the_table_of_limits_is_that_of_the_code() {
    let expected = [
        ("BUDGET_MS", limits::BUDGET_MS),
        ("BUDGET_WITHOUT_APP_MS", limits::BUDGET_WITHOUT_APP_MS),
        ("SURVEY_MS", limits::SURVEY_MS),
        ("NETWORK_MS", limits::NETWORK_MS),
        ("JOIN_MS", limits::JOIN_MS),
        ("EXCHANGE_MS", limits::EXCHANGE_MS),
        ("EXCHANGE_LEAST_MS", limits::EXCHANGE_LEAST_MS),
        ("REPORT_MS", limits::REPORT_MS),
        ("CHUNK_MS", limits::CHUNK_MS),
        ("SILENCE_MS", limits::SILENCE_MS),
        ("INSTALL_WITH_APP_MS", limits::INSTALL_WITH_APP_MS),
        ("CHUNK_TRIES", limits::CHUNK_TRIES.into()),
        ("CHUNK_RETRY_MS", limits::CHUNK_RETRY_MS),
        ("BACKOFF_MS", limits::BACKOFF_MS),
        ("BACKOFF_MAX_MS", limits::BACKOFF_MAX_MS),
        ("ASKED_MAX_MS", limits::ASKED_MAX_MS),
        ("CRASHES", limits::CRASHES.into()),
        ("HAND_OVER_FAILURES", limits::HAND_OVER_FAILURES.into()),
        ("TIME_FLOOR_STEP_S", limits::TIME_FLOOR_STEP_S),
        ("TIME_FLOOR_MARGIN_S", limits::TIME_FLOOR_MARGIN_S),
    ];
    let documented: Vec<_> =
        table("Limits").into_iter().map(|row| [row[0], row[1]].map(String::from)).collect();
    assert_eq!(documented, expected.map(|(name, value)| [format!("`{name}`"), value.to_string()]));
    // A limit that is added must be documented too.
    let declared =
        include_str!("../src/limits.rs").lines().filter(|line| line.starts_with("pub const")).count();
    assert_eq!(declared, expected.len());
}

#[test]
fn the_table_of_waits_is_that_of_the_policy() {
    for row in table("Backoff") {
        let failures: u8 = row[0].parse().unwrap();
        let wait_ms = |jitter| policy::backoff_ms(failures, None, jitter).to_string();
        assert_eq!([row[1], row[2]], [wait_ms(0), wait_ms(u32::MAX)], "after {failures} failures");
    }
}

/// STYLE 3: the diagram above the enum names every state.
#[test]
fn the_diagram_names_every_state() {
    let (above, rest) = STATE_SOURCE.split_once("pub enum State {").unwrap();
    let diagram = above.rsplit("```").nth(1).unwrap();
    let (body, _) = rest.split_once("\n}").unwrap();
    // Variants stand four spaces deep and begin with a capital; fields and comments do not.
    let names: Vec<_> = body
        .lines()
        .filter_map(|line| line.strip_prefix("    "))
        .filter(|line| line.starts_with(|first: char| first.is_ascii_uppercase()))
        .map(|line| line.split(|end: char| !end.is_ascii_alphanumeric()).next().unwrap())
        .collect();
    assert!(names.len() > 10 && names.contains(&"Done"), "the enum was not found: {names:?}");
    let words: Vec<_> = diagram.split(|end: char| !end.is_ascii_alphanumeric()).collect();
    for name in names {
        assert!(words.contains(&name), "the diagram above `enum State` does not name {name}");
    }
}

/// Documents name tests as `file`: `test`, `test`; each must be a function of that file.
#[test]
fn tests_named_in_the_documents_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut named = 0;
    for document in
        ["fault-model.md", "flash.md", "protocol.md", "recovery.md", "reliability.md", "threat-model.md"]
    {
        let text = std::fs::read_to_string(root.join("docs").join(document)).unwrap();
        let mut file = None;
        // Odd parts stand between backquotes, even ones around them.
        for (index, part) in text.split('`').enumerate() {
            let is_code = index % 2 == 1;
            let is_name =
                part.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
            match file {
                _ if is_code && part.starts_with("crates/") && part.ends_with(".rs") => {
                    let source = std::fs::read_to_string(root.join(part));
                    file = Some((
                        part,
                        source.unwrap_or_else(|error| panic!("{document} names {part}: {error}")),
                    ));
                }
                Some((path, ref source)) if is_code && is_name => {
                    assert!(source.contains(&format!("fn {part}(")), "{document}: no `{part}` in {path}");
                    named += 1;
                }
                Some(_) if !is_code && matches!(part.trim(), ":" | ",") => {}
                _ => file = None,
            }
        }
    }
    assert!(named > 50, "only {named} tests were found in the documents");
}
