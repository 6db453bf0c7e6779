//! What `quickstart` asks for when it is not told. Where there is no terminal, a missing answer is an error that names the option.

use std::path::PathBuf;

use flashfmt::Chip;

use crate::commands::{ask, options, wifi};
use crate::failure::Failure;
use crate::flash::serial::ports;
use crate::inspect::ImageFile;

/// The answer that there is no board.
const NO_BOARD: &str = "none";

/// The size of flash that most boards have.
const USUAL_FLASH: &str = "4MB";

/// The port that the board is on; `None` when there is no board.
pub(super) fn port() -> Result<Option<String>, Failure> {
    let ports = ports();
    // Others than those of USB are seldom a board's: they are shown where there is nothing else, and none is the usual one.
    let has_usb = ports.iter().any(|port| port.usb.is_some());
    let ports: Vec<_> = ports.into_iter().filter(|port| port.usb.is_some() || !has_usb).collect();
    let lines = ports.iter().enumerate().map(|(index, port)| {
        format!("\n  {}  {}  {}", index + 1, port.name, port.usb.as_deref().unwrap_or_default())
    });
    let lines: String = lines.collect();
    let names: Vec<_> = ports.iter().map(|port| port.name.as_str()).collect();
    let usual = if has_usb { "1" } else { NO_BOARD };
    let question = format!(
        "Which serial port is the board on?{lines}\nNumber or name, or {NO_BOARD} to go on without a board [{usual}]:"
    );
    ask::until(&question, |answer| port_of(if answer.is_empty() { usual } else { answer }, &names))
}

fn port_of(answer: &str, names: &[&str]) -> Result<Option<String>, String> {
    match (answer, answer.parse::<usize>()) {
        (NO_BOARD, _) => Ok(None),
        (_, Ok(number)) => match number.checked_sub(1).and_then(|index| names.get(index)) {
            Some(name) => Ok(Some((*name).to_owned())),
            None => Err(format!("expected the number of a port in the list, found {number}")),
        },
        (name, Err(_)) => Ok(Some(name.to_owned())),
    }
}

/// The chip of the boards.
pub(super) fn chip() -> Result<Chip, Failure> {
    ask::until("Chip of the boards, such as esp32c3:", options::chip)
}

/// The size of their flash, in bytes. A board may not tell it, so that a script can come here.
pub(super) fn flash_size() -> Result<u32, Failure> {
    if !ask::is_somebody_there() {
        let message =
            "the board does not tell the size of its flash: expected --flash-size SIZE or --layout LAYOUT";
        return Err(Failure::usage(message));
    }
    ask::until(&format!("Size of their flash [{USUAL_FLASH}]:"), |answer| {
        options::flash_size(if answer.is_empty() { USUAL_FLASH } else { answer })
    })
}

/// The application to publish, if there is one yet.
pub(super) fn app() -> Result<Option<PathBuf>, Failure> {
    ask::until("Application to publish, such as build/lamp.bin (Enter for none yet):", |answer| {
        if answer.is_empty() {
            return Ok(None);
        }
        let path = PathBuf::from(answer);
        ImageFile::read(&path).map_err(|error| error.to_string())?;
        Ok(Some(path))
    })
}

/// The network that the device joins, if it is known.
pub(super) fn network() -> Result<Option<String>, Failure> {
    ask::until(
        "Wi-Fi that the board joins (Enter for none: a browser sets it up over the serial port):",
        |answer| {
            if answer.is_empty() { Ok(None) } else { wifi::ssid(answer).map(Some) }
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_a_number_of_the_list_or_a_name() {
        let names = ["/dev/ttyACM0", "/dev/ttyUSB0"];
        for (answer, port) in [("2", Some("/dev/ttyUSB0")), ("COM3", Some("COM3")), ("none", None)] {
            assert_eq!(port_of(answer, &names).unwrap().as_deref(), port, "{answer}");
        }
        for wrong in ["0", "3"] {
            assert!(port_of(wrong, &names).unwrap_err().contains("in the list"), "{wrong}");
        }
    }
}
