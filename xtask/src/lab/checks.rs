//! Short questions to an updater, for faults that are planted in the firmware (`xtask/mutants/firmware.toml`).

use anyhow::{Context as _, ensure};
use chip::Reset;
use sim::campaign::invariants::STARTS;

use super::phase::{Devices, Phase};
use super::{Images, cuts};

/// What the updater says in the network phase.
const JOINS: &str = "pitstop joins the network";
/// What the application says, whichever way it was started.
const HELLO: &str = "hello ";

/// A question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Check {
    /// A first start, and an update after it: the application is entered.
    Installs,
    /// The processor hangs in the network phase, at every start: the application is entered all the same.
    Hangs,
    /// Power is lost at some moments of an update.
    Cuts,
}

impl Check {
    /// Its name in the list of faults.
    pub(crate) fn named(name: &str) -> Option<Self> {
        [Self::Installs, Self::Hangs, Self::Cuts].into_iter().find(|check| check.name() == name)
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Installs => "installs",
            Self::Hangs => "hangs",
            Self::Cuts => "cuts",
        }
    }

    /// Asks it.
    ///
    /// Errors: the answer is no; why.
    pub(crate) fn run(self, images: Images) -> anyhow::Result<()> {
        // A first start comes before all of them.
        let devices = Devices::make(images)?;
        match self {
            Self::Installs => installs(&devices),
            Self::Hangs => hangs(&devices),
            Self::Cuts => cuts::some_of_an_update(&devices),
        }
    }
}

fn installs(devices: &Devices) -> anyhow::Result<()> {
    let prepared = Phase::Update.prepare(devices)?;
    prepared
        .power_on(&devices.images)?
        .run_to(&prepared.app, prepared.slot.clone(), |_| Ok(()))
        .context("update")
}

fn hangs(devices: &Devices) -> anyhow::Result<()> {
    let prepared = Phase::Idle.prepare(devices)?;
    let mut lab = prepared.power_on(&devices.images)?;
    for start in 1..=STARTS {
        let first_new = lab.console.len();
        lab.expect_one_of(&[JOINS, HELLO])?;
        if lab.console[first_new..].iter().any(|line| line.contains(HELLO)) {
            ensure!(start > 1, "the application was started without a pit stop");
            return Ok(());
        }
        lab.chip.hang();
        lab.expect("rst:").with_context(|| format!("no watchdog resets a hang at start {start}"))?;
        let kept = [Reset::RtcWatchdogCore, Reset::RtcWatchdogCpu].map(|reset| format!("({reset:?})"));
        let told = lab.console.iter().rfind(|line| line.starts_with("rst:")).map_or("", String::as_str);
        ensure!(
            kept.iter().any(|reset| told.contains(reset)),
            "the watchdog's reset clears the RTC domain, and the count of such resets with it: {told}"
        );
    }
    anyhow::bail!("it hangs at every start, and the application is not started")
}
