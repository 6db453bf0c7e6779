//! An emulated ESP32-C3: switching the chip on and off, reading its console, letting it hang.
//!
//! | type | what |
//! | --- | --- |
//! | [`Emulator`] | what the chip is: the crate `chip`, or a QEMU with the machine `esp32c3` |
//! | [`Machine`] | a chip with power, and the lines of its console |
//! | [`Symbols`] | the names of functions, for the last line of a console that ends at an address |
//! | [`Watch`] | what a machine does beside printing, as lines of its console |
//! | [`Log`] | every line of the console in a file, with the time |
//!
//! The chip's flash is a file of 2, 4, 8 or 16 MB, as `pitstop flash --image` writes it; what the chip writes to its
//! flash is in the file once it waits for something. Its network is an OpenCores Ethernet controller (`open_eth`) behind a
//! user-mode network, in which [`HOST_SEEN_FROM_INSIDE`] is this computer.
//!
//! Everything blocks; in an async program, call it where blocking is allowed.

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod board;
mod debugger;
mod error;
mod log;
mod machine;
mod process;
mod qemu;
mod symbols;
mod watch;

pub use error::{FindError, LogError, MachineError};
pub use log::Log;
pub use machine::{Emulator, Machine};
pub use qemu::{HOW_TO_INSTALL, Qemu};
pub use symbols::{ElfId, Symbols, SymbolsError};
pub use watch::Watch;

use debugger::Debugger;

/// The address by which the chip reaches this computer's loopback (QEMU, "Network emulation", user mode).
pub const HOST_SEEN_FROM_INSIDE: &str = "10.0.2.2";
