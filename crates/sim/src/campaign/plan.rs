//! Which cases there are: a sample for continuous integration, or all of them.

use std::sync::Arc;

use anyhow::Context as _;

use super::app::AppStage;
use super::lifecycle::{LAYOUTS, Lifecycle};
use super::liveness::LivenessStage;
use super::network::{ARTIFACT_STEP, NetworkStage};
use super::power::PowerStage;
use super::rot::{self, RotStage};
use super::stolen_server::StolenServerStage;
use super::{Outcome, Stage, power};

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// Losses of power.
    Power,
    /// Two losses of power.
    PowerTwice,
    /// Flash that forgets or is worn out.
    Rot,
    /// Wrong answers, and what lies before the first byte.
    Answers,
    /// A path that breaks at a byte.
    Paths,
    /// A stolen server.
    StolenServer,
    /// Hostile applications.
    App,
    /// The same fault at every start.
    Liveness,
}

/// How many cases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// What continuous integration has time for.
    Quick,
    /// Everything once; at random where everything has no end.
    Whole,
}

/// A case, ready to run.
pub(super) trait Job: Send + Sync {
    fn name(&self) -> String;
    fn run(&self) -> anyhow::Result<(Outcome, Vec<String>)>;
}

struct StagedCase<S: Stage> {
    stage: Arc<S>,
    case: S::Case,
}

impl<S: Stage> Job for StagedCase<S> {
    fn name(&self) -> String {
        self.case.to_string()
    }

    fn run(&self) -> anyhow::Result<(Outcome, Vec<String>)> {
        self.stage.run(&self.case)
    }
}

/// Cases of one row of the report.
pub struct Batch {
    /// The kind of fault.
    pub part: Part,
    /// The row: layout, and lifecycle or region.
    pub name: String,
    /// Flash operations of the start that is disturbed, for losses of power.
    pub operations: Option<usize>,
    pub(super) jobs: Vec<Box<dyn Job>>,
}

impl Batch {
    fn new<S: Stage + 'static>(part: Part, name: String, stage: &Arc<S>, cases: Vec<S::Case>) -> Self {
        let job = |case| Box::new(StagedCase { stage: Arc::clone(stage), case }) as Box<dyn Job>;
        Self { part, name, operations: None, jobs: cases.into_iter().map(job).collect() }
    }

    /// How many cases there are.
    pub fn cases(&self) -> usize {
        self.jobs.len()
    }
}

impl Part {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Power,
        Self::PowerTwice,
        Self::Rot,
        Self::Answers,
        Self::Paths,
        Self::StolenServer,
        Self::App,
        Self::Liveness,
    ];

    /// As the command line names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Power => "power",
            Self::PowerTwice => "power-twice",
            Self::Rot => "rot",
            Self::Answers => "answers",
            Self::Paths => "paths",
            Self::StolenServer => "stolen-server",
            Self::App => "app",
            Self::Liveness => "liveness",
        }
    }
}

