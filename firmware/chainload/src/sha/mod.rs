//! SHA-256 in the chip's SHA engine, as a [`digest::Digest`].
//!
//! The engine works on one block at a time and keeps nothing in between: each hasher has its state in RAM and gives it
//! along with every block. So hashers may be cloned, and used in turns. Software takes about 130 instructions a byte;
//! here it is about four register accesses a word.
//!
//! Source: ESP-IDF `esp_hal_security/<chip>/include/hal/sha_ll.h`. The engine takes and gives words as they stand in
//! memory, that is with their bytes swapped.

#[cfg(feature = "esp32c3")]
#[path = "esp32c3.rs"]
mod engine;
#[cfg(feature = "esp32c6")]
#[path = "esp32c6.rs"]
mod engine;

use digest::block_buffer::Eager;
use digest::consts::{U32, U64};
use digest::core_api::{
    Block, BlockSizeUser, Buffer, BufferKindUser, CoreWrapper, FixedOutputCore, OutputSizeUser, UpdateCore,
};
use digest::{HashMarker, Output};

use crate::interrupts;
use crate::register::Register;

/// SHA-256 in the chip's SHA engine. The engine must not be used by anything else within an interrupt's handler.
pub type Sha256 = CoreWrapper<Sha256Core>;

/// The part of [`Sha256`] that sees whole blocks.
#[derive(Clone)]
pub struct Sha256Core {
    /// The hash of all blocks so far, as the engine has it.
    state: [u32; STATE_WORDS],
    blocks: u64,
}

const STATE_WORDS: usize = 8;
const BLOCK_BYTES: u64 = 64;

/// Initial hash value (FIPS 180-4, 5.3.3), as the engine has it.
const INITIAL_STATE: [u32; STATE_WORDS] = [
    0x6A09_E667_u32.swap_bytes(),
    0xBB67_AE85_u32.swap_bytes(),
    0x3C6E_F372_u32.swap_bytes(),
    0xA54F_F53A_u32.swap_bytes(),
    0x510E_527F_u32.swap_bytes(),
    0x9B05_688C_u32.swap_bytes(),
    0x1F83_D9AB_u32.swap_bytes(),
    0x5BE0_CD19_u32.swap_bytes(),
];

/// `SHA_MODE_REG` for SHA-256 (`SHA2_256` of `hal/sha_types.h`).
const MODE_SHA_256: u32 = 2;

const MODE: Register = register(0x00);
const CONTINUE: Register = register(0x14);
const BUSY: Register = register(0x18);
/// `SHA_H_MEM`: the hash.
const STATE: u32 = 0x40;
/// `SHA_M_MEM`: the block.
const MESSAGE: u32 = 0x80;

const fn register(offset: u32) -> Register {
    // SAFETY: the SHA engine's registers are from 0x00 to 0x2C, 0x40 to 0x7F and 0x80 to 0xBF. DMA is not used.
    unsafe { Register::at(engine::BASE_ADDR + offset) }
}

/// The registers of `STATE` or `MESSAGE`.
fn memory(offset: u32) -> impl Iterator<Item = Register> {
    (offset..).step_by(size_of::<u32>()).map(register)
}

impl Sha256Core {
    fn take(&mut self, block: &Block<Self>) {
        // Between the first and the last line the engine holds this hasher's state.
        interrupts::off(|| {
            engine::enable();
            MODE.write(MODE_SHA_256);
            memory(STATE).zip(self.state).for_each(|(register, word)| register.write(word));
            for (register, bytes) in memory(MESSAGE).zip(block.chunks_exact(size_of::<u32>())) {
                let word = bytes.iter().rev().fold(0, |word, byte| word << 8 | u32::from(*byte));
                register.write(word);
            }
            // Continue and not start: for the first block the state is the initial one.
            CONTINUE.write(1);
            while BUSY.read() != 0 {}
            self.state.iter_mut().zip(memory(STATE)).for_each(|(word, register)| *word = register.read());
        });
    }
}

impl Default for Sha256Core {
    fn default() -> Self {
        Self { state: INITIAL_STATE, blocks: 0 }
    }
}

impl HashMarker for Sha256Core {}

impl BlockSizeUser for Sha256Core {
    type BlockSize = U64;
}

impl BufferKindUser for Sha256Core {
    type BufferKind = Eager;
}

impl OutputSizeUser for Sha256Core {
    type OutputSize = U32;
}

impl UpdateCore for Sha256Core {
    fn update_blocks(&mut self, blocks: &[Block<Self>]) {
        for block in blocks {
            self.take(block);
        }
        self.blocks += blocks.len() as u64;
    }
}

impl FixedOutputCore for Sha256Core {
    fn finalize_fixed_core(&mut self, buffer: &mut Buffer<Self>, out: &mut Output<Self>) {
        let message_bits = 8 * (self.blocks * BLOCK_BYTES + buffer.get_pos() as u64);
        buffer.len64_padding_be(message_bits, |block| self.take(block));
        for (bytes, word) in out.chunks_exact_mut(size_of::<u32>()).zip(self.state) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
    }
}
