//! A chip on a serial port, by espflash. Thin on purpose: what is written is the plan's matter.

use std::path::Path;
use std::time::Duration;

use espflash::command::Command;
use espflash::connection::{Connection, ResetAfterOperation, ResetBeforeOperation};
use espflash::flasher::Flasher;
use espflash::image_format::Segment;
use espflash::target::ProgressCallbacks;
use flashfmt::partition::{TABLE_BYTES, TABLE_OFFSET};
use serialport::{SerialPortInfo, SerialPortType, UsbPortInfo};

use super::plan::Part;
use super::serial_options::{Port, SerialOptions};
use super::with_causes;
use crate::failure::Failure;
use crate::ui::{ByteProgress, Ui};

/// The rate that espflash expects a port to begin with.
const FIRST_BAUD: u32 = 115_200;

/// What espflash's documentation of `try_connect` asks for.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Sector-sized blocks, as many under way at once as espflash's own command line reads with.
const READ_BLOCK_BYTES: u32 = 0x1000;
const READ_BLOCKS_IN_FLIGHT: u32 = 0x40;

/// The stub writes whole words.
const WORD_BYTES: usize = 4;

/// Why a chip could not be read or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SerialError {
    /// The port could not be opened.
    #[error("the serial port {port} cannot be opened: {source}")]
    Open {
        /// Which.
        port: String,
        /// Why.
        source: serialport::Error,
    },
    /// Nothing that speaks as a chip in download mode.
    #[error("no chip answers on {port}: {}", with_causes(.source))]
    NoAnswer {
        /// Which port.
        port: String,
        /// What espflash says.
        source: Box<espflash::Error>,
    },
    /// Another chip than the plan is for.
    #[error("expected {expected} on {port}, found {found}")]
    Chip {
        /// Which port.
        port: String,
        /// The plan's chip.
        expected: String,
        /// The one there.
        found: String,
    },
    /// A flash that is too small for the layout.
    #[error("the layout needs {needed_bytes} bytes of flash, the chip on {port} has {found_bytes}")]
    FlashTooSmall {
        /// Which port.
        port: String,
        /// What the layout needs.
        needed_bytes: u32,
        /// What there is.
        found_bytes: u32,
    },
    /// The connection broke, or the chip refused.
    #[error("the chip on {port} could not be {verb}: {}", with_causes(.source))]
    Transfer {
        /// Which port.
        port: String,
        /// `read`, `written` or `reset`.
        verb: &'static str,
        /// What espflash says.
        source: Box<espflash::Error>,
    },
    /// No room for what is read.
    #[error("no temporary file can be made for what is read from the chip: {0}")]
    Temporary(#[source] std::io::Error),
}

/// A chip in download mode.
pub(crate) struct SerialChip {
    port: String,
    flasher: Flasher,
    resets: bool,
}

impl SerialChip {
    /// Resets the chip on `port` into download mode and loads espflash's stub. What broke in the middle is tried once more; where
    /// nothing answers at all, espflash has tried often enough.
    pub(crate) fn connect(port: &str, options: &SerialOptions, ui: &Ui) -> Result<Self, SerialError> {
        let spinner = ui.spinner(&format!("connecting to the chip on {port}"));
        let flasher = match Self::try_connect(port, options) {
            Err(SerialError::NoAnswer { source, .. }) if broke_in_the_middle(&source) => {
                spinner.note("the connection broke; once more");
                Self::try_connect(port, options)?
            }
            other => other?,
        };
        Ok(Self { port: port.to_owned(), flasher, resets: options.resets() })
    }

