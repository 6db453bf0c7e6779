//! Power is lost at each moment of a start.
//!
//! What a loss of power leaves is what stands in the flash, and what the server knows. So two moments are the same if neither has
//! changed between them. A start is run once, and after every 10,000th instruction it is looked at whether it is another
//! moment: each of these is tried, and beside them the operations on the flash that are interrupted on their way.

use std::fmt;
use std::num::NonZero;
use std::path::Path;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use anyhow::{Context as _, bail, ensure};
use chip::Reset;
use flashfmt::image::IMAGE_MAGIC;
use sim::campaign::fake_server::ServerState;
use sim::campaign::invariants::{Facts, STARTS, after_the_fault};
use sim::flash::{Operation, Tear};

use super::Lab;
use super::phase::{Devices, Phase, Prepared};
use crate::tables;

/// Resets of a start: by power, and the one that hands over.
const RESETS_PER_START: usize = 2;
/// What the gate tries: every so many cases.
const SAMPLE: usize = 16;

/// The phases in which something is written.
const PHASES: [Phase; 3] = [Phase::FirstStart, Phase::Renewal, Phase::Update];

/// How many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Size {
    /// Every 16th.
    Sample,
    /// All of them.
    Whole,
}

/// Tries the moments of all phases; prints how many there were, and if all were tried writes the table.
///
/// Errors: the first in which the promise does not hold.
pub(super) fn run(root: &Path, devices: &Devices, size: Size) -> anyhow::Result<()> {
    let mut lines = [
        "| start | instructions | looks | moments | cases | broken |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    .map(str::to_owned)
    .to_vec();
    for phase in PHASES {
        let tape = Tape::record(phase, devices)?;
        let all = tape.cases();
        let step = if size == Size::Sample { SAMPLE } else { 1 };
        let cases: Vec<_> = all.iter().step_by(step).copied().collect();
        let (name, instructions, looks, moments) =
            (phase.name(), tape.instructions, tape.looks, tape.moments.len());
        println!(
            "  {name}: {instructions} instructions, looked at {looks} times: {moments} moments, with interrupted operations \
             {} cases; trying {}",
            all.len(),
            cases.len()
        );
        try_all(devices, &tape, &cases)?;
        lines.push(format!(
            "| {name} | {instructions} | {looks} | {moments} | {} of {} | 0 |",
            cases.len(),
            all.len()
        ));
    }
    match size {
        Size::Sample => Ok(()),
        Size::Whole => tables::write(root, "reliability.md", "chip-cuts", &lines),
    }
}

/// Every seventh case of an update: of the three kinds in turn.
pub(super) fn some_of_an_update(devices: &Devices) -> anyhow::Result<()> {
    let tape = Tape::record(Phase::Update, devices)?;
    let cases: Vec<_> = tape.cases().into_iter().step_by(7).collect();
    try_all(devices, &tape, &cases)
}

/// On all processors.
fn try_all(devices: &Devices, tape: &Tape, cases: &[Case]) -> anyhow::Result<()> {
    let next = AtomicUsize::new(0);
    let failed = Mutex::new(None);
    let is_over = || failed.lock().unwrap_or_else(PoisonError::into_inner).is_some();
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, NonZero::get) {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)).filter(|_| !is_over())
                {
                    if let Err(error) = tape.recovers(devices, *case) {
                        let error = error.context(format!("{}, {}", tape.phase.name(), tape.describe(*case)));
                        *failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                    }
                }
            });
        }
    });
    failed.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
}

/// A start, as it is recorded once.
struct Tape {
    phase: Phase,
    prepared: Prepared,
    before: Facts,
    instructions: u64,
    looks: u64,
    operations: Vec<Done>,
    moments: Vec<Moment>,
}

/// An operation on the flash.
struct Done {
    operation: Operation,
    /// What stood in its range after it.
    after: Vec<u8>,
}

/// A moment that differs from the one before.
struct Moment {
    instructions: u64,
    /// How many operations on the flash are done.
    operations: usize,
    server: ServerState,
    /// What was on the console last.
    line: String,
}

/// Where the power is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Case {
    /// The moment by its number.
    moment: usize,
    /// How far the next operation gets.
    tear: Option<Tear>,
}

