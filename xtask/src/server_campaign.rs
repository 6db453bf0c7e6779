//! The part `server` of `cargo xtask campaign`: the server's tests that let something happen to it under load, with more
//! rounds than the gate has, on SQLite and local files and on PostgreSQL and S3; and those that attack it, for longer than the
//! gate does and in a build that is optimised.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;

use crate::backends::{self, Backends, Tools};
use crate::tables;

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

/// The table of attacks on its page.
const ATTACKS_TABLE: &str = "server-attacks";

/// Seconds of an attack.
const ATTACK_SECONDS: u32 = 15;

/// Tests that attack a server: what stands in the table, and the name within `faults::attacks`.
const ATTACKS: [(&str, &str); 7] = [
    ("none", "honest_clients_alone"),
    ("one device: news, renewals, enrollments without end", "one_device_cannot_fill_the_disk"),
    ("4,096 connections without a certificate, of four addresses", "strangers_cannot_hold_all_connections"),
    ("5,120 logins without a body", "logins_without_a_body_hold_up_nobody"),
    ("handshakes that are none, 8 at a time", "strangers_cannot_fill_the_log"),
    ("handshakes past an address's connections", "an_address_past_its_connections_gets_no_handshake"),
    ("guesses at tokens: API, login, enrollment", "guesses_hold_up_nobody"),
];

/// What the tests put to the test.
pub(crate) struct Report {
    faults: Vec<Row>,
    attacks: Vec<Attack>,
}

/// A kind of fault.
struct Row {
    what: &'static str,
    figures: [u64; 5],
}

/// An attack, and who noticed it.
struct Attack {
    what: &'static str,
    attempts: u64,
    answered: u64,
    refused: u64,
    closed: u64,
    kept: u64,
    device_p99_ms: u64,
    operator_p99_ms: u64,
    database_bytes_per_min: u64,
    log_bytes_per_min: u64,
}

/// Runs all of it once.
///
/// Errors: something acknowledged is lost, something is there by half, or somebody waited too long.
pub(crate) fn run(root: &Path, seed: u64) -> anyhow::Result<Report> {
    let tools = backends::find().map_err(|missing| anyhow!(missing.0))?;
    if !tools.has_small_disk() {
        bail!("{}", backends::NO_SMALL_DISK);
    }
    let backends = Backends::start(&tools)?;
    let style = ProgressStyle::with_template("{prefix:<12} {bar:30} {pos}/{len} {elapsed:>5} {msg}")?;
    let bar = ProgressBar::new((TESTS.len() + ATTACKS.len()) as u64).with_style(style);
    bar.set_prefix(NAME);
    bar.enable_steady_tick(Duration::from_secs(1));
    let mut report = Report { faults: Vec::new(), attacks: Vec::new() };
    for (what, test, rounds, shared) in TESTS {
        bar.set_message(what);
        let run = Run { test, rounds, seed, is_optimised: false };
        let figures = run.run(root, &tools, shared.then_some(&backends)).and_then(|figures| fault(&figures));
        report.faults.push(Row { what, figures: figures.with_context(|| again(what, seed))? });
        bar.inc(1);
    }
    for (what, test) in ATTACKS {
        bar.set_message(what);
        let run = Run {
            test: &format!("faults::attacks::{test}"),
            rounds: ATTACK_SECONDS,
            seed,
            is_optimised: true,
        };
        let figures = run.run(root, &tools, None).and_then(|figures| attack(what, &figures));
        report.attacks.push(figures.with_context(|| again(what, seed))?);
        bar.inc(1);
    }
    bar.finish_and_clear();
    println!("\n{}\n\n{}", report.faults_table().join("\n"), report.attacks_table().join("\n"));
    Ok(report)
}

/// How to see more of what went wrong.
fn again(what: &str, seed: u64) -> String {
    format!("{what}: seed {seed}; again with more output: cargo xtask campaign --only {NAME} --seed {seed}")
}

/// One test in a process of its own.
struct Run<'a> {
    test: &'a str,
    rounds: u32,
    seed: u64,
    is_optimised: bool,
}

