//! Power: lost at every flash operation of a lifecycle, and inside it; then once more while the device recovers.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::invariants::{self, Facts};
use super::lifecycle::{LAYOUTS, Lifecycle, Prepared, prepare};
use super::{Outcome, Stage, in_paused_time, lines, note, outcome};
use crate::flash::Operation;
use crate::{End, PowerCut, Tear};

/// One loss of power, or two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Case {
    /// Index of the layout in [`LAYOUTS`].
    layout: usize,
    lifecycle: Lifecycle,
    /// The operation in which power is lost, from 1.
    operation: u64,
    tear: Tear,
    /// The operation of the start after that in which it is lost again.
    second: Option<(u64, Tear)>,
    seed: u64,
}

/// A lifecycle on a layout, and the flash operations of its start.
pub struct PowerStage {
    layout: usize,
    lifecycle: Lifecycle,
    prepared: Arc<Prepared>,
    before: Facts,
    operations: Vec<Operation>,
}

impl PowerStage {
    /// Prepares the lifecycle, and lets it go well once to see what there is to cut.
    ///
    /// # Errors
    /// What should go well did not.
    pub fn new(layout: usize, lifecycle: Lifecycle) -> anyhow::Result<Self> {
        let name = LAYOUTS[layout];
        in_paused_time(async {
            let prepared = prepare(name, lifecycle).await?;
            let mut world = prepared.world.restore(1)?;
            world.device.flash.set_defects(prepared.defects.clone());
            let before = Facts::of(prepared.world.flash(), world.device.layout())?;
            world.device.power_on().await?;
            let operations = world.device.flash.take_log();
            Ok(Self { layout, lifecycle, prepared: Arc::new(prepared), before, operations })
        })
    }

    /// All of them.
    ///
    /// # Errors
    /// What should go well did not.
    pub fn all() -> anyhow::Result<Vec<Self>> {
        let mut stages = Vec::new();
        for (layout, name) in LAYOUTS.iter().enumerate() {
            for lifecycle in Lifecycle::ALL.into_iter().filter(|lifecycle| lifecycle.writes_flash(name)) {
                stages.push(Self::new(layout, lifecycle)?);
            }
        }
        Ok(stages)
    }

    /// As the table names it.
    pub fn name(&self) -> String {
        format!("{} {}", LAYOUTS[self.layout], self.lifecycle.name())
    }

    /// How many flash operations the start has.
    pub fn operations(&self) -> usize {
        self.operations.len()
    }

    /// Every operation with every class of tear.
    pub fn cuts(&self, seed: u64) -> Vec<Case> {
        let mut cases = Vec::new();
        for (operation, done) in (1..).zip(&self.operations) {
            for tear in Tear::classes(done.length_bytes) {
                let seed = seed.wrapping_add(cases.len() as u64);
                let (layout, lifecycle) = (self.layout, self.lifecycle);
                cases.push(Case { layout, lifecycle, operation, tear, second: None, seed });
            }
        }
        cases
    }

    /// Cuts at random operations, each followed by a second one at random in the start after it.
    pub fn double_cuts(&self, count: usize, seed: u64) -> Vec<Case> {
        let mut random = StdRng::seed_from_u64(seed);
        let cuts = self.cuts(seed);
        let mut any = || {
            let first = *cuts.get(random.gen_range(0..cuts.len()))?;
            // The start after the cut has about as many operations as this one, often fewer.
            let other = *cuts.get(random.gen_range(0..cuts.len()))?;
            let second = random.gen_range(1..=other.operation);
            Some(Case { second: Some((second, other.tear)), ..first })
        };
        (0..count).filter_map(|_| any()).collect()
    }
}

impl Case {
    /// What is disturbed.
    pub fn lifecycle(&self) -> Lifecycle {
        self.lifecycle
    }
}

impl Stage for PowerStage {
    type Case = Case;