impl Tape {
    fn record(phase: Phase, devices: &Devices) -> anyhow::Result<Self> {
        let prepared = phase.prepare(devices)?;
        let before = Facts::of(&prepared.flash, &prepared.layout)?;
        let mut lab = prepared.power_on(&devices.images)?;
        let (mut operations, mut looks) = (Vec::<Done>::new(), 0);
        let mut moments = vec![Moment {
            instructions: 0,
            operations: 0,
            server: prepared.server.clone(),
            line: String::new(),
        }];
        let mut requests = lab.server.state().all_requests();
        lab.run_to(&prepared.app, prepared.slot.clone(), |lab| {
            looks += 1;
            let new = lab.chip.flash_mut().take_log();
            let now = lab.server.state().all_requests();
            if new.is_empty() && now == requests {
                return Ok(());
            }
            requests = now;
            for operation in new {
                let range = operation.range();
                let after = lab.chip.flash().bytes()[range.start as usize..range.end as usize].to_vec();
                operations.push(Done { operation, after });
            }
            moments.push(Moment {
                instructions: lab.chip.instructions(),
                operations: operations.len(),
                server: lab.server.state().clone(),
                line: lab.console.last().cloned().unwrap_or_default(),
            });
            Ok(())
        })?;
        for pair in moments.windows(2) {
            let [one, next] = pair else { continue };
            // The second would have changed what is recorded of the first.
            ensure!(
                next.operations <= one.operations + 1,
                "two operations on the flash within 10,000 instructions"
            );
        }
        let stats = lab.chip.flash().stats();
        let counted = stats.erases + stats.writes;
        ensure!(
            counted > 0 && operations.len() as u64 == counted,
            "{counted} operations on the flash were counted, {} were seen",
            operations.len()
        );
        Ok(Self {
            phase,
            prepared,
            before,
            instructions: lab.chip.instructions(),
            looks,
            operations,
            moments,
        })
    }

    /// Every moment, and every operation interrupted in two ways.
    fn cases(&self) -> Vec<Case> {
        let mut cases = Vec::new();
        for (moment, found) in self.moments.iter().enumerate() {
            cases.push(Case { moment, tear: None });
            let writes_next =
                self.moments.get(moment + 1).is_some_and(|next| next.operations > found.operations);
            if let Some(done) = self.operations.get(found.operations).filter(|_| writes_next) {
                let half = Tear::Prefix { bytes: done.operation.length_bytes / 2 };
                cases.extend([half, Tear::Bits].map(|tear| Case { moment, tear: Some(tear) }));
            }
        }
        cases
    }

    /// What stands in the flash.
    fn flash(&self, case: Case) -> Vec<u8> {
        let mut flash = self.prepared.flash.clone();
        let count = self.moments[case.moment].operations;
        for done in &self.operations[..count] {
            flash[done.range()].copy_from_slice(&done.after);
        }
        if let (Some(tear), Some(done)) = (case.tear, self.operations.get(count)) {
            let torn = tear.torn(&flash[done.range()], &done.after, case.moment as u64);
            flash[done.range()].copy_from_slice(&torn);
        }
        flash
    }

    /// Power comes back: the device gets to its target without help.
    fn recovers(&self, devices: &Devices, case: Case) -> anyhow::Result<()> {
        let Prepared { app, slot, layout, sequence, server, .. } = &self.prepared;
        let flash = self.flash(case);
        let now = Facts::of(&flash, layout)?;
        if let Err(broken) = after_the_fault(&self.before, &now) {
            bail!("{broken}");
        }
        if case.tear.is_none() && flash[slot.start as usize] == IMAGE_MAGIC {
            ensure!(now.is_bootable(), "the slot has the header of an image that is not whole");
        }
        let goal = server.releases.last().context("a server without releases")?.manifest.artifact.digest;
        let mut lab = Lab::power_on(&devices.images, flash, self.moments[case.moment].server.clone())?;
        let most_resets = STARTS * RESETS_PER_START;
        while lab.resets < most_resets {
            lab.run_to(app, slot.clone(), |lab| {
                ensure!(
                    lab.resets <= most_resets,
                    "no application after {STARTS} starts{}",
                    lab.last_lines()
                );
                Ok(())
            })?;
            let found = Facts::of(lab.chip.flash().bytes(), layout)?;
            ensure!(self.before.key.is_none() || found.key == self.before.key, "the key is another one");
            let violations = lab.chip.flash().violations();
            ensure!(violations.is_empty(), "written without an erase: {violations:?}");
            // With a vault that is being repaired it may run and not be recorded yet.
            let is_recorded = found.record.as_ref().is_some_and(|record| record.sequence.0 == *sequence);
            let is_certified = found.key.is_some() && found.certified == found.key;
            let is_renewed = self.phase != Phase::Renewal || found.certificate != self.before.certificate;
            if is_renewed && found.slots.first() == Some(&Some(goal)) && is_recorded && is_certified {
                return Ok(());
            }
            lab.chip.reset(Reset::EnPin);
        }
        bail!("not at release {sequence} after {STARTS} starts{}", lab.last_lines())
    }

    fn describe(&self, case: Case) -> String {
        let moment = &self.moments[case.moment];
        let mut text = format!("power lost after instruction {} ({:?})", moment.instructions, moment.line);
        if let (Some(tear), Some(done)) = (case.tear, self.operations.get(moment.operations)) {
            text += &format!(", in {done}: {tear:?}");
        }
        text
    }
}

impl Done {
    fn range(&self) -> std::ops::Range<usize> {
        let range = self.operation.range();
        range.start as usize..range.end as usize
    }
}

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Operation { kind, address, length_bytes } = self.operation;
        write!(f, "{kind:?} of {length_bytes} bytes at {address:#x}")
    }
}
