//! SHA accelerator in its typical mode: SHA-256, block by block (ESP32-C3 TRM v1.1, chapter 18).

const MODE: u32 = 0x00;
const START: u32 = 0x10;
const CONTINUE: u32 = 0x14;
const BUSY: u32 = 0x18;
const DATE: u32 = 0x2C;
const H_MEM: u32 = 0x40;
const H_MEM_END: u32 = 0x80;
const M_MEM: u32 = 0x80;
const M_MEM_END: u32 = 0xC0;

/// The value of `MODE`.
const SHA_256: u32 = 2;
/// FIPS 180-4, 5.3.3.
const INITIAL: [u32; 8] =
    [0x6A09_E667, 0xBB67_AE85, 0x3C6E_F372, 0xA54F_F53A, 0x510E_527F, 0x9B05_688C, 0x1F83_D9AB, 0x5BE0_CD19];

/// The engine.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sha {
    mode: u32,
    /// Words as a program reads them: the bytes of the big-endian state in their order.
    state: [u32; 8],
    message: [u32; 16],
}

impl Sha {
    pub(crate) fn read(&self, offset: u32) -> Option<u32> {
        Some(match offset {
            MODE => self.mode,
            // A block takes less time than the next read.
            BUSY => 0,
            H_MEM..H_MEM_END => self.state.get((offset - H_MEM) as usize / 4).copied().unwrap_or(0),
            M_MEM..M_MEM_END => self.message[(offset - M_MEM) as usize / 4],
            DATE => 0x2020_0617,
            _ => return None,
        })
    }

    pub(crate) fn write(&mut self, offset: u32, value: u32) -> Option<()> {
        match offset {
            MODE if value == SHA_256 => self.mode = value,
            START if value & 1 != 0 => {
                self.state = INITIAL.map(u32::swap_bytes);
                self.block();
            }
            CONTINUE if value & 1 != 0 => self.block(),
            START | CONTINUE => {}
            H_MEM..H_MEM_END => {
                if let Some(word) = self.state.get_mut((offset - H_MEM) as usize / 4) {
                    *word = value;
                }
            }
            M_MEM..M_MEM_END => self.message[(offset - M_MEM) as usize / 4] = value,
            _ => return None,
        }
        Some(())
    }

    fn block(&mut self) {
        let mut state = self.state.map(u32::swap_bytes);
        let mut block = [0; 64];
        for (bytes, word) in block.chunks_exact_mut(4).zip(self.message) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        sha2::compress256(&mut state, &[block.into()]);
        self.state = state.map(u32::swap_bytes);
    }
}
