//! What a start takes, exactly: instructions, operations on the flash, frames, memory. The table is in docs/performance.md.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use chip::Reset;

use super::Lab;
use super::phase::{Devices, Phase, Prepared};
use crate::tables;

const PAGE: &str = "performance.md";
const TABLE: &str = "counts";

/// By how much instructions may differ before somebody has to say so. Where the repository lies on a disk, and by which
/// patch level of the compiler it is built, moves functions, and a call that reaches is shorter than one that does not.
const TOLERANCE: f64 = 0.01;
/// The same for writes: which task runs first may make another key of the same random numbers, and a signature has 70 to 72
/// bytes, so that what is stored of a certificate takes an entry of the vault more or less.
const WRITES_TOLERANCE: u64 = 2;
/// The same for frames: an acknowledgement goes with the next segment or alone.
const FRAMES_TOLERANCE: u64 = 3;
/// The same for stack and heap. More is a change of the firmware.
const MEMORY_TOLERANCE_BYTES: u64 = 512;

/// One row.
#[derive(Clone, Debug, PartialEq)]
struct Row {
    name: &'static str,
    instructions: u64,
    time: Duration,
    requests: u32,
    frames: u64,
    erases: u64,
    writes: u64,
    stack_bytes: u32,
    heap_bytes: Option<u32>,
}

/// Counts, and compares with the table or writes it.
pub(super) fn run(root: &Path, devices: &Devices, record: bool) -> anyhow::Result<()> {
    let mut rows = Vec::new();
    for phase in Phase::ALL {
        let prepared = phase.prepare(devices)?;
        let mut lab = prepared.power_on(&devices.images)?;
        rows.push(count(phase.name(), &mut lab, &prepared)?);
        if phase == Phase::Idle {
            rows.insert(0, wake(&mut lab, &prepared)?);
        }
    }
    let lines = table(&rows);
    lines.iter().for_each(|line| println!("  {line}"));
    if record {
        return tables::write(root, PAGE, TABLE, &lines);
    }
    let text = tables::read(root, PAGE)?;
    let (_, recorded, _) = tables::split(&text, TABLE)?;
    compare(recorded, &rows)
}

/// From a wake out of deep sleep to the application, which is the same as the shortest of all starts.
fn wake(lab: &mut Lab<'_>, prepared: &Prepared) -> anyhow::Result<Row> {
    lab.chip.reset(Reset::DeepSleep);
    count("wake from deep sleep", lab, prepared)
}

fn count(name: &'static str, lab: &mut Lab<'_>, prepared: &Prepared) -> anyhow::Result<Row> {
    lab.chip.flash_mut().reset_stats();
    lab.chip.watch_stack(lab.images.stack.clone());
    let (instructions, time) = (lab.chip.instructions(), lab.chip.time());
    let requests = lab.server.state().all_requests();
    let network = lab.network.stats();
    let first_line = lab.console.len();
    lab.run_to(&prepared.app, prepared.slot.clone(), |_| Ok(()))?;
    let stats = lab.chip.flash().stats();
    let frames = lab.network.stats();
    let (lowest, pc) = lab.chip.lowest_stack();
    let stack_bytes = lab.images.stack.end - lowest;
    let deepest = lab.images.symbols.function(lab.images.elf, pc);
    println!("  {name}: the stack is deepest in {}", deepest.unwrap_or_else(|| format!("{pc:#010x}")));
    // What the updater finds by the words that it has not overwritten can only be less.
    if let Some(painted) = reported(&lab.console[first_line..], "stack: ")? {
        ensure!(
            painted <= stack_bytes,
            "the updater finds {painted} bytes of stack used, and it has used {stack_bytes}"
        );
    }
    Ok(Row {
        name,
        instructions: lab.chip.instructions() - instructions,
        time: lab.chip.time() - time,
        requests: lab.server.state().all_requests() - requests,
        frames: frames.frames_from_chip + frames.frames_to_chip
            - network.frames_from_chip
            - network.frames_to_chip,
        erases: stats.erases,
        writes: stats.writes,
        stack_bytes,
        heap_bytes: reported(&lab.console[first_line..], "heap: ")?,
    })
}

/// What the updater says of its own memory: `heap: 12345 bytes used at most of ...`.
fn reported(console: &[String], what: &str) -> anyhow::Result<Option<u32>> {
    let Some(text) = console.iter().rev().find_map(|line| line.split_once(what)) else { return Ok(None) };
    let number = text.1.split(' ').next().unwrap_or_default();
    let number = number
        .parse()
        .with_context(|| format!("expected a number of bytes after {what:?}, found {number:?}"))?;
    Ok(Some(number))
}

