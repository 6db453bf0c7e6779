//! An emulated ESP32-C3: finding the emulator, switching the chip on and off, reading its console.

use std::collections::VecDeque;
use std::env;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use crate::process;

/// What the emulator's program is called unless `PITSTOP_QEMU` names one.
const PROGRAM: &str = "qemu-system-riscv32";

/// The machine that is needed, as `-machine help` lists it.
const MACHINE: &str = "esp32c3";

/// What the machine's address 10.0.2.2 leads to: this computer's loopback (QEMU, "Network emulation").
pub(super) const HOST_SEEN_FROM_INSIDE: &str = "10.0.2.2";

/// Lines of the console that an error shows.
const SHOWN_LINES: usize = 15;

/// A program that emulates the ESP32-C3.
pub(super) struct Emulator {
    program: PathBuf,
    /// Folder with the chip's ROM, when it is not where the program looks for it by itself.
    data: Option<PathBuf>,
}

impl Emulator {
    /// The program in `PITSTOP_QEMU`, else the one on `PATH`.
    ///
    /// `PITSTOP_QEMU_DATA` is the folder with the ROMs; without it, `../pc-bios` as seen from the program is taken when
    /// it exists, which is how a build folder of QEMU looks.
    ///
    /// Errors: why there is none, and what to install.
    pub(super) fn find() -> Result<Self, String> {
        Self::choose(env::var_os("PITSTOP_QEMU").map(PathBuf::from), env::var_os("PITSTOP_QEMU_DATA"))
            .map_err(|reason| {
                format!(
                    "{reason}\n\
                     install Espressif's QEMU for RISC-V:\n\
                     - with ESP-IDF: `python $IDF_PATH/tools/idf_tools.py install qemu-riscv32`\n\
                     - or unpack a release from https://github.com/espressif/qemu/releases\n\
                     then put {PROGRAM} on PATH, or its path into PITSTOP_QEMU"
                )
            })
    }

    fn choose(program: Option<PathBuf>, data: Option<std::ffi::OsString>) -> Result<Self, String> {
        let program = match program {
            Some(program) => program,
            None => on_path(PROGRAM).ok_or_else(|| format!("no {PROGRAM} on PATH"))?,
        };
        let machines = process::read(Command::new(&program).args(["-machine", "help"]))
            .map_err(|error| format!("{error:#}"))?;
        if !machines.lines().any(|line| line.split_whitespace().next() == Some(MACHINE)) {
            return Err(format!("{} has no machine {MACHINE}", program.display()));
        }
        let beside = || {
            let folder = program.parent()?.parent()?.join("pc-bios");
            folder.is_dir().then_some(folder)
        };
        let data = data.map(PathBuf::from).or_else(beside);
        Ok(Self { program, data })
    }

    fn command(&self, flash: &Path) -> Command {
        let mut command = Command::new(&self.program);
        // -nographic puts the chip's UART and the emulator's monitor on standard input and output.
        command.args(["-machine", MACHINE, "-nographic", "-nic", "user,model=open_eth"]);
        if let Some(data) = &self.data {
            command.arg("-L").arg(data);
        }
        command.arg("-drive").arg(format!("file={},if=mtd,format=raw", flash.display()));
        command
    }
}

impl std::fmt::Display for Emulator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.program.display())
    }
}

/// What a scenario's machines print, in a file that stays.
#[derive(Clone)]
pub(super) struct Log {
    file: Arc<Mutex<File>>,
    start: Instant,
}

impl Log {
    /// A new file; one that is there is replaced.
    pub(super) fn create(path: &Path) -> anyhow::Result<Self> {
        let file = File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Self { file: Arc::new(Mutex::new(file)), start: Instant::now() })
    }

    /// One line, after the seconds since the log began.
    pub(super) fn line(&self, text: &str) {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        // The log is for a person who looks for a reason; a full disk shows elsewhere.
        let _ = writeln!(file, "{:8.3} {text}", self.start.elapsed().as_secs_f64());
    }
}

/// A chip with power. Dropping it cuts the power, at whatever it is doing.
pub(super) struct Machine {
    child: Child,
    monitor: ChildStdin,
    console: Receiver<String>,
    shown: VecDeque<String>,
    log: Log,
}

impl Machine {
    /// Switches on a chip with this flash. What it writes to its flash goes to the file at once.
    pub(super) fn power_on(emulator: &Emulator, flash: &Path, log: &Log) -> anyhow::Result<Self> {
        Self::start(emulator.command(flash), log)
    }

    fn start(mut command: Command, log: &Log) -> anyhow::Result<Self> {
        log.line("--- power on");
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", command.get_program().display()))?;
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(monitor), Some(output), Some(errors)) = pipes else {
            bail!("the emulator was started without pipes");
        };
        let (sender, console) = mpsc::channel();
        read_lines(output, sender.clone(), log.clone());
        read_lines(errors, sender, log.clone());
        Ok(Self { child, monitor, console, shown: VecDeque::new(), log: log.clone() })
    }

    /// Waits for a line that contains `wanted`, and returns it.
    ///
    /// Errors: `timeout` went by, the emulator ended, or a line came first that contains one of `unwanted`.
    pub(super) fn expect(
        &mut self,
        wanted: &str,
        unwanted: &[&str],
        timeout: Duration,
    ) -> anyhow::Result<String> {
        let deadline = Instant::now() + timeout;
        loop {
            let line = match self.console.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => line,
                Err(RecvTimeoutError::Timeout) => {
                    bail!("no {wanted:?} on the console within {} s{}", timeout.as_secs(), self.last_lines())
                }
                Err(RecvTimeoutError::Disconnected) => {
                    bail!("the emulator ended before {wanted:?} was on its console{}", self.last_lines())
                }
            };
            self.shown.push_back(line.clone());
            if self.shown.len() > SHOWN_LINES {
                self.shown.pop_front();
            }
            if let Some(found) = unwanted.iter().find(|text| line.contains(**text)) {
                bail!("{found:?} on the console before {wanted:?}{}", self.last_lines());
            }
            if line.contains(wanted) {
                return Ok(line);
            }
        }
    }

    /// Resets the chip by the emulator's monitor. Memory keeps its contents, and the chip goes on to state the cause of
    /// the reset before this one.
    pub(super) fn reset(&mut self) -> anyhow::Result<()> {
        self.log.line("--- reset");
        // Ctrl-A c switches between console and monitor (QEMU, "Keys in the character backend multiplexer").
        self.monitor
            .write_all(b"\x01csystem_reset\n\x01c")
            .and_then(|()| self.monitor.flush())
            .context("the emulator does not take commands")
    }

    /// Cuts the power; returns what was printed that nobody waited for.
    pub(super) fn power_off(mut self) -> Vec<String> {
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

fn on_path(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
}

#[cfg(test)]
mod tests;
