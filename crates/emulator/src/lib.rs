//! An emulated ESP32-C3: finding the emulator, switching the chip on and off, reading its console.
//!
//! | type | what |
//! | --- | --- |
//! | [`Emulator`] | a QEMU with the machine `esp32c3`, found on this computer |
//! | [`Machine`] | a chip with power, and the lines of its console |
//! | [`Debugger`] | stops a chip and makes its processor hang or crash |
//! | [`Log`] | every line of the console in a file, with the time |
//!
//! The chip's flash is a file of 2, 4, 8 or 16 MB, as `pitstop flash --image` writes it; what the chip writes to its
//! flash is in the file at once. Its network is an OpenCores Ethernet controller (`open_eth`) behind the emulator's
//! user-mode network, in which [`HOST_SEEN_FROM_INSIDE`] is this computer.
//!
//! Everything blocks; in an async program, call it where blocking is allowed.

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod debugger;
mod error;
mod find;
mod log;
mod machine;

pub use debugger::Debugger;
pub use error::{FindError, LogError, MachineError};
pub use find::{Emulator, HOW_TO_INSTALL};
pub use log::Log;
pub use machine::Machine;

/// The address by which the chip reaches this computer's loopback (QEMU, "Network emulation", user mode).
pub const HOST_SEEN_FROM_INSIDE: &str = "10.0.2.2";
