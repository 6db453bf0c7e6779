//! What the processor sees of the rest of the chip.

/// Why an access was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The address is no multiple of the access's size.
    Misaligned,
    /// There is nothing, or nothing that may be accessed in this way.
    Fault,
    /// There is something that the model does not have. The run ends; the memory knows what it was.
    Stop,
}

/// Memory as the processor sees it. Addresses are bytes, words are little-endian.
pub trait Memory {
    /// The 16 bits of an instruction at an even address.
    ///
    /// # Errors
    /// Nothing can be executed there.
    fn fetch(&mut self, addr: u32) -> Result<u16, Refused>;

    /// A byte.
    ///
    /// # Errors
    /// It cannot be read.
    fn load_8(&mut self, addr: u32) -> Result<u8, Refused>;

    /// Two bytes at an even address.
    ///
    /// # Errors
    /// They cannot be read.
    fn load_16(&mut self, addr: u32) -> Result<u16, Refused>;

    /// Four bytes at a multiple of four.
    ///
    /// # Errors
    /// They cannot be read.
    fn load_32(&mut self, addr: u32) -> Result<u32, Refused>;

    /// Writes a byte.
    ///
    /// # Errors
    /// It cannot be written.
    fn store_8(&mut self, addr: u32, value: u8) -> Result<(), Refused>;

    /// Writes two bytes at an even address.
    ///
    /// # Errors
    /// They cannot be written.
    fn store_16(&mut self, addr: u32, value: u16) -> Result<(), Refused>;

    /// Writes four bytes at a multiple of four.
    ///
    /// # Errors
    /// They cannot be written.
    fn store_32(&mut self, addr: u32, value: u32) -> Result<(), Refused>;

    /// Forgets what the last access was refused for: nothing depends on it.
    fn forget_refusal(&mut self) {}

    /// A number that changes when the code at `addr`, or in the 192 bytes from there that a block spans at most, may have
    /// changed since it was fetched.
    fn code_version(&self, addr: u32) -> u64;

    /// So many instructions were executed since it was said last. Whether somebody has to look at the rest of the chip before
    /// the next ones.
    fn executed(&mut self, instructions: u64) -> bool;

    /// Whether the processor, at the address where it is awaited, is there in the program that is meant.
    fn is_awaited(&self) -> bool {
        true
    }

    /// Whether an interrupt waits for a processor that takes some.
    fn has_interrupt(&self) -> bool;
}
