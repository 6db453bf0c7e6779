//! Serial ports, and how a chip on one is spoken to.

/// As fast as common converters go without loss.
const DEFAULT_BAUD: u32 = 460_800;

/// A serial port of this computer.
pub(crate) struct Port {
    pub(crate) name: String,
    /// What the device on USB calls itself, when it is one.
    pub(crate) usb: Option<String>,
}

/// Which port, and how.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct SerialOptions {
    /// Baud rate after the connection is made
    #[arg(
        long,
        value_name = "RATE",
        default_value_t = DEFAULT_BAUD,
        requires = "port",
        help_heading = "Serial port"
    )]
    pub(super) baud: u32,

    /// The chip is in download mode already (BOOT held at reset); DTR and RTS are left alone
    #[arg(long, requires = "port", help_heading = "Serial port")]
    no_reset: bool,
}

impl SerialOptions {
    /// Whether the chip is reset after it was written, and so starts by itself.
    pub(crate) fn resets(&self) -> bool {
        !self.no_reset
    }

    /// The options again, for another command; none for what is the default.
    pub(crate) fn arguments(&self) -> Vec<String> {
        let baud = (self.baud != DEFAULT_BAUD).then(|| ["--baud".to_owned(), self.baud.to_string()]);
        let no_reset = self.no_reset.then(|| "--no-reset".to_owned());
        baud.into_iter().flatten().chain(no_reset).collect()
    }
}
