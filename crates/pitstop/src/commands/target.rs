//! `--port` or `--image`: where a command writes to.

use std::path::PathBuf;

use clap::{ArgGroup, Args};
use serde::Serialize;

use crate::failure::Failure;
use crate::flash::serial_options::SerialOptions;

/// Options of commands that write to a flash.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("target").args(["port", "image"]).required(true))]
pub(crate) struct TargetOptions {
    /// The serial port that the chip is on
    #[arg(long, value_name = "PORT")]
    port: Option<String>,

    /// A flash file instead of a chip: all of the flash, byte for byte, for factories and emulators
    #[arg(long, value_name = "FILE")]
    image: Option<PathBuf>,

    #[command(flatten)]
    serial: SerialOptions,
}

/// Where to write to.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Target {
    /// The chip on this serial port.
    Port(String),
    /// This flash file.
    Image(PathBuf),
}

impl TargetOptions {
    /// The one that was chosen, and how to talk to a chip.
    pub(crate) fn choose(self) -> Result<(Target, SerialOptions), Failure> {
        let Self { port, image, serial } = self;
        let target = match (port, image) {
            (Some(port), _) => Target::Port(port),
            (None, Some(_)) if !serial.resets() => {
                return Err(Failure::usage("expected --no-reset with --port, found it with --image"));
            }
            (None, Some(image)) => Target::Image(image),
            // clap says this before.
            (None, None) => return Err(Failure::usage("expected --port or --image")),
        };
        Ok((target, serial))
    }
}
