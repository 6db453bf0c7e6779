//! From files to a flash: what goes where, and writing it to a chip or into a file.
//!
//! | module | what |
//! | --- | --- |
//! | `plan` | the plan: which bytes go where; without IO |
//! | `bootloader` | the second-stage bootloader, its header made to suit the flash |
//! | `bundled` | the ones that espflash brings along |
//! | `rollback` | whether a bootloader returns to the updater |
//! | `vault` | the vault's bytes |
//! | `data` | files for data partitions |
//! | `present` | what a chip has already, and would lose |
//! | `updater` | the updater's image: given, or built in this repository |
//! | `file` | a plan as a flash file; a vault in one |
//! | `serial`, `serial_options` | a plan on a chip, by espflash |
//! | `without_board` | what stands in for espflash in a program without the feature `board` |
//!
//! A plan is made before anything is written or asked of the server. Chip and file get the same plan.

pub(crate) mod bootloader;
#[cfg_attr(not(feature = "board"), path = "without_board/bundled.rs")]
pub(crate) mod bundled;
pub(crate) mod data;
pub(crate) mod file;
pub(crate) mod plan;
pub(crate) mod present;
pub(crate) mod rollback;
#[cfg_attr(not(feature = "board"), path = "without_board/serial.rs")]
pub(crate) mod serial;
pub(crate) mod serial_options;
pub(crate) mod updater;
pub(crate) mod vault;

use std::error::Error;

#[cfg(not(feature = "board"))]
const WITHOUT_BOARD: &str = "this program was built without what it takes to write to a board";
#[cfg(not(feature = "board"))]
const BUILD_WITH_BOARD: &str = "build it as it is by default: cargo install --path crates/pitstop";

/// An error and what caused it, in one line; a cause that the text before it ends with is not repeated.
pub(crate) fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let reason = error.to_string();
        if !text.ends_with(&reason) {
            text += &format!(": {reason}");
        }
        cause = error.source();
    }
    text
}
