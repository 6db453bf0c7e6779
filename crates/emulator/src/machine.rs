//! A chip with power.

use std::collections::VecDeque;
use std::env;
use std::fmt;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use crate::board::{Board, Lines, Order};
use crate::debugger::free_port;
use crate::process::QemuProcess;
use crate::watch::{Watch, watch_qemu};
use crate::{Debugger, FindError, Log, MachineError, Qemu, Symbols};

/// Lines of the console that an error shows.
const SHOWN_LINES: usize = 15;

/// What the chip is.
#[derive(Clone, Debug)]
pub enum Emulator {
    /// The crate `chip`: an ESP32-C3 in this program, with names for what its images consist of.
    Chip(Arc<Symbols>),
    /// A QEMU that was found on this computer.
    Qemu(Qemu),
}

impl Emulator {
    /// The QEMU that `PITSTOP_QEMU` names, or the crate `chip`.
    ///
    /// # Errors
    /// It names none that knows the chip.
    pub fn chosen() -> Result<Self, FindError> {
        match env::var_os("PITSTOP_QEMU").filter(|path| !path.is_empty()) {
            Some(_) => Qemu::find().map(Self::Qemu),
            None => Ok(Self::Chip(Arc::default())),
        }
    }
}

impl fmt::Display for Emulator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Chip(_) => f.write_str("the crate chip"),
            Self::Qemu(qemu) => qemu.fmt(f),
        }
    }
}

/// A chip with power. Dropping it cuts the power, at whatever it is doing.
#[derive(Debug)]
pub struct Machine {
    power: Power,
    console: Receiver<String>,
    shown: VecDeque<String>,
    log: Log,
}

#[derive(Debug)]
enum Power {
    Chip(Board),
    Qemu(QemuProcess),
}

impl Machine {
    /// Switches on a chip with this flash file. What it writes to its flash goes to the file.
    ///
    /// # Errors
    /// The emulator does not start. One that starts and then ends is found by the first wait for a line.
    pub fn power_on(emulator: &Emulator, flash: &Path, log: &Log) -> Result<Self, MachineError> {
        Self::power_on_watched(emulator, flash, log, None)
    }

    /// The same; what else it does is on its console, as [`Watch`] says.
    ///
    /// # Errors
    /// As for [`power_on`](Self::power_on), and a debugger that does not answer.
    pub fn power_on_watched(
        emulator: &Emulator,
        flash: &Path,
        log: &Log,
        watch: Option<&Watch>,
    ) -> Result<Self, MachineError> {
        match emulator {
            Emulator::Chip(symbols) => {
                // Another noise at each power on, as on silicon.
                let seed = RandomState::new().build_hasher().finish();
                log.line(&format!("--- power on, seed {seed}"));
                let (sender, console) = mpsc::channel();
                let lines = Lines::new(sender, log.clone());
                let board = Board::power_on(flash, seed, Arc::clone(symbols), watch.cloned(), lines)?;
                Ok(Self::with(Power::Chip(board), console, log))
            }
            Emulator::Qemu(qemu) => {
                let debugger_port = free_port().map_err(MachineError::Debugger)?;
                let mut command = qemu.command(flash, debugger_port);
                if watch.is_some() {
                    // Stands still until the debugger lets it go.
                    command.arg("-S");
                }
                Self::start(command, debugger_port, log, watch)
            }
        }
    }

    /// Switches on a chip in a program.
    fn start(
        command: Command,
        debugger_port: u16,
        log: &Log,
        watch: Option<&Watch>,
    ) -> Result<Self, MachineError> {
        log.line("--- power on");
        let (sender, console) = mpsc::channel();
        let process = QemuProcess::start(command, debugger_port, &sender, log)?;
        if let Some(watch) = watch {
            watch_qemu(debugger_port, watch, sender, log.clone()).map_err(MachineError::Debugger)?;
        }
        Ok(Self::with(Power::Qemu(process), console, log))
    }

    fn with(power: Power, console: Receiver<String>, log: &Log) -> Self {
        Self { power, console, shown: VecDeque::new(), log: log.clone() }
    }

    /// The next line of the console, without its end. `wanted` is what it is read for, as errors name it.
    ///
    /// # Errors
    /// No line until `deadline`, or the emulator ended.
    pub fn line(&mut self, deadline: Instant, wanted: &str) -> Result<String, MachineError> {
        let timeout = || MachineError::Timeout { wanted: wanted.to_owned(), last_lines: self.last_lines() };
        // A console that never pauses has a line at any time, and the deadline holds for it too.
        let left = deadline.checked_duration_since(Instant::now()).ok_or_else(timeout)?;
        let line = match self.console.recv_timeout(left) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => return Err(timeout()),
            Err(RecvTimeoutError::Disconnected) => {
                return Err(MachineError::Ended { wanted: wanted.to_owned(), last_lines: self.last_lines() });
            }
        };
        self.shown.push_back(line.clone());
        if self.shown.len() > SHOWN_LINES {
            self.shown.pop_front();
        }
        Ok(line)
    }

    /// Waits for a line that contains `wanted`, and returns it.
    ///
    /// # Errors
    /// `timeout` went by, the emulator ended, or a line came first that contains one of `unwanted`.
    pub fn expect(
        &mut self,
        wanted: &str,
        unwanted: &[&str],
        timeout: Duration,
    ) -> Result<String, MachineError> {
        let deadline = Instant::now() + timeout;
        let quoted = format!("{wanted:?}");
        loop {
            let line = self.line(deadline, &quoted)?;
            if let Some(found) = unwanted.iter().find(|text| line.contains(**text)) {
                let (found, last_lines) = ((*found).to_owned(), self.last_lines());
                return Err(MachineError::Unwanted { found, wanted: quoted, last_lines });
            }
            if line.contains(wanted) {
                return Ok(line);
            }
        }
    }

    /// Resets the chip, as its button does. A QEMU keeps memory, and goes on to state the cause of the reset before.
    ///
    /// # Errors
    /// The emulator ended.
    pub fn reset(&mut self) -> Result<(), MachineError> {
        self.log.line("--- reset");
        match &mut self.power {
            Power::Chip(board) => board.order(Order::Reset),
            Power::Qemu(process) => process.reset(),
        }
    }

    /// Lets the processor stand still with interrupts off.
    ///
    /// # Errors
    /// The emulator ended, or has no debugger that does it.
    pub fn hang(&mut self) -> Result<(), MachineError> {
        self.log.line("--- hangs");
        match &mut self.power {
            Power::Chip(board) => board.order(Order::Hang),
            Power::Qemu(process) => process.debug(Debugger::hang),
        }
    }

    /// Lets the processor come upon no instruction.
    ///
    /// # Errors
    /// The emulator ended, or has no debugger that does it.
    pub fn crash(&mut self) -> Result<(), MachineError> {
        self.log.line("--- crashes");
        match &mut self.power {
            Power::Chip(board) => board.order(Order::Crash),
            Power::Qemu(process) => process.debug(Debugger::crash),
        }
    }

    /// Cuts the power; returns what was printed that nobody waited for.
    pub fn power_off(mut self) -> Vec<String> {
        self.cut_power();
        self.console.iter().collect()
    }

    fn cut_power(&mut self) {
        match &mut self.power {
            Power::Chip(board) => board.cut_power(),
            Power::Qemu(process) => process.end(),
        }
    }

    fn last_lines(&self) -> String {
        let lines = self.shown.iter().map(|line| format!("\n    {line}")).collect::<String>();
        format!("; its last lines:{lines}")
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.cut_power();
        self.log.line("--- power off");
    }
}

#[cfg(all(test, unix))]
pub(crate) mod tests;
