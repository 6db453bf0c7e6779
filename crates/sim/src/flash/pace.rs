//! How long a flash keeps the chip waiting.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::{BLOCK_BYTES, SECTOR_BYTES};

/// Pages are programmed one by one.
const PAGE_BYTES: u32 = 256;

/// Which of a data sheet's times an operation takes.
#[derive(Clone, Debug, Default)]
pub enum Pace {
    /// No time: for what is not the device's own doing.
    None,
    /// The typical ones: a chip in its youth.
    #[default]
    Typical,
    /// The longest ones: worn out, cold.
    Worst,
    /// One or the other, by chance.
    Mixed(Box<StdRng>),
}

/// Times of GigaDevice's GD25Q32C and Winbond's W25Q32JV, which stand for what is found on modules (data sheets,
/// "AC characteristics"): typical and longest.
struct Times {
    sector_erase: Duration,
    block_erase: Duration,
    page_program: Duration,
    /// Read and hashed by the chip's SHA engine; reading alone is a tenth of it, and hardly anything is read that is not
    /// hashed (measured on an ESP32-C3: about a second a megabyte).
    read_mib: Duration,
}

const TYPICAL: Times = Times {
    sector_erase: Duration::from_millis(45),
    block_erase: Duration::from_millis(150),
    page_program: Duration::from_micros(400),
    read_mib: Duration::from_millis(1000),
};

const NONE: Times = Times {
    sector_erase: Duration::ZERO,
    block_erase: Duration::ZERO,
    page_program: Duration::ZERO,
    read_mib: Duration::ZERO,
};

const WORST: Times = Times {
    sector_erase: Duration::from_millis(400),
    block_erase: Duration::from_millis(2000),
    page_program: Duration::from_millis(3),
    read_mib: Duration::from_millis(1300),
};

impl Pace {
    /// By chance, the same in every run.
    pub fn mixed(seed: u64) -> Self {
        Self::Mixed(Box::new(StdRng::seed_from_u64(seed)))
    }

    fn times(&mut self) -> &'static Times {
        match self {
            Self::None => &NONE,
            Self::Typical => &TYPICAL,
            Self::Worst => &WORST,
            Self::Mixed(random) => match random.r#gen() {
                true => &WORST,
                false => &TYPICAL,
            },
        }
    }

    pub(super) fn erase(&mut self, length_bytes: u32) -> Duration {
        match length_bytes {
            BLOCK_BYTES => self.times().block_erase,
            _ => self.times().sector_erase * (length_bytes / SECTOR_BYTES),
        }
    }

    pub(super) fn write(&mut self, address: u32, length_bytes: u32) -> Duration {
        let pages = (address + length_bytes).div_ceil(PAGE_BYTES) - address / PAGE_BYTES;
        self.times().page_program * pages
    }

    pub(super) fn read(&mut self, length_bytes: usize) -> Duration {
        let nanos = self.times().read_mib.as_nanos() * length_bytes as u128 / (1 << 20);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}