/// The cases of a part.
///
/// # Errors
/// What should go well did not: preparing the devices.
pub fn plan(part: Part, size: Size, seed: u64) -> anyhow::Result<Vec<Batch>> {
    match part {
        Part::Power | Part::PowerTwice => power_plan(part, size, seed),
        Part::Rot => {
            let times = match size {
                Size::Quick => 1,
                Size::Whole => 20,
            };
            let mut batches = Vec::new();
            for layout in 0..LAYOUTS.len() {
                let stage = Arc::new(RotStage::new(layout)?);
                for region in stage.regions()? {
                    let cases = stage.cases(&region, times, seed);
                    batches.push(Batch::new(part, format!("{} {region}", stage.name()), &stage, cases));
                }
            }
            Ok(batches)
        }
        Part::Answers | Part::Paths => {
            let stages = NetworkStage::all()?.into_iter().map(Arc::new);
            Ok(stages
                .map(|stage| {
                    let cases = match (part, size) {
                        (Part::Answers, Size::Quick) => sample(stage.answers(), 4, seed),
                        (Part::Answers, Size::Whole) => stage.answers(),
                        (_, Size::Quick) => stage.some_paths(15, seed),
                        (_, Size::Whole) => stage.paths_in_turn(ARTIFACT_STEP, seed),
                    };
                    Batch::new(part, stage.name(), &stage, cases)
                })
                .collect())
        }
        Part::StolenServer => (0..LAYOUTS.len())
            .map(|layout| {
                let stage = Arc::new(StolenServerStage::new(layout)?);
                Ok(Batch::new(part, LAYOUTS[layout].to_owned(), &stage, stage.cases()))
            })
            .collect(),
        Part::App => (0..LAYOUTS.len())
            .map(|layout| {
                let stage = Arc::new(AppStage::new(layout)?);
                Ok(Batch::new(part, LAYOUTS[layout].to_owned(), &stage, stage.cases()))
            })
            .collect(),
        Part::Liveness => {
            let mut batches = Vec::new();
            for layout in 0..LAYOUTS.len() {
                for stage in LivenessStage::all(layout)?.into_iter().map(Arc::new) {
                    let cases = match size {
                        // Not in step with the ways in which a start ends.
                        Size::Quick => sample(stage.cases(), 7, seed),
                        Size::Whole => stage.cases(),
                    };
                    batches.push(Batch::new(part, stage.name(), &stage, cases));
                }
            }
            Ok(batches)
        }
    }
}

fn power_plan(part: Part, size: Size, seed: u64) -> anyhow::Result<Vec<Batch>> {
    let stages = PowerStage::all()?.into_iter().map(Arc::new);
    Ok(stages
        .map(|stage| {
            let cases = match (part, size) {
                (Part::Power, Size::Quick) => sample(stage.cuts(seed), 50, seed),
                (Part::Power, Size::Whole) => stage.cuts(seed),
                (_, Size::Quick) => stage.double_cuts(4, seed),
                (_, Size::Whole) => stage.double_cuts(200, seed),
            };
            let operations = Some(stage.operations());
            Batch { operations, ..Batch::new(part, stage.name(), &stage, cases) }
        })
        .collect())
}

/// One case of `step`, beginning where the seed says.
fn sample<C>(cases: Vec<C>, step: usize, seed: u64) -> Vec<C> {
    let first = usize::try_from(seed % step as u64).unwrap_or(0);
    cases.into_iter().skip(first).step_by(step).collect()
}

/// Runs the case with this name once more, and tells all that happened.
///
/// # Errors
/// There is no such case.
pub fn replay(name: &str) -> anyhow::Result<(Outcome, Vec<String>)> {
    let mut parts = name.split(':');
    let (part, layout) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let unknown = || format!("expected a case as a campaign's report names it, found `{name}`");
    let layout = LAYOUTS.iter().position(|known| *known == layout).with_context(unknown)?;
    match part {
        "power" => {
            let case: power::Case = name.parse()?;
            PowerStage::new(layout, case.lifecycle())?.run(&case)
        }
        "rot" => RotStage::new(layout)?.run(&rot::Case::parse(name).with_context(unknown)?),
        "network" => {
            let lifecycle = parts.next().unwrap_or_default();
            let named = |known: &Lifecycle| known.name() == lifecycle;
            let lifecycle = Lifecycle::ALL.into_iter().find(named).with_context(unknown)?;
            let stage = NetworkStage::new(layout, lifecycle)?;
            let case = stage.find(name).with_context(unknown)?;
            stage.run(&case)
        }
        "stolen-server" => {
            let stage = StolenServerStage::new(layout)?;
            stage.run(&named(stage.cases(), name).with_context(unknown)?)
        }
        "app" => {
            let stage = AppStage::new(layout)?;
            stage.run(&named(stage.cases(), name).with_context(unknown)?)
        }
        "liveness" => {
            let stages = LivenessStage::all(layout)?;
            let found = stages.iter().find_map(|stage| Some((stage, named(stage.cases(), name)?)));
            let (stage, case) = found.with_context(unknown)?;
            stage.run(&case)
        }
        _ => Err(anyhow::anyhow!(unknown())),
    }
}

fn named<C: ToString>(cases: Vec<C>, name: &str) -> Option<C> {
    cases.into_iter().find(|case| case.to_string() == name)
}
