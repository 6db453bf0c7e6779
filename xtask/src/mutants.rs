//! `cargo xtask mutants`: faults that somebody could make, planted one at a time, each with the test that catches it.
//!
//! A test proves something only if it can fail. `xtask/mutants/` lists faults in the updater, the firmware, the formats,
//! rollouts and the server: the code that is right, the code with the fault, and the test that must fail with it. They are
//! planted in a copy of the repository.
//! A fault that no longer applies or does not compile is an error, and never counts as caught.

mod fault;
mod tree;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, bail};
use indicatif::{ProgressBar, ProgressStyle};

use fault::{Area, CaughtBy, Fault, Suite, TestId};
use tree::{Ran, Tree};

use crate::{process, tables};

/// Its table, and the page in docs/.
const PAGE: &str = "reliability.md";
const TABLE: &str = "mutants";

#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo xtask mutants                          every fault, each with its test
  cargo xtask mutants header-first no-erase    only these
  cargo xtask mutants no-erase --every-test    all tests of the package, and which of them fail
  cargo xtask mutants --write                  the table goes into docs/reliability.md")]
pub(crate) struct Arguments {
    /// Plant only these faults of xtask/mutants/
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// Plant the few that continuous integration plants
    #[arg(long, conflicts_with = "names")]
    quick: bool,
    /// Run all tests of the package and show every one that fails: to find the test that catches a new fault
    #[arg(long)]
    every_test: bool,
    /// Write the table into docs/reliability.md
    #[arg(long, conflicts_with_all = ["names", "quick", "every_test"])]
    write: bool,
}

impl Arguments {
    /// What continuous integration plants.
    pub(crate) fn quick() -> Self {
        Self { names: Vec::new(), quick: true, every_test: false, write: false }
    }

    fn wants(&self, fault: &Fault) -> bool {
        match self.quick {
            true => fault.quick,
            false => self.names.is_empty() || self.names.contains(&fault.name),
        }
    }
}

/// What became of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fate {
    /// Its test fails.
    Caught,
    /// Its test does not end.
    Hangs,
    /// Its test passes.
    Survived,
    /// It could not be planted or built, or its test is not there.
    Error,
}

/// Plants the faults.
///
/// Errors: a fault survived, could not be planted, or does not compile; a test fails without any fault.
pub(crate) fn run_mutants(root: &Path, arguments: &Arguments) -> anyhow::Result<()> {
    let areas = fault::load(root)?;
    let all = || areas.iter().flat_map(|area| &area.faults);
    if let Some(name) = arguments.names.iter().find(|name| !all().any(|fault| fault.name == **name)) {
        bail!("expected the name of a fault in xtask/mutants/, found {name:?}");
    }
    let faults: Vec<_> = all().filter(|fault| arguments.wants(fault)).collect();
    let start = Instant::now();
    let tree = Tree::of(root)?;
    if arguments.every_test {
        return faults.iter().try_for_each(|fault| every_test(&tree, fault));
    }
    check_without_faults(&tree, &faults)?;

    let mut fates = BTreeMap::new();
    let bar = progress("faults", faults.len())?;
    for fault in &faults {
        bar.set_message(fault.name.clone());
        let planted = Instant::now();
        let (fate, words) = tree
            .with_fault(fault, || try_fault(&tree, fault))
            .unwrap_or_else(|error| (Fate::Error, format!("{error:#}")));
        let (name, time) = (&fault.name, planted.elapsed().as_secs_f64());
        bar.suspend(|| println!("{:<8} {name:<34} {time:>5.1} s  {words}", fate.word()));
        fates.insert(name.as_str(), fate);
        bar.inc(1);
    }
    bar.finish_and_clear();

    let count = |wanted| fates.values().filter(|fate| **fate == wanted).count();
    println!(
        "\n{} faults in {:.0} s: {} caught, {} by a test that does not end, {} survived, {} not planted",
        faults.len(),
        start.elapsed().as_secs_f64(),
        count(Fate::Caught) + count(Fate::Hangs),
        count(Fate::Hangs),
        count(Fate::Survived),
        count(Fate::Error),
    );
    if count(Fate::Survived) + count(Fate::Error) > 0 {
        bail!("not every fault is caught, see above; `--every-test` shows whether another test catches it");
    }
    if arguments.write {
        let date = process::read(Command::new("date").arg("+%Y-%m-%d"))?;
        tables::write(root, PAGE, TABLE, &table(&areas, &date, |name| fates.get(name).copied()))?;
    }
    Ok(())
}

