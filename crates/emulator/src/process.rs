//! A QEMU that runs.

use std::io::{self, BufRead as _, BufReader, Read, Write as _};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::Sender;
use std::thread;

use crate::{Debugger, Log, MachineError};

/// The program, and what leads into it.
#[derive(Debug)]
pub(crate) struct QemuProcess {
    pub(crate) child: Child,
    monitor: ChildStdin,
    debugger_port: u16,
}

impl QemuProcess {
    /// Starts it. What it prints goes to `console`.
    pub(crate) fn start(
        mut command: Command,
        debugger_port: u16,
        console: &Sender<String>,
        log: &Log,
    ) -> Result<Self, MachineError> {
        let failed = |command: &Command, source| MachineError::Start {
            program: PathBuf::from(command.get_program()),
            source,
        };
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|source| failed(&command, source))?;
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(monitor), Some(output), Some(errors)) = pipes else {
            return Err(failed(&command, io::Error::other("it has no pipes")));
        };
        read_lines(output, console.clone(), log.clone());
        read_lines(errors, console.clone(), log.clone());
        Ok(Self { child, monitor, debugger_port })
    }

    /// Resets the chip by the emulator's monitor.
    pub(crate) fn reset(&mut self) -> Result<(), MachineError> {
        // Ctrl-A c switches between console and monitor (QEMU, "Keys in the character backend multiplexer").
        self.monitor
            .write_all(b"\x01csystem_reset\n\x01c")
            .and_then(|()| self.monitor.flush())
            .map_err(MachineError::Monitor)
    }

    /// Stops the chip, has the debugger do something, and lets it go on.
    pub(crate) fn debug(
        &self,
        act: impl FnOnce(&mut Debugger) -> io::Result<()>,
    ) -> Result<(), MachineError> {
        Debugger::attach(self.debugger_port)
            .and_then(|mut debugger| act(&mut debugger))
            .map_err(MachineError::Debugger)
    }

    pub(crate) fn end(&mut self) {
        // Fails only when it ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
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