    fn run(&self, case: &Case) -> anyhow::Result<(Outcome, Vec<String>)> {
        in_paused_time(async {
            let mut world = self.prepared.world.restore(1)?;
            let trace = world.trace();
            let layout = world.device.layout().clone();
            world.device.flash.set_defects(self.prepared.defects.clone());
            world.device.flash.arm(PowerCut { operation: case.operation, tear: case.tear, seed: case.seed });
            let end = world.device.power_on().await?;
            note(&trace, &end);
            anyhow::ensure!(
                matches!(end, End::PowerLost),
                "expected a loss of power in operation {}, found {end:?}; the case is of another version",
                case.operation
            );
            world.device.flash.set_defects(Vec::new());
            let now = Facts::of(world.device.flash.bytes(), &layout)?;
            if let Err(broken) = invariants::after_the_fault(&self.before, &now) {
                return Ok((Outcome::Broken(broken), lines(&trace)));
            }
            if let Some((operation, tear)) = case.second {
                world.device.flash.arm(PowerCut { operation, tear, seed: case.seed.rotate_left(32) });
                let end = world.device.power_on().await?;
                note(&trace, &end);
                world.device.flash.disarm();
                let now = Facts::of(world.device.flash.bytes(), &layout)?;
                if let Err(broken) = invariants::after_the_fault(&self.before, &now) {
                    return Ok((Outcome::Broken(broken), lines(&trace)));
                }
            }
            let recovered = invariants::recovers(&mut world, self.prepared.goal, &self.before).await?;
            Ok((outcome(recovered), lines(&trace)))
        })
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (layout, lifecycle) = (LAYOUTS[self.layout], self.lifecycle.name());
        write!(f, "power:{layout}:{lifecycle}:cut={}:tear={}", self.operation, name(self.tear))?;
        if let Some((operation, tear)) = self.second {
            write!(f, ":second={operation}/{}", name(tear))?;
        }
        write!(f, ":seed={}", self.seed)
    }
}

/// A case that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error(
    "expected a case such as `power:4mb:install:cut=12:tear=bits:second=4/before:seed=7`, found {found:?}; copy it from a campaign's report"
)]
pub struct BadCase {
    found: String,
}

impl FromStr for Case {
    type Err = BadCase;

    fn from_str(text: &str) -> Result<Self, BadCase> {
        parse(text).ok_or_else(|| BadCase { found: text.to_owned() })
    }
}

fn parse(text: &str) -> Option<Case> {
    let mut parts = text.strip_prefix("power:")?.split(':');
    let layout = parts.next()?;
    let layout = LAYOUTS.iter().position(|known| *known == layout)?;
    let lifecycle = parts.next()?;
    let lifecycle = Lifecycle::ALL.into_iter().find(|known| known.name() == lifecycle)?;
    let (mut operation, mut tear, mut second, mut seed) = (None, None, None, 0);
    for part in parts {
        match part.split_once('=')? {
            ("cut", value) => operation = Some(value.parse().ok()?),
            ("tear", value) => tear = Some(tear_named(value)?),
            ("seed", value) => seed = value.parse().ok()?,
            ("second", value) => {
                let (operation, tear) = value.split_once('/')?;
                second = Some((operation.parse().ok()?, tear_named(tear)?));
            }
            _ => return None,
        }
    }
    Some(Case { layout, lifecycle, operation: operation?, tear: tear?, second, seed })
}

fn name(tear: Tear) -> String {
    match tear {
        Tear::Before => "before".into(),
        Tear::Prefix { bytes } => format!("prefix-{bytes}"),
        Tear::Bits => "bits".into(),
        Tear::Unstable => "unstable".into(),
        Tear::After => "after".into(),
    }
}

fn tear_named(name: &str) -> Option<Tear> {
    Some(match name {
        "before" => Tear::Before,
        "bits" => Tear::Bits,
        "unstable" => Tear::Unstable,
        "after" => Tear::After,
        prefix => Tear::Prefix { bytes: prefix.strip_prefix("prefix-")?.parse().ok()? },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cases_are_read_as_they_are_written() {
        for text in [
            "power:4mb:install:cut=12:tear=bits:seed=7",
            "power:8mb-rollback:first-start:cut=1:tear=prefix-255:second=4/unstable:seed=0",
        ] {
            assert_eq!(text.parse::<Case>().unwrap().to_string(), text);
        }
        for text in
            ["power:4mb:install", "power:9mb:install:cut=1:tear=bits", "power:4mb:x:cut=1:tear=bits", ""]
        {
            assert!(text.parse::<Case>().is_err(), "{text}");
        }
    }
}
