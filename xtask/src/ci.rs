//! `cargo xtask ci`: the whole gate, one step after the other.
//!
//! It stops at the first step that fails and prints how to run that step alone. At the end a table shows every step
//! with its result and time. A step that cannot run here (no toolchain for the chip, no history, no advisory data) is
//! shown as SKIPPED with the reason, never as passed. With `CI=true` in the environment, as continuous integration
//! services set it, a missing tool is a failure: there nobody reads the table.

mod steps;

use std::path::Path;
use std::time::{Duration, Instant};
use std::{env, fs};

use anyhow::{Context as _, bail};

use steps::STEPS;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Run only these steps; may be given more than once
    #[arg(long, value_name = "STEP", value_parser = step_names())]
    only: Vec<String>,
}

/// One step of the gate.
struct Step {
    /// As `--only` takes it.
    name: &'static str,
    run: fn(&Gate<'_>) -> anyhow::Result<Outcome>,
}

/// What the steps need to know.
struct Gate<'a> {
    root: &'a Path,
    /// `CI=true`: what is missing must not be skipped.
    strict: bool,
}

/// Result of a step that did not fail.
enum Outcome {
    Passed,
    /// Could not run, or not wholly; the reason.
    Skipped(String),
}

impl Gate<'_> {
    /// Removes what a step has built that no other step uses. A service's disk is small and thrown away; a person builds again
    /// tomorrow.
    ///
    /// Errors: it cannot be removed.
    fn discard(&self, folder: &str) -> anyhow::Result<()> {
        let folder = self.root.join(folder);
        if self.strict && folder.exists() {
            fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
        }
        Ok(())
    }

    /// A tool is missing: skips the step on a person's machine, fails it on a CI machine.
    fn missing(&self, reason: String) -> anyhow::Result<Outcome> {
        if self.strict {
            bail!("{reason}\n(CI=true: a missing tool fails the gate)");
        }
        Ok(Outcome::Skipped(reason))
    }
}

/// Runs the steps in their order.
///
/// Errors: the first step that failed, and the command that runs it again.
pub(crate) fn run(root: &Path, arguments: &Arguments) -> anyhow::Result<()> {
    let gate = Gate { root, strict: env::var_os("CI").is_some_and(|value| value == "true") };
    let wanted =
        |step: &&Step| arguments.only.is_empty() || arguments.only.iter().any(|name| name == step.name);
    let steps = STEPS.iter().filter(wanted).collect::<Vec<_>>();

    let mut rows = Vec::new();
    let mut failure = None;
    let begin = Instant::now();
    for (index, step) in steps.iter().enumerate() {
        let at_s = begin.elapsed().as_secs();
        println!("\n==> [{}/{}] {} (at {at_s} s)", index + 1, steps.len(), step.name);
        let start = Instant::now();
        let result = (step.run)(&gate);
        let time = start.elapsed();
        match result {
            Ok(Outcome::Passed) => rows.push(row(step.name, "ok", time)),
            Ok(Outcome::Skipped(reason)) => {
                println!("SKIPPED {}: {reason}", step.name);
                // A reason may have many lines; the table shows the first, the log above shows all.
                let first = reason.lines().next().unwrap_or_default();
                rows.push(row(step.name, &format!("SKIPPED: {first}"), time));
            }
            Err(error) => {
                rows.push(row(step.name, "FAILED", time));
                failure = Some((step.name, error));
                break;
            }
        }
    }

    println!("\n{:<16} {:>8}  result", "step", "time");
    for row in rows {
        println!("{row}");
    }
    for step in
        steps.iter().skip_while(|step| failure.as_ref().is_none_or(|(name, _)| step.name != *name)).skip(1)
    {
        println!("{:<16} {:>8}  not run", step.name, "");
    }
    match failure {
        None => Ok(()),
        Some((name, error)) => Err(error)
            .with_context(|| format!("step {name} failed, run it again with `cargo xtask ci --only {name}`")),
    }
}

fn row(name: &str, result: &str, time: Duration) -> String {
    format!("{name:<16} {:>6.1} s  {result}", time.as_secs_f64())
}

fn step_names() -> Vec<&'static str> {
    STEPS.iter().map(|step| step.name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_tool_is_skipped_by_a_person_and_fails_the_service() {
        let gate = |strict| Gate { root: Path::new("."), strict };
        assert!(matches!(gate(false).missing("no tool".into()), Ok(Outcome::Skipped(_))));
        assert!(gate(true).missing("no tool".into()).is_err());
    }

    #[test]
    fn what_only_one_step_uses_is_removed_by_the_service_alone() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("target/mutants/build");
        for strict in [false, true] {
            fs::create_dir_all(&folder).unwrap();
            let gate = Gate { root: root.path(), strict };
            gate.discard("target/mutants/build").unwrap();
            assert_eq!(folder.exists(), !strict);
            gate.discard("target/none").unwrap();
        }
    }

    #[test]
    fn step_names_are_unique() {
        let mut names = step_names();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), STEPS.len());
    }
}
