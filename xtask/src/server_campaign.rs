//! The part `server` of `cargo xtask campaign`: the server's tests that let something happen to it under load, with more
//! rounds than the gate has, on SQLite and local files and on PostgreSQL and S3.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;

use crate::backends::{self, Backends, Tools};

/// The name of the part.
pub(crate) const NAME: &str = "server";

/// What a test prints before its figures, which are JSON.
const FIGURES: &str = "figures: ";

/// Tests: what stands in the table, name, rounds, whether on PostgreSQL and S3.
const TESTS: [(&str, &str, u32, bool); 5] = [
    ("`kill -9`, SQLite", "faults::kill::nothing_acknowledged_is_lost_by_kill_9", 25, false),
    (
        "`kill -9` of one of two, PostgreSQL and S3",
        "faults::kill::killing_one_of_two_instances_loses_nothing",
        25,
        true,
    ),
    (
        "PostgreSQL away",
        "faults::database::a_postgres_database_that_goes_away_and_comes_back_loses_nothing",
        5,
        false,
    ),
    ("SQLite locked", "faults::database::an_sqlite_database_that_is_locked_is_told_and_waited_for", 1, false),
    ("disk full", "faults::disk::a_full_disk_is_told_and_loses_nothing", 1, false),
];

/// What a test put to the test.
pub(crate) struct Row {
    what: &'static str,
    figures: [u64; 5],
}

/// Runs all of it once.
///
/// Errors: something acknowledged is lost, something is there by half, or somebody waited too long.
pub(crate) fn run(root: &Path, seed: u64) -> anyhow::Result<Vec<Row>> {
    let tools = backends::find().map_err(|missing| anyhow!(missing.0))?;
    if !tools.has_small_disk() {
        bail!("{}", backends::NO_SMALL_DISK);
    }
    let backends = Backends::start(&tools)?;
    let style = ProgressStyle::with_template("{prefix:<12} {bar:30} {pos}/{len} {elapsed:>5} {msg}")?;
    let bar = ProgressBar::new(TESTS.len() as u64).with_style(style);
    bar.set_prefix(NAME);
    bar.enable_steady_tick(Duration::from_secs(1));
    let mut rows = Vec::new();
    for (what, test, rounds, shared) in TESTS {
        bar.set_message(what);
        let figures = run_test(root, &tools, shared.then_some(&backends), test, rounds, seed).with_context(|| {
            format!(
                "{what}: seed {seed}; again with more output: cargo xtask campaign --only {NAME} --seed {seed}"
            )
        })?;
        rows.push(Row { what, figures });
        bar.inc(1);
    }
    bar.finish_and_clear();
    println!("\n{}", table(&rows).join("\n"));
    Ok(rows)
}

fn run_test(
    root: &Path,
    tools: &Tools,
    backends: Option<&Backends>,
    test: &str,
    rounds: u32,
    seed: u64,
) -> anyhow::Result<[u64; 5]> {
    let mut command = Command::new("cargo");
    command
        .current_dir(root)
        .args(["test", "--quiet", "--locked", "--package", "server", "--test", "it", "--"])
        .args(["--exact", test, "--include-ignored", "--nocapture"])
        .env("PITSTOP_TEST_SEED", seed.to_string())
        .env("PITSTOP_TEST_ROUNDS", rounds.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    tools.tell(&mut command);
    if let Some(backends) = backends {
        backends.tell(&mut command);
    }
    let mut child = command.spawn().context("cannot start cargo")?;
    let errors = child.stderr.take().context("no standard error")?;
    let errors = std::thread::spawn(move || std::io::read_to_string(errors).unwrap_or_default());
    let output = BufReader::new(child.stdout.take().context("no standard output")?);
    let mut figures = None;
    for line in output.lines() {
        if let Some(json) = line?.strip_prefix(FIGURES) {
            figures = Some(serde_json::from_str::<Value>(json)?);
        }
    }
    let status = child.wait()?;
    let errors = errors.join().unwrap_or_default();
    if !status.success() {
        bail!("{test} failed:\n{errors}");
    }
    let figures = figures.with_context(|| format!("{test} printed no figures"))?;
    let figure =
        |name: &str| figures[name].as_u64().with_context(|| format!("{test}: no {name} in {figures}"));
    Ok([
        figure("faults")?,
        figure("acknowledged")?,
        figure("refused")?,
        figure("unanswered")?,
        figure("slowest_ms")?,
    ])
}

/// How many faults there were.
pub(crate) fn faults(rows: &[Row]) -> usize {
    rows.iter().map(|row| usize::try_from(row.figures[0]).unwrap_or_default()).sum()
}

/// The rows as Markdown. A test that loses something fails, so that what is listed lost nothing.
pub(crate) fn table(rows: &[Row]) -> Vec<String> {
    let mut lines = vec![
        "| fault | faults | acknowledged | refused | unanswered | slowest answer (ms) | lost | by half |"
            .to_owned(),
        "| --- | --- | --- | --- | --- | --- | --- | --- |".to_owned(),
    ];
    for Row { what, figures: [faults, acknowledged, refused, unanswered, slowest_ms] } in rows {
        lines.push(format!(
            "| {what} | {faults} | {acknowledged} | {refused} | {unanswered} | {slowest_ms} | 0 | 0 |"
        ));
    }
    lines
}
