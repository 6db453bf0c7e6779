//! What can go wrong, grouped by what was tried.

use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;

/// Why there is no emulator; [`HOW_TO_INSTALL`](crate::HOW_TO_INSTALL) says what to do.
#[derive(Debug, thiserror::Error)]
pub enum FindError {
    /// No program of that name, and `PITSTOP_QEMU` names none.
    #[error("no {program} on PATH")]
    NotOnPath {
        /// The program's usual name.
        program: &'static str,
    },
    /// The program is not there, or is none.
    #[error("cannot start {}: {source}", .program.display())]
    Start {
        /// Which.
        program: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The program does not list its machines.
    #[error("`{} -machine help` failed: {status}", .program.display())]
    Status {
        /// Which.
        program: PathBuf,
        /// How it ended.
        status: ExitStatus,
    },
    /// A QEMU without the ESP32-C3.
    #[error("{} has no machine {machine}", .program.display())]
    NoMachine {
        /// Which.
        program: PathBuf,
        /// The machine that is needed.
        machine: &'static str,
    },
}

/// Why a machine did not do what was expected of it.
#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    /// The emulator does not start.
    #[error("cannot start {}: {source}", .program.display())]
    Start {
        /// Which.
        program: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What was waited for did not come in time.
    #[error("no {wanted} on the console in time{last_lines}")]
    Timeout {
        /// What was waited for.
        wanted: String,
        /// The console's last lines, each on a line of its own.
        last_lines: String,
    },
    /// The emulator is gone.
    #[error("the emulator ended before {wanted} was on its console{last_lines}")]
    Ended {
        /// What was waited for.
        wanted: String,
        /// The console's last lines, each on a line of its own.
        last_lines: String,
    },
    /// Something came that must not come.
    #[error("{found:?} on the console before {wanted}{last_lines}")]
    Unwanted {
        /// What came.
        found: String,
        /// What was waited for.
        wanted: String,
        /// The console's last lines, each on a line of its own.
        last_lines: String,
    },
    /// The flash file cannot be used.
    #[error("cannot use the flash file {}: {source}", .path.display())]
    Flash {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The chip's network cannot be made.
    #[error("no network for the chip: {0}")]
    Network(#[source] chip::net::NetworkError),
    /// The emulator's monitor is closed.
    #[error("the emulator does not take commands: {0}")]
    Monitor(#[source] io::Error),
    /// The emulator's debugger does not do what it is told.
    #[error("the emulator's debugger: {0}")]
    Debugger(#[source] io::Error),
}

/// A log that cannot be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {}: {source}", .path.display())]
pub struct LogError {
    /// Which file.
    pub path: PathBuf,
    /// Why.
    pub source: io::Error,
}