    fn try_connect(port: &str, options: &SerialOptions) -> Result<Flasher, SerialError> {
        let serial = serialport::new(port, FIRST_BAUD)
            .timeout(CONNECT_TIMEOUT)
            .open_native()
            .map_err(|source| SerialError::Open { port: port.to_owned(), source })?;
        let before =
            if options.resets() { ResetBeforeOperation::DefaultReset } else { ResetBeforeOperation::NoReset };
        // The chip is written to more than once, and left by `finish`.
        let after = ResetAfterOperation::NoResetNoStub;
        let connection = Connection::new(serial, usb_info(port), after, before, FIRST_BAUD);
        let (use_stub, verify, skip_unchanged) = (true, true, true);
        Flasher::connect(connection, use_stub, verify, skip_unchanged, None, Some(options.baud))
            .map_err(|source| SerialError::NoAnswer { port: port.to_owned(), source: Box::new(source) })
    }

    /// The chip's name, as [`flashfmt::Chip::name`] has it.
    pub(crate) fn name(&self) -> String {
        self.flasher.chip().to_string()
    }

    /// Size of the flash in bytes, when it tells.
    pub(crate) fn flash_bytes(&mut self) -> Result<Option<u32>, SerialError> {
        let size = self.flasher.flash_detect().map_err(|source| self.transfer("read", source))?;
        Ok(size.map(espflash::flasher::FlashSize::size))
    }

    /// Refuses another chip than `chip`, and a flash below `needed_bytes`.
    pub(crate) fn check(&mut self, chip: flashfmt::Chip, needed_bytes: u32) -> Result<(), SerialError> {
        let (port, found) = (self.port.clone(), self.name());
        if found != chip.name() {
            return Err(SerialError::Chip { port, expected: chip.name().to_owned(), found });
        }
        match self.flash_bytes()? {
            Some(found_bytes) if found_bytes < needed_bytes => {
                Err(SerialError::FlashTooSmall { port, needed_bytes, found_bytes })
            }
            // A flash that does not tell its size is taken for large enough: the bootloader will say.
            Some(_) | None => Ok(()),
        }
    }

    /// Reads the partition table.
    pub(crate) fn read_table(&mut self) -> Result<Vec<u8>, SerialError> {
        self.read(TABLE_OFFSET, TABLE_BYTES as u32)
    }

    /// Reads a part of the flash.
    pub(crate) fn read(&mut self, offset: u32, size_bytes: u32) -> Result<Vec<u8>, SerialError> {
        let file = tempfile::NamedTempFile::new().map_err(SerialError::Temporary)?;
        let path = file.path().to_owned();
        self.flasher
            .read_flash(offset, size_bytes, READ_BLOCK_BYTES, READ_BLOCKS_IN_FLIGHT, path)
            .map_err(|source| self.transfer("read", source))?;
        std::fs::read(file.path()).map_err(SerialError::Temporary)
    }

    /// Writes the parts and verifies each by its MD5. Parts that are there already are not written again.
    pub(crate) fn write(&mut self, parts: &[Part], ui: &Ui) -> Result<(), SerialError> {
        let segments: Vec<Segment<'_>> = parts.iter().map(segment).collect();
        let mut progress = PartProgress::new(parts, ui);
        self.flasher
            .write_bins_to_flash(&segments, &mut progress)
            .map_err(|source| self.transfer("written", source))
    }

    /// Resets the chip if [`SerialOptions::resets`]; otherwise it goes back from the stub to the ROM's download mode, and can be
    /// asked again.
    pub(crate) fn finish(mut self) -> Result<(), SerialError> {
        let connection = self.flasher.connection();
        let left = if self.resets {
            connection.reset()
        } else {
            // As espflash leaves its stub, whose own function for it is private: an empty write that ends in a restart.
            let (size, blocks, block_size, offset) = (0, 0, READ_BLOCK_BYTES, 0);
            let begin = Command::FlashBegin { size, blocks, block_size, offset, supports_encryption: false };
            connection
                .command(begin)
                .and_then(|_| connection.write_command(Command::FlashEnd { reboot: true }))
        };
        left.map_err(|source| self.transfer("reset", source))
    }

    fn transfer(&self, verb: &'static str, source: espflash::Error) -> SerialError {
        SerialError::Transfer { port: self.port.clone(), verb, source: Box::new(source) }
    }
}

