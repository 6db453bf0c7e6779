//! `cargo xtask campaign`: everything that can go wrong on a device or on the server, and whether docs/fault-model.md's promise holds.
//!
//! Without options it runs every case once, and where there is no end of cases a sample. With `--hours` it goes on with
//! other samples until the time is over. A case in which the promise does not hold is named; `--replay` runs it again and
//! prints all that happens.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::bail;
use indicatif::{ProgressBar, ProgressStyle};
use sim::campaign::{Batch, Outcome, Part, Size, Tally, plan, replay, run};

use crate::{server_campaign, tables};

/// The page in docs/ with the tables.
const PAGE: &str = "reliability.md";

#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo xtask campaign                       every case once
  cargo xtask campaign --only power --write  only cuts of power; the table goes into docs/reliability.md
  cargo xtask campaign --only server         the server: killed, its disk full, its database away, attacked (15 min)
  cargo xtask campaign --hours 8             samples until morning
  cargo xtask campaign --replay power:4mb:install:cut=12:tear=bits:seed=7")]
pub(crate) struct Arguments {
    /// Run one case again and print its event log
    #[arg(long, value_name = "CASE", conflicts_with_all = ["hours", "only", "quick", "seed", "write"])]
    replay: Option<String>,
    /// Go on with other samples for this many hours
    #[arg(long)]
    hours: Option<f64>,
    /// Run only these parts; may be given more than once
    #[arg(long, value_name = "PART", value_parser = part_names())]
    only: Vec<String>,
    /// The sample that continuous integration runs
    #[arg(long)]
    quick: bool,
    /// Where random samples begin; printed when it is not given
    #[arg(long)]
    seed: Option<u64>,
    /// Write the tables of a run without --quick into docs/reliability.md
    #[arg(long, conflicts_with = "quick")]
    write: bool,
}

/// Runs the campaigns.
///
/// Errors: the promise does not hold in some case.
pub(crate) fn run_campaigns(root: &Path, arguments: &Arguments) -> anyhow::Result<()> {
    if let Some(case) = &arguments.replay {
        return replayed(case);
    }
    let seed = arguments.seed.unwrap_or_else(|| match arguments.write {
        // The tables are for one seed.
        true => 1,
        false => SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |since| since.as_secs()),
    });
    let size = if arguments.quick { Size::Quick } else { Size::Whole };
    let wanted =
        |part: &Part| arguments.only.is_empty() || arguments.only.iter().any(|name| name == part.name());
    let parts: Vec<_> = Part::ALL.into_iter().filter(wanted).collect();
    // The gate runs its quick part among the server's tests.
    let server = !arguments.quick
        && (arguments.only.is_empty() || arguments.only.iter().any(|name| name == server_campaign::NAME));
    let end = arguments.hours.map(|hours| Instant::now() + Duration::from_secs_f64(hours * 3600.0));
    println!("seed {seed}");

    let start = Instant::now();
    let (mut cases, mut broken) = (0, 0);
    for round in 0.. {
        for part in &parts {
            let rows = run_part(*part, size, seed.wrapping_add(round), end)?;
            cases += rows.iter().map(|row| row.tally.cases).sum::<usize>();
            broken += rows.iter().map(|row| row.tally.broken.len()).sum::<usize>();
            if arguments.write {
                tables::write(root, PAGE, part.name(), &table(&rows))?;
            }
        }
        if server {
            let report = server_campaign::run(root, seed.wrapping_add(round))?;
            cases += report.cases();
            if arguments.write {
                report.write(root, PAGE)?;
            }
        }
        if end.is_none_or(|end| Instant::now() >= end) {
            break;
        }
    }
    println!("\n{cases} cases in {:.0} s, {broken} broken", start.elapsed().as_secs_f64());
    if broken > 0 {
        bail!("the promise of docs/fault-model.md does not hold in {broken} cases, see above");
    }
    Ok(())
}

struct Row {
    name: String,
    operations: Option<usize>,
    tally: Tally,
}

fn run_part(part: Part, size: Size, seed: u64, end: Option<Instant>) -> anyhow::Result<Vec<Row>> {
    let batches = plan(part, size, seed)?;
    let style = ProgressStyle::with_template("{prefix:<12} {bar:30} {pos}/{len} {eta:>5} {msg}")?;
    let bar = ProgressBar::new(batches.iter().map(|batch| batch.cases() as u64).sum()).with_style(style);
    bar.set_prefix(part.name());
    let mut rows = Vec::new();
    for batch in &batches {
        bar.set_message(batch.name.clone());
        let tally = run(batch, || {
            bar.inc(1);
            end.is_none_or(|end| Instant::now() < end)
        })?;
        for (case, broken) in &tally.broken {
            bar.suspend(|| println!("BROKEN {broken}\n       cargo xtask campaign --replay {case}"));
        }
        let Batch { name, operations, .. } = batch;
        rows.push(Row { name: name.clone(), operations: *operations, tally });
    }
    bar.finish_and_clear();
    println!("\n{}", table(&rows).join("\n"));
    Ok(rows)
}

/// The rows of a part as Markdown.
fn table(rows: &[Row]) -> Vec<String> {
    let has_operations = rows.iter().any(|row| row.operations.is_some());
    let mut lines = match has_operations {
        true => vec![
            "| start | flash operations | cases | target at the 1st start | at the 2nd | later | broken |"
                .to_owned(),
            "| --- | --- | --- | --- | --- | --- | --- |".to_owned(),
        ],
        false => vec![
            "| devices | cases | target at the 1st start | at the 2nd | later | no more promised | broken |"
                .to_owned(),
            "| --- | --- | --- | --- | --- | --- | --- |".to_owned(),
        ],
    };
    for Row { name, operations, tally: Tally { cases, starts, application, broken } } in rows {
        let (first, second, later) = by_start(starts);
        let broken = broken.len();
        lines.push(match operations {
            Some(operations) => {
                format!("| {name} | {operations} | {cases} | {first} | {second} | {later} | {broken} |")
            }
            None => format!("| {name} | {cases} | {first} | {second} | {later} | {application} | {broken} |"),
        });
    }
    lines
}

fn by_start(starts: &BTreeMap<usize, usize>) -> (usize, usize, usize) {
    let count = |number| starts.get(&number).copied().unwrap_or(0);
    (count(1), count(2), starts.range(3..).map(|(_, count)| count).sum())
}

fn replayed(case: &str) -> anyhow::Result<()> {
    let (outcome, lines) = replay(case)?;
    for line in lines {
        println!("{line}");
    }
    match outcome {
        Outcome::Target { starts } => println!("\nthe promise holds; at the target after {starts} starts"),
        Outcome::Application => println!("\nno more than this is promised after such a fault, and it holds"),
        Outcome::Broken(broken) => bail!("the promise does not hold: {broken}"),
    }
    Ok(())
}

fn part_names() -> Vec<&'static str> {
    Part::ALL.map(Part::name).into_iter().chain([server_campaign::NAME]).collect()
}
