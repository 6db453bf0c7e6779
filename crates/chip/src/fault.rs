//! What a run ends with that no program on silicon would survive, or that the model does not know.

use std::fmt;

use crate::registers;

/// How memory is accessed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// An instruction is fetched.
    Fetch,
    /// Data is read.
    Load,
    /// Data is written.
    Store,
}

/// Why a run cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A register that is not modelled.
    Register {
        /// Its address.
        addr: u32,
        /// What was tried.
        access: Access,
    },
    /// A pointer that was given to the ROM or to a peripheral leads to nothing.
    Nothing {
        /// The address.
        addr: u32,
        /// What was tried.
        access: Access,
    },
    /// A function of the ROM that is not modelled.
    RomFunction {
        /// Its address.
        addr: u32,
    },
    /// Data of the ROM.
    RomData {
        /// Its address.
        addr: u32,
    },
    /// Flash was accessed through the cache while it erased or programmed. Silicon gives rubbish.
    FlashBusy {
        /// The address in the cache's window.
        addr: u32,
        /// What was tried.
        access: Access,
    },
    /// Flash was accessed through the cache, which may still hold what was there before a change. Silicon gives one or the
    /// other.
    FlashChanged {
        /// The address in the cache's window.
        addr: u32,
        /// What was tried.
        access: Access,
    },
    /// A function of the ROM that uses the flash, while it still erases or programs for another call.
    FlashInUse,
    /// The processor sleeps, and nothing can wake it.
    SleepsForEver,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Register { addr, access } => {
                let name = registers::name_of(addr);
                write!(f, "{access:?} of register {name} at {addr:#010x}, which is not modelled")
            }
            Self::Nothing { addr, access } => {
                write!(f, "{access:?} at {addr:#010x}, where there is nothing, by the ROM or a peripheral")
            }
            Self::RomFunction { addr } => {
                let name = registers::rom_function(addr).unwrap_or("without a name");
                write!(f, "call of the ROM's function {name} at {addr:#010x}, which is not modelled")
            }
            Self::RomData { addr } => {
                write!(f, "load from the ROM at {addr:#010x}, whose data is not modelled")
            }
            Self::FlashBusy { addr, access } => write!(
                f,
                "{access:?} from {addr:#010x} through the cache while the flash erases or programs; interrupts must be \
                 off, and code and data in RAM"
            ),
            Self::FlashChanged { addr, access } => write!(
                f,
                "{access:?} from {addr:#010x} through the cache, which may hold what was there before the flash was \
                 changed; invalidate it first"
            ),
            Self::FlashInUse => f.write_str(
                "the flash is to read, program or erase while it still erases or programs for somebody else; interrupts \
                 must be off, or their handlers leave the flash alone",
            ),
            Self::SleepsForEver => f.write_str("waits for an interrupt that cannot come"),
        }
    }
}

impl std::error::Error for Fault {}
