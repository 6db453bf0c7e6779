//! What a scenario works with: the machine, the world around it, and the lines that its console shows.

use std::time::Duration;

use anyhow::bail;
use emulator::{Emulator, Log, Machine};

use super::flash::FlashFile;
use super::world::World;
pub(super) use crate::lab::PANIC;

/// A first start with an install on a busy machine: the updater itself gives up after 120 s without an application
/// (`crates/updater`, `BUDGET_WITHOUT_APP_MS`) and is then started again.
pub(super) const INSTALL: Duration = Duration::from_secs(240);

/// A start without an install: bootloader, a pit stop of 20 s at most (`BUDGET_MS`), bootloader, application; twice
/// that on a busy machine.
pub(super) const START: Duration = Duration::from_secs(60);

/// What it prints first: its name and version.
pub(super) const GREETING: &str = "pitstop 0.";

pub(super) const ENROLLS: &str = "pitstop enrolls";
pub(super) const CHECKS_IN: &str = "pitstop checks in";
pub(super) const INSTALLS: &str = "pitstop installs";
pub(super) const FAULT: &str = "pitstop fault";
pub(super) const HANDS_OVER: &str = "pitstop hands over to slot 0";
pub(super) const HANDS_OVER_TO_SECOND: &str = "pitstop hands over to slot 1";

/// What the chip's ROM prints first after every reset, and after a wake from deep sleep.
pub(super) const ROM: &str = "rst:0x";
pub(super) const ROM_AFTER_DEEP_SLEEP: &str = "rst:0x5 ";

/// How a scenario ended that did not fail.
pub(super) enum Outcome {
    Passed,
    /// The emulator cannot do it; what it lacks.
    Skipped(String),
}

/// What a scenario works with.
pub(super) struct Stage<'a> {
    pub(super) name: &'static str,
    pub(super) emulator: &'a Emulator,
    pub(super) world: &'a mut World,
    pub(super) log: Log,
}

impl Stage<'_> {
    /// Something that QEMU does not have, where the scenario cannot go on. The model has it: there it is a failure.
    pub(super) fn lacks(&self, what: &str) -> anyhow::Result<Outcome> {
        match self.emulator {
            Emulator::Qemu(_) => Ok(Outcome::Skipped(format!("this emulator lacks {what}"))),
            Emulator::Chip(_) => bail!("expected {what}, found none"),
        }
    }

    pub(super) fn power_on(&self, flash: &FlashFile) -> anyhow::Result<Machine> {
        Ok(Machine::power_on(self.emulator, flash.path(), &self.log)?)
    }

    /// A new device on which a first release is installed and runs; `first_line` is how its application begins.
    pub(super) fn device(
        &self,
        layout: &str,
        image: &str,
        first_line: &str,
    ) -> anyhow::Result<(FlashFile, Machine)> {
        self.world.product(self.name, layout, image)?;
        let flash = self.world.flash(self.name)?;
        let mut machine = self.power_on(&flash)?;
        machine.expect(HANDS_OVER, &[PANIC], INSTALL)?;
        machine.expect(first_line, &[CHECKS_IN, PANIC], START)?;
        Ok((flash, machine))
    }

    pub(super) fn hello(&self) -> anyhow::Result<(FlashFile, Machine)> {
        self.device("4mb", "hello-1.0.0", "hello 1.0.0 ")
    }
}