impl Run<'_> {
    /// The figures that it prints.
    fn run(&self, root: &Path, tools: &Tools, backends: Option<&Backends>) -> anyhow::Result<Value> {
        let test = self.test;
        let mut command = Command::new("cargo");
        command
            .current_dir(root)
            .args(["test", "--quiet", "--locked", "--package", "server", "--test", "it"])
            .args(self.is_optimised.then_some("--release"))
            .args(["--", "--exact", test, "--include-ignored", "--nocapture"])
            .env("PITSTOP_TEST_SEED", self.seed.to_string())
            .env("PITSTOP_TEST_ROUNDS", self.rounds.to_string())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        tools.tell(&mut command);
        if let Some(backends) = backends {
            backends.tell(&mut command);
        }
        figures_of(test, &mut command)
    }
}

/// The figures that a test prints, whose standard output and error are pipes.
pub(crate) fn figures_of(test: &str, command: &mut Command) -> anyhow::Result<Value> {
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
    figures.with_context(|| format!("{test} printed no figures"))
}

/// One of the figures.
pub(crate) fn figure(figures: &Value, name: &str) -> anyhow::Result<u64> {
    figures[name].as_u64().with_context(|| format!("no {name} in {figures}"))
}

fn fault(figures: &Value) -> anyhow::Result<[u64; 5]> {
    let figure = |name| figure(figures, name);
    Ok([
        figure("faults")?,
        figure("acknowledged")?,
        figure("refused")?,
        figure("unanswered")?,
        figure("slowest_ms")?,
    ])
}

fn attack(what: &'static str, figures: &Value) -> anyhow::Result<Attack> {
    let figure = |name| figure(figures, name);
    Ok(Attack {
        what,
        attempts: figure("attempts")?,
        answered: figure("answered")?,
        refused: figure("refused")?,
        closed: figure("closed")?,
        kept: figure("kept")?,
        device_p99_ms: figure("device_p99_ms")?,
        operator_p99_ms: figure("operator_p99_ms")?,
        database_bytes_per_min: figure("database_bytes_per_min")?,
        log_bytes_per_min: figure("log_bytes_per_min")?,
    })
}

impl Report {
    /// How many faults and attacks there were.
    pub(crate) fn cases(&self) -> usize {
        let faults = self.faults.iter().map(|row| usize::try_from(row.figures[0]).unwrap_or_default());
        faults.sum::<usize>() + self.attacks.len()
    }

    /// Writes both tables into their page.
    pub(crate) fn write(&self, root: &Path, page: &str) -> anyhow::Result<()> {
        tables::write(root, page, NAME, &self.faults_table())?;
        tables::write(root, page, ATTACKS_TABLE, &self.attacks_table())
    }

    /// As Markdown. A test that loses something fails, so that what is listed lost nothing.
    fn faults_table(&self) -> Vec<String> {
        let mut lines = vec![
            "| fault | faults | acknowledged | refused | unanswered | slowest answer (ms) | lost | by half |"
                .to_owned(),
            "| --- | --- | --- | --- | --- | --- | --- | --- |".to_owned(),
        ];
        for Row { what, figures: [faults, acknowledged, refused, unanswered, slowest_ms] } in &self.faults {
            lines.push(format!(
                "| {what} | {faults} | {acknowledged} | {refused} | {unanswered} | {slowest_ms} | 0 | 0 |"
            ));
        }
        lines
    }

    /// As Markdown.
    fn attacks_table(&self) -> Vec<String> {
        let mut lines = vec![
            "| attack | attempts | answered | refused | closed | kept | device p99 (ms) | operator p99 (ms) | \
             database (KiB/min) | log (bytes/min) |"
                .to_owned(),
            "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |".to_owned(),
        ];
        for attack in &self.attacks {
            let Attack { what, attempts, answered, refused, closed, kept, .. } = attack;
            let Attack { device_p99_ms, operator_p99_ms, log_bytes_per_min, .. } = attack;
            let database_kib_per_min = attack.database_bytes_per_min.div_ceil(1024);
            lines.push(format!(
                "| {what} | {attempts} | {answered} | {refused} | {closed} | {kept} | {device_p99_ms} | \
                 {operator_p99_ms} | {database_kib_per_min} | {log_bytes_per_min} |"
            ));
        }
        lines
    }
}
