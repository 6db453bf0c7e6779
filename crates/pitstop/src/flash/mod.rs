//! From files to a flash: what goes where, and writing it to a chip or into a file.
//!
//! | module | what |
//! | --- | --- |
//! | `plan` | the plan: which bytes go where; without IO |
//! | `bootloader` | the second-stage bootloader, its header made to suit the flash |
//! | `rollback` | whether a bootloader returns to the updater |
//! | `vault` | the vault's bytes |
//! | `data` | files for data partitions |
//! | `present` | what a chip has already, and would lose |
//! | `updater` | the updater's image: given, or built in this repository |
//! | `file` | a plan as a flash file; a vault in one |
//! | `serial` | a plan on a chip, by espflash |
//!
//! A plan is made before anything is written or asked of the server. Chip and file get the same plan.

pub(crate) mod bootloader;
pub(crate) mod data;
pub(crate) mod file;
pub(crate) mod plan;
pub(crate) mod present;
pub(crate) mod rollback;
pub(crate) mod serial;
pub(crate) mod updater;
pub(crate) mod vault;

use std::error::Error;

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
