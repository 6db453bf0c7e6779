//! In place of `bundled.rs`.

use flashfmt::Chip;

/// Why there is none.
#[derive(Debug, thiserror::Error)]
#[error("{}", super::WITHOUT_BOARD)]
pub(crate) struct Error;

pub(super) fn bootloader(_: Chip, _: u32) -> Result<Vec<u8>, Error> {
    Err(Error)
}
