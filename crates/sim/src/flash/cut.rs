//! Losing power in the middle of a flash operation.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// One planned loss of power.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PowerCut {
    /// The mutating operation in which power is lost, counted from 1 since the plan was armed.
    pub operation: u64,
    /// What the operation leaves behind.
    pub tear: Tear,
    /// Seed of the random bits in the tear.
    pub seed: u64,
}

/// What an operation that loses power leaves behind. Each of them is possible for a write and for an erase.
///
/// A bit that the operation would not change never changes (`MultiwriteNorFlash` of embedded-storage 0.3 promises
/// it for writes), so tears differ only in which of the other bits have changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Tear {
    /// Nothing is done.
    Before,
    /// The first bytes are done, and at random some bits of the byte after them. At most the last byte is left.
    Prefix {
        /// How many bytes are done.
        bytes: u32,
    },
    /// Each bit is done or not at random: what an interrupted page program or sector erase looks like inside.
    Bits,
    /// The same, and three of eight bits that were about to change are left between 0 and 1: they read as one or the
    /// other from read to read, until an erase that ends, or a write that clears them.
    Unstable,
    /// Everything is done, but the caller never learns it.
    After,
}

impl Tear {
    /// The tears worth trying in an operation of `bytes` bytes: none, some and all of it.
    pub fn samples(bytes: u32) -> [Tear; 5] {
        [Tear::Before, Tear::Prefix { bytes: 0 }, Tear::Prefix { bytes: bytes / 2 }, Tear::Bits, Tear::After]
    }

    /// Every class of tear in an operation of `bytes` bytes: a write can stop at the first byte, at and beside the
    /// boundaries that formats care about (word, 32-byte entry, 256-byte page of the chip), in the middle, and before
    /// the last byte.
    pub fn classes(bytes: u32) -> Vec<Tear> {
        let positions = [0, 1, 3, 4, 31, 32, 255, 256, bytes / 2, bytes.saturating_sub(1)];
        let mut positions: Vec<_> = positions.into_iter().filter(|position| *position < bytes).collect();
        positions.sort_unstable();
        positions.dedup();
        let prefixes = positions.into_iter().map(|bytes| Tear::Prefix { bytes });
        [Tear::Before].into_iter().chain(prefixes).chain([Tear::Bits, Tear::Unstable, Tear::After]).collect()
    }

    /// What stands where an operation was interrupted that makes `after` out of `before`; both are as long. Of
    /// [`Tear::Unstable`] one reading.
    pub fn torn(self, before: &[u8], after: &[u8], seed: u64) -> Vec<u8> {
        let mut torn = before.to_vec();
        self.apply(&mut torn, |index, byte| after.get(index).copied().unwrap_or(byte), seed, |_, _| {});
        torn
    }

    /// Changes `current` as an interrupted operation would that was about to make it `target`. Tells `unstable` the
    /// offset of each byte with bits that are left between 0 and 1, and a mask of these.
    pub(crate) fn apply(
        self,
        current: &mut [u8],
        target: impl Fn(usize, u8) -> u8,
        seed: u64,
        mut unstable: impl FnMut(usize, u8),
    ) {
        let mut random = StdRng::seed_from_u64(seed);
        let last = current.len().saturating_sub(1);
        for (index, byte) in current.iter_mut().enumerate() {
            let done = target(index, *byte);
            match self {
                Tear::Before => {}
                Tear::Prefix { bytes } => {
                    let whole = (bytes as usize).min(last);
                    if index < whole {
                        *byte = done;
                    } else if index == whole {
                        *byte ^= (*byte ^ done) & random.r#gen::<u8>();
                    }
                }
                Tear::Bits => *byte ^= (*byte ^ done) & random.r#gen::<u8>(),
                Tear::Unstable => {
                    let changing = *byte ^ done;
                    *byte ^= changing & random.r#gen::<u8>();
                    // Three of eight.
                    let mask =
                        changing & random.r#gen::<u8>() & (random.r#gen::<u8>() | random.r#gen::<u8>());
                    if mask != 0 {
                        unstable(index, mask);
                    }
                }
                Tear::After => *byte = done,
            }
        }
    }
}