/// What espflash says when its tries to connect are over; the error itself is private there.
const NEVER_ANSWERED: [&str; 2] = ["Failed to connect to the device", "Download mode successfully detected"];
const WRONG_BOOT_MODE: &str = "Wrong boot mode detected";

/// Whether the chip answered before the connection failed.
fn broke_in_the_middle(error: &espflash::Error) -> bool {
    match error {
        espflash::Error::Connection(cause) => {
            let text = cause.to_string();
            !NEVER_ANSWERED.into_iter().chain([WRONG_BOOT_MODE]).any(|never| text.starts_with(never))
        }
        espflash::Error::Flashing(_) | espflash::Error::RomError(_) | espflash::Error::FlashConnect => true,
        // espflash's error is non-exhaustive; the rest says something of the chip.
        _ => false,
    }
}

fn segment(part: &Part) -> Segment<'_> {
    let mut segment = Segment::new(part.offset, &part.bytes);
    let padded_bytes = part.bytes.len().next_multiple_of(WORD_BYTES);
    if padded_bytes > part.bytes.len() {
        segment.data.to_mut().resize(padded_bytes, 0xFF);
    }
    segment
}

/// The serial ports that are there, those of USB first.
pub(crate) fn ports() -> Vec<Port> {
    let port = |found: SerialPortInfo| Port {
        name: found.port_name,
        usb: match found.port_type {
            SerialPortType::UsbPort(info) => Some(info.product.unwrap_or_default()),
            SerialPortType::PciPort | SerialPortType::BluetoothPort | SerialPortType::Unknown => None,
        },
    };
    let mut ports: Vec<_> = listed().into_iter().map(port).collect();
    ports.sort_by_key(|port| (port.usb.is_none(), port.name.clone()));
    ports
}

fn listed() -> Vec<SerialPortInfo> {
    // serialport panics where Linux has none of its lists.
    if cfg!(target_os = "linux") && !Path::new("/sys/class/tty").is_dir() {
        return Vec::new();
    }
    serialport::available_ports().unwrap_or_default()
}

/// What USB says of the port: espflash resets a chip's own USB differently from a converter.
fn usb_info(port: &str) -> UsbPortInfo {
    // Ports are listed by their own names, and often asked for by a link such as /dev/serial/by-id/….
    let name = std::fs::canonicalize(port).map_or_else(|_| port.into(), |path| path.display().to_string());
    let usb = listed().into_iter().find_map(|known| match known.port_type {
        SerialPortType::UsbPort(info) if known.port_name == name => Some(info),
        SerialPortType::UsbPort(_)
        | SerialPortType::PciPort
        | SerialPortType::BluetoothPort
        | SerialPortType::Unknown => None,
    });
    usb.unwrap_or(UsbPortInfo { vid: 0, pid: 0, serial_number: None, manufacturer: None, product: None })
}

/// espflash's reports, which count chunks of one part, as one bar over the bytes of all parts.
struct PartProgress<'a> {
    parts: &'a [Part],
    bar: ByteProgress,
    /// Bytes of the parts before this one.
    done_bytes: u64,
    index: usize,
    chunks: usize,
}

impl<'a> PartProgress<'a> {
    fn new(parts: &'a [Part], ui: &Ui) -> Self {
        let total_bytes = parts.iter().map(|part| part.bytes.len() as u64).sum();
        let bar = ui.byte_progress("flashing", total_bytes);
        Self { parts, bar, done_bytes: 0, index: 0, chunks: 1 }
    }

    fn part_bytes(&self) -> u64 {
        self.parts.get(self.index).map_or(0, |part| part.bytes.len() as u64)
    }
}

impl ProgressCallbacks for PartProgress<'_> {
    fn init(&mut self, _address: u32, chunks: usize) {
        self.chunks = chunks.max(1);
        if let Some(part) = self.parts.get(self.index) {
            // Of one width, so that the bar stands still: `partition table` is the longest that is usual.
            self.bar.label(&format!("{:15}", part.name));
        }
    }

    fn update(&mut self, chunk: usize) {
        let part_bytes = self.part_bytes() * chunk as u64 / self.chunks as u64;
        self.bar.set(self.done_bytes + part_bytes);
    }

    fn verifying(&mut self) {}

    /// Called once for each part, also for one that is there already; `init` is not called for those.
    fn finish(&mut self, _skipped: bool) {
        self.done_bytes += self.part_bytes();
        self.index += 1;
        self.bar.set(self.done_bytes);
    }
}