fn table(rows: &[Row]) -> Vec<String> {
    let mut lines = vec![
        "| start | instructions | time | requests | frames | erases | writes | stack | heap |".to_owned(),
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |".to_owned(),
    ];
    for row in rows {
        lines.push(format!(
            "| {} | {} | {:.2} s | {} | {} | {} | {} | {} | {} |",
            row.name,
            grouped(row.instructions),
            row.time.as_secs_f64(),
            row.requests,
            row.frames,
            row.erases,
            row.writes,
            grouped(row.stack_bytes.into()),
            row.heap_bytes.map_or_else(|| "-".to_owned(), |bytes| grouped(bytes.into())),
        ));
    }
    lines
}

/// Compares what was counted with what was recorded: all but the time.
fn compare(recorded: &str, rows: &[Row]) -> anyhow::Result<()> {
    let mut wrong = Vec::new();
    let recorded_rows = recorded.lines().filter(|line| line.starts_with("| ")).count().saturating_sub(2);
    if recorded_rows != rows.len() {
        wrong.push(format!("{recorded_rows} starts are recorded, {} were counted", rows.len()));
    }
    for row in rows {
        let Some(line) = recorded.lines().find(|line| line.starts_with(&format!("| {} |", row.name))) else {
            wrong.push(format!("no row of {}", row.name));
            continue;
        };
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        let number = |index: usize| {
            cells.get(index).map(|cell| cell.replace(',', "")).and_then(|cell| cell.parse::<u64>().ok())
        };
        let before = number(2).unwrap_or(0);
        #[allow(clippy::cast_precision_loss)]
        if (row.instructions.abs_diff(before)) as f64 > before as f64 * TOLERANCE {
            wrong.push(format!(
                "{}: {} instructions, {} before",
                row.name,
                grouped(row.instructions),
                grouped(before)
            ));
        }
        let operations = [
            ("requests", 4, u64::from(row.requests), 0),
            ("frames", 5, row.frames, FRAMES_TOLERANCE),
            ("erases", 6, row.erases, 0),
            ("writes", 7, row.writes, WRITES_TOLERANCE),
            ("bytes of stack", 8, row.stack_bytes.into(), MEMORY_TOLERANCE_BYTES),
            ("bytes of heap", 9, row.heap_bytes.unwrap_or(0).into(), MEMORY_TOLERANCE_BYTES),
        ];
        for (what, index, now, tolerance) in operations {
            // A start that tells nothing of its heap has no number there.
            let before = number(index).or((what == "bytes of heap").then_some(0));
            if before.is_none_or(|before| now.abs_diff(before) > tolerance) {
                wrong.push(format!("{}: {now} {what}, {:?} before", row.name, number(index)));
            }
        }
    }
    if !wrong.is_empty() {
        bail!(
            "not as docs/{PAGE} has it; if that is meant, `cargo xtask lab --only {TABLE} --record`:\n{}",
            wrong.join("\n")
        );
    }
    Ok(())
}

fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> Row {
        Row {
            name: "nothing new",
            instructions: 1_234_567,
            time: Duration::from_millis(1_230),
            requests: 1,
            frames: 20,
            erases: 0,
            writes: 0,
            stack_bytes: 9_000,
            heap_bytes: Some(40_000),
        }
    }

    #[test]
    fn a_row_is_compared_as_it_was_written() {
        let text = table(&[row()]).join("\n");
        assert!(
            text.contains("| nothing new | 1,234,567 | 1.23 s | 1 | 20 | 0 | 0 | 9,000 | 40,000 |"),
            "{text}"
        );
        compare(&text, &[row()]).unwrap();
        compare(&text, &[Row { instructions: 1_240_000, ..row() }]).unwrap();
        for other in [
            Row { instructions: 1_300_000, ..row() },
            Row { writes: 3, ..row() },
            Row { frames: 24, ..row() },
            Row { stack_bytes: 9_600, ..row() },
            Row { heap_bytes: Some(39_000), ..row() },
            Row { name: "other", ..row() },
        ] {
            let error = compare(&text, std::slice::from_ref(&other)).unwrap_err().to_string();
            assert!(error.contains(other.name), "{error}");
        }
        let more = compare(&text, &[row(), row()]).unwrap_err().to_string();
        assert!(more.contains("1 starts are recorded, 2 were counted"), "{more}");
    }

    #[test]
    fn memory_is_read_from_the_console() {
        let console = ["pitstop heap: 12345 bytes used at most of 180000".to_owned()];
        assert_eq!(reported(&console, "heap: ").unwrap(), Some(12_345));
        assert_eq!(reported(&console, "stack: ").unwrap(), None);
        assert!(reported(&["heap: many".to_owned()], "heap: ").is_err());
    }
}
