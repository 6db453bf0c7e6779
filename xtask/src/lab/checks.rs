//! Short questions to an updater, for faults that are planted in the firmware (`xtask/mutants/firmware.toml`).

use anyhow::{Context as _, ensure};
use chip::Reset;

use super::phase::Phase;
use super::{Images, cuts};

/// Starts with the same fault after which the application must run (docs/recovery.md).
const STARTS: usize = 4;

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
    pub(crate) fn run(self, images: &Images) -> anyhow::Result<()> {
        match self {
            Self::Installs => installs(images),
            Self::Hangs => hangs(images),
            Self::Cuts => cuts::some_of_an_update(images),
        }
    }
}

fn installs(images: &Images) -> anyhow::Result<()> {
    // Its preparation is the first start.
    let prepared = Phase::Update.prepare(images).context("first start")?;
    prepared.power_on(images)?.run_to(&prepared.app, prepared.slot.clone(), |_| Ok(())).context("update")
}

fn hangs(images: &Images) -> anyhow::Result<()> {
    let prepared = Phase::Idle.prepare(images)?;
    let mut lab = prepared.power_on(images)?;
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
