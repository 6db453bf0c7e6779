//! `pitstop serve` as a process, and the commands that talk to it.

use std::fmt;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::Context as _;
use serde_json::Value;

use crate::process::{read, succeeds};

/// A running server; it ends with this value.
pub(super) struct Served {
    program: PathBuf,
    pub(super) dir: PathBuf,
    process: Child,
    admin_url: String,
}

/// Devices of the server, kept in a directory.
pub(super) struct Fleet<'a> {
    served: &'a Served,
    devices: usize,
}

/// Memory of the server's process, as Linux counts it (proc_pid_status(5)).
pub(super) struct Memory {
    pub(super) now_bytes: u64,
    pub(super) peak_bytes: u64,
}

impl Served {
    /// Starts a server on free ports with its data in `dir`.
    pub(super) fn start(program: &Path, dir: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir(dir.join("www"))?;
        let (process, admin_url) = spawn(program, dir, &[])?;
        Ok(Self { program: program.to_owned(), dir: dir.to_owned(), process, admin_url })
    }

    /// Stops the server and starts it again, with these options.
    pub(super) fn restart(&mut self, options: &[&str]) -> anyhow::Result<()> {
        stop(&mut self.process);
        (self.process, self.admin_url) = spawn(&self.program, &self.dir, options)?;
        Ok(())
    }

    pub(super) fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// Runs a command against the server; what it prints.
    pub(super) fn pitstop(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let mut command = Command::new(&self.program);
        command.args(arguments).current_dir(&self.dir);
        read(command.env("PITSTOP_URL", &self.admin_url).env("PITSTOP_DATA", "data"))
    }

    pub(super) fn fleet(&self, devices: usize) -> Fleet<'_> {
        Fleet { served: self, devices }
    }

    pub(super) fn memory(&self) -> anyhow::Result<Memory> {
        let path = format!("/proc/{}/status", self.process.id());
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        let bytes = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.trim().strip_suffix(" kB"));
            let kib: u64 = line.with_context(|| format!("no {name} in {path}"))?.parse()?;
            anyhow::Ok(kib * 1024)
        };
        Ok(Memory { now_bytes: bytes("VmRSS:")?, peak_bytes: bytes("VmHWM:")? })
    }
}

impl Fleet<'_> {
    /// A run of `pitstop simulate`: its JSON.
    pub(super) fn run(&self, options: &[&str]) -> anyhow::Result<Value> {
        let devices = self.devices.to_string();
        let fleet = ["simulate", "--json", "--product", "lamp", "--state", "fleet", "--devices", &devices];
        let text = self.served.pitstop(&[&fleet, options].concat())?;
        serde_json::from_str(&text).with_context(|| format!("no JSON: {text}"))
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        stop(&mut self.process);
    }
}

fn spawn(program: &Path, dir: &Path, options: &[&str]) -> anyhow::Result<(Child, String)> {
    let mut process = Command::new(program)
        .args(["serve", "--json", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--data", "data"])
        .args(options)
        .current_dir(dir)
        .env("PITSTOP_LOG", "warn")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {}", program.display()))?;
    let mut line = String::new();
    let output = process.stdout.take().context("the server has no output")?;
    BufReader::new(output).read_line(&mut line)?;
    let places: Value = serde_json::from_str(&line).context("the server did not say where it listens")?;
    let admin_url = places["admin_url"].as_str().context("no admin_url")?.to_owned();
    Ok((process, admin_url))
}

fn stop(process: &mut Child) {
    if !succeeds(Command::new("kill").args(["-TERM", &process.id().to_string()])) {
        let _ = process.kill();
    }
    let _ = process.wait();
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} MB, peak {} MB", self.now_bytes / 1_000_000, self.peak_bytes / 1_000_000)
    }
}
