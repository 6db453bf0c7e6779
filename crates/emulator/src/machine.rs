//! A chip with power.

use std::collections::VecDeque;
use std::io::{self, BufRead as _, BufReader, Read, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use crate::debugger::free_port;
use crate::{Debugger, Emulator, Log, MachineError};

/// Lines of the console that an error shows.
const SHOWN_LINES: usize = 15;

/// A chip with power. Dropping it cuts the power, at whatever it is doing.
#[derive(Debug)]
pub struct Machine {
    child: Child,
    monitor: ChildStdin,
    console: Receiver<String>,
    shown: VecDeque<String>,
    debugger_port: u16,
    log: Log,
}

impl Machine {
    /// Switches on a chip with this flash file. What it writes to its flash goes to the file at once.
    ///
    /// # Errors
    /// The emulator does not start. One that starts and then ends is found by the first wait for a line.
    pub fn power_on(emulator: &Emulator, flash: &Path, log: &Log) -> Result<Self, MachineError> {
        let debugger_port = free_port().map_err(MachineError::Debugger)?;
        Self::start(emulator.command(flash, debugger_port), debugger_port, log)
    }

    fn start(mut command: Command, debugger_port: u16, log: &Log) -> Result<Self, MachineError> {
        let failed = |command: &Command, source| MachineError::Start {
            program: PathBuf::from(command.get_program()),
            source,
        };
        log.line("--- power on");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|source| failed(&command, source))?;
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(monitor), Some(output), Some(errors)) = pipes else {
            return Err(failed(&command, io::Error::other("it has no pipes")));
        };
        let (sender, console) = mpsc::channel();
        read_lines(output, sender.clone(), log.clone());
        read_lines(errors, sender, log.clone());
        Ok(Self { child, monitor, console, shown: VecDeque::new(), debugger_port, log: log.clone() })
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

    /// Resets the chip by the emulator's monitor. Memory keeps its contents, and the chip goes on to state the cause of
    /// the reset before this one.
    ///
    /// # Errors
    /// The emulator ended.
    pub fn reset(&mut self) -> Result<(), MachineError> {
        self.log.line("--- reset");
        // Ctrl-A c switches between console and monitor (QEMU, "Keys in the character backend multiplexer").
        self.monitor
            .write_all(b"\x01csystem_reset\n\x01c")
            .and_then(|()| self.monitor.flush())
            .map_err(MachineError::Monitor)
    }

    /// Stops the chip, for a debugger.
    ///
    /// # Errors
    /// The emulator has none, or does not answer.
    pub fn debug(&mut self) -> Result<Debugger, MachineError> {
        self.log.line("--- debugger");
        Debugger::attach(self.debugger_port).map_err(MachineError::Debugger)
    }

    /// Cuts the power; returns what was printed that nobody waited for.
    pub fn power_off(mut self) -> Vec<String> {
        self.cut_power();
        self.console.iter().collect()
    }

    fn cut_power(&mut self) {
        // Fails only when it ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
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

/// Reads lines until the end, in a thread: into the log, and to whoever waits for one.
fn read_lines(output: impl Read + Send + 'static, sender: Sender<String>, log: Log) {
    thread::spawn(move || {
        for line in BufReader::new(output).split(b'\n') {
            let Ok(line) = line else { return };
            let line = String::from_utf8_lossy(&line).trim_end().to_owned();
            log.line(&line);
            if sender.send(line).is_err() {
                return;
            }
        }
    });
}

#[cfg(all(test, unix))]
pub(crate) mod tests;