/// What becomes of a fault that is in the copy, and what to say of it.
fn try_fault(tree: &Tree, fault: &Fault) -> anyhow::Result<(Fate, String)> {
    let by = &fault.caught_by;
    let survived = || (Fate::Survived, format!("{by} passes with it"));
    Ok(match by {
        CaughtBy::Test(test) => match tree.run(test)? {
            Ran::Failed(_) | Ran::Died => (Fate::Caught, format!("by {by}")),
            Ran::DidNotEnd => (Fate::Hangs, format!("{by} does not end")),
            Ran::Passed => survived(),
        },
        CaughtBy::Lab(check) => match (tree.ask(*check)?, &fault.says) {
            (Some(answer), Some(expected)) if !answer.contains(expected) => {
                (Fate::Survived, format!("{by} fails, and does not say {expected:?}: {answer}"))
            }
            (Some(answer), _) => {
                (Fate::Caught, format!("by {by}: {}", answer.lines().next().unwrap_or_default()))
            }
            (None, _) => survived(),
        },
    })
}

impl Fate {
    fn word(self) -> &'static str {
        match self {
            Self::Caught => "caught",
            Self::Hangs => "hangs",
            Self::Survived => "SURVIVED",
            Self::Error => "ERROR",
        }
    }
}

/// The tests must pass as long as there is no fault, or what they say of one means nothing.
fn check_without_faults(tree: &Tree, faults: &[&Fault]) -> anyhow::Result<()> {
    let mut packages = BTreeMap::<&str, BTreeSet<&TestId>>::new();
    let mut checks = BTreeSet::new();
    for fault in faults {
        match &fault.caught_by {
            CaughtBy::Test(test) => {
                packages.entry(&test.package).or_default().insert(test);
            }
            CaughtBy::Lab(check) => {
                checks.insert(*check);
            }
        }
    }
    let bar = progress("without", packages.len() + checks.len())?;
    let mut broken = Vec::new();
    for check in checks {
        bar.set_message(format!("lab {}", check.name()));
        if let Some(answer) = tree.ask(check)? {
            broken.push(format!("`lab {}` fails without any fault: {answer}", check.name()));
        }
        bar.inc(1);
    }
    for (package, tests) in packages {
        bar.set_message(format!("the tests of {package}"));
        let programs = tree.build(package, &tests.iter().map(|test| test.suite.clone()).collect())?;
        for test in tests {
            let program = programs.iter().find(|program| program.suite == test.suite);
            let program = program.with_context(|| format!("expected the tests of `{test}`"))?;
            match program.run(Some(&test.name)) {
                Ok(Ran::Passed) => {}
                Ok(Ran::Failed(_) | Ran::Died | Ran::DidNotEnd) => {
                    broken.push(format!("`{test}` fails without any fault"));
                }
                Err(error) => broken.push(format!("`{test}`: {error:#}")),
            }
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    if !broken.is_empty() {
        bail!("these tests show nothing:\n{}", broken.join("\n"));
    }
    Ok(())
}

/// Plants a fault and shows every test of the package that fails.
fn every_test(tree: &Tree, fault: &Fault) -> anyhow::Result<()> {
    println!("\n{}: {}", fault.name, fault.means);
    let CaughtBy::Test(TestId { package, .. }) = &fault.caught_by else {
        bail!(
            "{} is in the firmware, which has no tests of its own; run it without --every-test",
            fault.name
        );
    };
    tree.with_fault(fault, || {
        for program in tree.build(package, &BTreeSet::new())? {
            let binary = match &program.suite {
                Suite::Unit => package.clone(),
                Suite::Integration(target) => format!("{package}::{target}"),
            };
            match program.run(None)? {
                Ran::Passed => {}
                Ran::Failed(names) => names.iter().for_each(|name| println!("  {binary} {name}")),
                Ran::Died => println!("  {binary} dies"),
                Ran::DidNotEnd => println!("  {binary} does not end"),
            }
        }
        Ok(())
    })
}

fn progress(prefix: &'static str, length: usize) -> anyhow::Result<ProgressBar> {
    let style = ProgressStyle::with_template("{prefix:<12} {bar:30} {pos}/{len} {eta:>5} {msg}")?;
    Ok(ProgressBar::new(length as u64).with_style(style).with_prefix(prefix))
}

/// The faults as Markdown, a table for each area.
fn table(areas: &[Area], date: &str, fate: impl Fn(&str) -> Option<Fate>) -> Vec<String> {
    let count: usize = areas.iter().map(|area| area.faults.len()).sum();
    let mut lines = vec![format!("On {date}: {count} faults, all of them caught.")];
    for Area { title, faults } in areas {
        lines.extend([String::new(), format!("### {title}"), String::new()]);
        lines.extend(
            ["| fault | what it is | file | caught by |", "| --- | --- | --- | --- |"].map(String::from),
        );
        for fault in faults {
            let how = if fate(&fault.name) == Some(Fate::Hangs) { DOES_NOT_END } else { "" };
            lines.push(format!("{}{how} |", row(fault)));
        }
    }
    lines
}

/// A fault's row, up to its end.
fn row(Fault { name, means, file, caught_by, .. }: &Fault) -> String {
    format!("| `{name}` | {means} | `{file}` | `{caught_by}`")
}

/// Of a fault with which its test goes on for ever.
const DOES_NOT_END: &str = ", which does not end";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repository_root;

    fn faults() -> Vec<Fault> {
        fault::load(repository_root()).unwrap().into_iter().flat_map(|area| area.faults).collect()
    }

    /// Whoever changes such code says where its fault belongs now.
    #[test]
    fn every_fault_applies_to_the_code_as_it_is() {
        for fault in faults() {
            let source = std::fs::read_to_string(repository_root().join(&fault.file)).unwrap();
            fault.planted(&source).unwrap_or_else(|error| panic!("{}: {error}", fault.name));
        }
    }

    #[test]
    fn faults_have_names_of_their_own_and_a_few_are_quick() {
        let names: BTreeSet<_> = faults().into_iter().map(|fault| fault.name).collect();
        assert_eq!(names.len(), faults().len());
        let quick = faults().iter().filter(|fault| fault.quick).count();
        assert!((4..=8).contains(&quick), "{quick} faults are planted in continuous integration");
    }

    #[test]
    fn the_report_lists_these_faults() {
        let text = include_str!("../../docs/reliability.md");
        let (_, found, _) = tables::split(text, TABLE).unwrap();
        let is_row = |line: &&str| line.starts_with("| `");
        let found: Vec<_> = found.lines().filter(is_row).map(|line| line.replace(DOES_NOT_END, "")).collect();
        let expected: Vec<_> = faults().iter().map(|fault| format!("{} |", row(fault))).collect();
        assert_eq!(found, expected, "run `cargo xtask mutants --write`");
    }

    #[test]
    fn a_fault_that_does_not_apply_is_an_error() {
        let mut fault = faults().remove(0);
        (fault.find, fault.plant) = ("a == b".to_owned(), "true".to_owned());
        assert_eq!(fault.planted("if a == b {}").unwrap(), "if true {}");
        for source in ["if a != b {}", "if a == b && a == b {}"] {
            let error = fault.planted(source).unwrap_err().to_string();
            assert!(error.contains("expected this code once"), "{error}");
        }
        fault.plant.clone_from(&fault.find);
        assert!(fault.planted("if a == b {}").is_err(), "nothing would be planted");
    }
}
