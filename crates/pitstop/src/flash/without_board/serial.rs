//! In place of `serial.rs`: there are no chips.

use flashfmt::Chip;

use super::plan::Part;
use super::serial_options::{Port, SerialOptions};
use crate::failure::Failure;
use crate::ui::Ui;

/// Why a chip could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("{}", super::WITHOUT_BOARD)]
pub(crate) struct SerialError;

pub(crate) enum SerialChip {}

impl SerialChip {
    pub(crate) fn connect(_: &str, _: &SerialOptions, _: &Ui) -> Result<Self, SerialError> {
        Err(SerialError)
    }

    pub(crate) fn name(&self) -> String {
        match *self {}
    }

    pub(crate) fn flash_bytes(&mut self) -> Result<Option<u32>, SerialError> {
        match *self {}
    }

    pub(crate) fn check(&mut self, _: Chip, _: u32) -> Result<(), SerialError> {
        match *self {}
    }

    pub(crate) fn read_table(&mut self) -> Result<Vec<u8>, SerialError> {
        match *self {}
    }

    pub(crate) fn read(&mut self, _: u32, _: u32) -> Result<Vec<u8>, SerialError> {
        match *self {}
    }

    pub(crate) fn write(&mut self, _: &[Part], _: &Ui) -> Result<(), SerialError> {
        match *self {}
    }

    pub(crate) fn finish(self) -> Result<(), SerialError> {
        match self {}
    }
}

pub(crate) fn ports() -> Vec<Port> {
    Vec::new()
}

impl SerialError {
    pub(crate) fn is_of_port(&self) -> bool {
        false
    }
}

impl From<SerialError> for Failure {
    fn from(error: SerialError) -> Self {
        Self::new(error.to_string()).hint(super::BUILD_WITH_BOARD)
    }
}