impl SerialError {
    /// Nothing answered: the board may be on another port.
    pub(crate) fn is_of_port(&self) -> bool {
        matches!(self, Self::Open { .. } | Self::NoAnswer { .. })
    }
}

impl From<SerialError> for Failure {
    fn from(error: SerialError) -> Self {
        let hint = match &error {
            SerialError::Open { source, .. } => open_hint(source),
            SerialError::NoAnswer { source, .. } => Some(no_answer_hint(source).to_owned()),
            SerialError::Chip { .. } => Some("choose a product with this chip, or another port".to_owned()),
            SerialError::FlashTooSmall { .. } => {
                Some("choose a smaller layout: `pitstop layout list` shows the built-in ones".to_owned())
            }
            SerialError::Transfer { source, .. } if matches!(**source, espflash::Error::VerifyFailed) => Some(
                "the flash does not hold what was written: try again, and if it happens again, the flash is worn out, \
                 write-protected or without enough power"
                    .to_owned(),
            ),
            SerialError::Transfer { .. } => Some(
                "see that cable and power supply hold, then give the same command again; if it happens again, with a lower \
                 rate: --baud 115200"
                    .to_owned(),
            ),
            SerialError::Temporary(_) => None,
        };
        Failure::new(error.to_string()).maybe_hint(hint)
    }
}

fn no_answer_hint(error: &espflash::Error) -> &'static str {
    if let espflash::Error::Connection(cause) = error
        && cause.to_string().starts_with(WRONG_BOOT_MODE)
    {
        return "the chip started its program instead of the download mode: hold BOOT, press RESET, and give --no-reset";
    }
    if broke_in_the_middle(error) {
        return "a chip answered, and then no more: see that cable and power supply hold, leave hubs out, then give the same \
                command again";
    }
    "close other programs that use the port, try another USB cable (some only charge), or hold BOOT, press RESET, and give \
     --no-reset"
}

fn open_hint(error: &serialport::Error) -> Option<String> {
    use serialport::ErrorKind;
    use std::io::ErrorKind as Io;

    match error.kind() {
        ErrorKind::Io(Io::PermissionDenied) => Some(
            "your user may not use it: on Linux, `sudo usermod -aG dialout $USER`, then log in again".into(),
        ),
        ErrorKind::NoDevice | ErrorKind::Io(_) | ErrorKind::InvalidInput | ErrorKind::Unknown => {
            let names: Vec<String> = ports().into_iter().map(|port| port.name).collect();
            Some(match names.as_slice() {
                [] => "no serial port is there: is the board connected?".to_owned(),
                names => format!("serial ports that are there: {}", names.join(", ")),
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_bar_covers_all_parts_also_skipped_ones() {
        let part = |name: &str, length| Part { name: name.to_owned(), offset: 0, bytes: vec![0; length] };
        let parts = [part("a", 1000), part("b", 500), part("c", 10)];
        let mut progress = PartProgress::new(&parts, &Ui::new(true));
        progress.init(0, 4);
        progress.update(1);
        assert_eq!(progress.bar.position(), 250);
        progress.finish(false);
        progress.finish(true);
        assert_eq!(progress.bar.position(), 1500);
        progress.init(0, 1);
        progress.update(1);
        progress.finish(false);
        assert_eq!(progress.bar.position(), 1510);
    }

    #[test]
    fn segments_are_whole_words() {
        let part = Part { name: "app".to_owned(), offset: 0x1000, bytes: vec![1; 5] };
        assert_eq!(
            (segment(&part).addr, segment(&part).data()),
            (0x1000, &[1, 1, 1, 1, 1, 0xFF, 0xFF, 0xFF][..])
        );
    }
}
