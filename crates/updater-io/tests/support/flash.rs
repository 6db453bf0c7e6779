//! NOR flash: an erasure sets bytes to 0xff, a write clears bits, and power may fail inside either.

use embedded_storage::nor_flash::{
    ErrorType, NorFlash, NorFlashErrorKind, ReadNorFlash, check_erase, check_read, check_write,
};

/// A write that asks for a 1 where there is a 0 panics: that is a fault of the code under test.
#[derive(Clone)]
pub struct NorMock {
    pub bytes: Vec<u8>,
    pub erases: u32,
    pub writes: u32,
    /// So many more bytes are erased or written before the power fails; the one after them is torn.
    pub power_bytes: Option<usize>,
    /// Refuse writes to anything but blank bytes.
    pub blank_only: bool,
    /// Writes change nothing, and nobody says so.
    pub worn_out: bool,
    /// A bit that every read has wrong, although it is right: its address and its mask.
    pub misread: Option<(usize, u8)>,
}

impl NorMock {
    pub fn blank(size_bytes: usize) -> Self {
        Self::new(vec![0xff; size_bytes])
    }

    pub fn new(bytes: Vec<u8>) -> Self {
        Self {
            bytes,
            erases: 0,
            writes: 0,
            power_bytes: None,
            blank_only: false,
            worn_out: false,
            misread: None,
        }
    }

    /// The same flash after the power came back.
    pub fn revived(&self) -> Self {
        Self { power_bytes: None, ..self.clone() }
    }

    /// How many of `wanted_bytes` are done before the power fails, and whether it fails.
    fn draw(&mut self, wanted_bytes: usize) -> (usize, bool) {
        match &mut self.power_bytes {
            None => (wanted_bytes, false),
            Some(left_bytes) => {
                let done_bytes = wanted_bytes.min(*left_bytes);
                *left_bytes -= done_bytes;
                (done_bytes, done_bytes < wanted_bytes)
            }
        }
    }

    fn is_dead(&self) -> bool {
        self.power_bytes == Some(0)
    }
}

impl ErrorType for NorMock {
    type Error = NorFlashErrorKind;
}

impl ReadNorFlash for NorMock {
    const READ_SIZE: usize = 4;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), NorFlashErrorKind> {
        check_read(self, offset, bytes.len())?;
        let offset = offset as usize;
        bytes.copy_from_slice(&self.bytes[offset..offset + bytes.len()]);
        if let Some((address, mask)) = self.misread
            && (offset..offset + bytes.len()).contains(&address)
        {
            bytes[address - offset] ^= mask;
        }
        Ok(())
    }

    fn capacity(&self) -> usize {
        self.bytes.len()
    }
}

impl NorFlash for NorMock {
    const WRITE_SIZE: usize = 4;
    const ERASE_SIZE: usize = 4096;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), NorFlashErrorKind> {
        check_erase(self, from, to)?;
        let was_dead = self.is_dead();
        self.erases += 1;
        let (from, to) = (from as usize, to as usize);
        let (done_bytes, cut) = self.draw(to - from);
        self.bytes[from..from + done_bytes].fill(0xff);
        if cut {
            if !was_dead {
                self.bytes[from + done_bytes] |= 0xa5;
            }
            return Err(NorFlashErrorKind::Other);
        }
        Ok(())
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), NorFlashErrorKind> {
        check_write(self, offset, bytes.len())?;
        let was_dead = self.is_dead();
        self.writes += 1;
        let offset = offset as usize;
        for (index, new) in bytes.iter().enumerate() {
            let old = self.bytes[offset + index];
            // Who reads a bit wrong writes it back as it was read, and a 1 over a 0 leaves it.
            let is_misread = self.misread.is_some_and(|(address, _)| address == offset + index);
            assert!(old & new == *new || is_misread, "write to unerased flash at {:#x}", offset + index);
            assert!(!self.blank_only || old == 0xff, "write to a written place at {:#x}", offset + index);
        }
        if self.worn_out {
            return Ok(());
        }
        let (done_bytes, cut) = self.draw(bytes.len());
        for (index, new) in bytes.iter().enumerate().take(done_bytes) {
            self.bytes[offset + index] &= new;
        }
        if cut {
            if !was_dead {
                // Some bits of the next byte are cleared.
                self.bytes[offset + done_bytes] &= bytes[done_bytes] | 0xa5;
            }
            return Err(NorFlashErrorKind::Other);
        }
        Ok(())
    }
}
