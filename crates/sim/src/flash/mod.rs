//! NOR flash as an ESP32 sees it through esp-storage 0.10, no kinder than silicon.
//!
//! - An erase sets whole sectors to 0xFF. As in `FlashStorage::erase`, 64 KiB at a time where that fits; each such
//!   unit is one operation, and one that loses power tears all of it.
//! - A write clears bits: the flash holds the old bytes AND the new ones. A write that asks for a bit to go from 0 to
//!   1 is a [`Violation`]: silicon would leave wrong bytes and say nothing; here it is counted and is an error.
//! - Power can be lost inside any operation ([`PowerCut`]); from then on every operation fails and changes nothing
//!   until [`PowerSwitch::restore`].
//! - Bits that a torn operation left between 0 and 1 ([`Tear::Unstable`]) read as either, anew at each read.
//! - Sectors can be defective ([`Defect`]), and addresses read differently from one read to the next ([`Flicker`]), or wrong for a while ([`Misread`]).
//! - Every operation takes its time on the device's clock ([`Pace`]).
//! - Everything is deterministic; the random bits of a tear come from its seed.

mod cut;
mod defect;
mod file;
mod pace;
mod record;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use embedded_storage::nor_flash::{
    ErrorType, MultiwriteNorFlash, NorFlash, NorFlashError, NorFlashErrorKind, ReadNorFlash, check_erase,
    check_read, check_write,
};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

pub use cut::{PowerCut, Tear};
pub use defect::{Defect, DefectKind, Flicker, Misread};
pub use file::FlashFileError;
pub use pace::Pace;
pub use record::{FlashStats, Operation, OperationKind, Violation};

use crate::power::PowerSwitch;
use crate::strike::Strike;

/// Smallest alignment and length of reads and writes (`FlashStorage::WORD_SIZE`).
pub const WORD_BYTES: u32 = 4;

/// Smallest unit of erase (`FlashStorage::SECTOR_SIZE`).
pub const SECTOR_BYTES: u32 = 0x1000;

/// The larger unit of erase (`FlashStorage::BLOCK_SIZE`).
pub const BLOCK_BYTES: u32 = 0x1_0000;

const _: () = assert!(SECTOR_BYTES.is_multiple_of(WORD_BYTES));
const _: () = assert!(BLOCK_BYTES.is_multiple_of(SECTOR_BYTES));
const _: () = assert!(SECTOR_BYTES == flashfmt::SECTOR_BYTES);

/// A flash operation that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FlashError {
    /// The power is off; nothing was done, or in the operation that lost it, what its [`Tear`] says.
    #[error("the power is off; restore it")]
    PowerLost,
    /// The address or the length is no multiple of the unit.
    #[error("{length_bytes} bytes at {address:#x} are not aligned to {unit_bytes} bytes; align both")]
    NotAligned {
        /// First byte.
        address: u32,
        /// Length in bytes.
        length_bytes: u64,
        /// What both must be a multiple of.
        unit_bytes: u32,
    },
    /// The range ends past the flash, or ends before it begins.
    #[error("{length_bytes} bytes at {address:#x} are not within the flash of {capacity_bytes:#x} bytes")]
    OutOfBounds {
        /// First byte.
        address: u32,
        /// Length in bytes; 0 for an erase that ends before it begins.
        length_bytes: u64,
        /// Size of the flash.
        capacity_bytes: u64,
    },
    /// The sector is defective. Nothing was done.
    #[error("the sector of {address:#x} is defective")]
    Defect {
        /// First byte of the operation.
        address: u32,
    },
    /// The write needs an erase first. The bits that could be cleared have been.
    #[error("cannot write {:#04x} at {:#x} over {:#04x}; erase the sector first", .0.wanted, .0.address, .0.found)]
    NotErased(Violation),
}

impl NorFlashError for FlashError {
    fn kind(&self) -> NorFlashErrorKind {
        match self {
            FlashError::NotAligned { .. } => NorFlashErrorKind::NotAligned,
            FlashError::OutOfBounds { .. } => NorFlashErrorKind::OutOfBounds,
            FlashError::PowerLost | FlashError::Defect { .. } | FlashError::NotErased(_) => {
                NorFlashErrorKind::Other
            }
        }
    }
}

/// What a write over bytes that are not erased returns. It is recorded either way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnViolation {
    /// [`FlashError::NotErased`], so that the first one is found where it happens.
    #[default]
    Fail,
    /// `Ok`, as silicon does: for code that reads back what it wrote.
    Pass,
}

/// A virtual flash chip, in memory or in a file.
#[derive(Debug)]
pub struct SimFlash {
    bytes: Vec<u8>,
    path: Option<PathBuf>,
    /// Whether the file differs from `bytes`.
    dirty: bool,
    power: PowerSwitch,
    planned: Option<Planned>,
    on_violation: OnViolation,
    stats: FlashStats,
    log: Vec<Operation>,
    violations: Vec<Violation>,
    /// Bits between 0 and 1, by address.
    unstable: BTreeMap<u32, u8>,
    noise: StdRng,
    defects: Vec<Defect>,
    flickers: Vec<Flicker>,
    misread: Option<Misread>,
    pace: Pace,
    tripwire: Option<(Range<u32>, Strike)>,
    trace: Option<Trace>,
}

/// Where operations are written down as they happen, beside what others write there.
pub type Trace = Arc<Mutex<Vec<String>>>;

/// A plan and how many operations are left until the one that loses power; that one is 1.
#[derive(Clone, Copy, Debug)]
struct Planned {
    cut: PowerCut,
    remaining: u64,
}

impl SimFlash {
    /// An erased flash in memory. The size is rounded up to whole sectors.
    pub fn new(size_bytes: u32) -> Self {
        let sectors = size_bytes.div_ceil(SECTOR_BYTES);
        Self::with_contents(vec![0xFF; sectors as usize * SECTOR_BYTES as usize], None)
    }

    /// A flash in memory with these contents, filled up with 0xFF to whole sectors.
    pub fn from_bytes(mut bytes: Vec<u8>) -> Self {
        bytes.resize(bytes.len().next_multiple_of(SECTOR_BYTES as usize), 0xFF);
        Self::with_contents(bytes, None)
    }

    fn with_contents(bytes: Vec<u8>, path: Option<PathBuf>) -> Self {
        let sectors = bytes.len() / SECTOR_BYTES as usize;
        Self {
            bytes,
            path,
            dirty: false,
            power: PowerSwitch::new(),
            planned: None,
            on_violation: OnViolation::default(),
            stats: FlashStats::new(sectors),
            log: Vec::new(),
            violations: Vec::new(),
            unstable: BTreeMap::new(),
            noise: StdRng::seed_from_u64(0),
            defects: Vec::new(),
            flickers: Vec::new(),
            misread: None,
            pace: Pace::default(),
            tripwire: None,
            trace: None,
        }
    }

    /// The contents, seen from outside: not counted, and also without power.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The power supply, which others may share.
    pub fn power(&self) -> &PowerSwitch {
        &self.power
    }

    /// Connects the flash to a power supply.
    pub fn set_power(&mut self, power: PowerSwitch) {
        self.power = power;
    }

    /// Plans a loss of power, counting operations from now; it replaces an earlier plan.
    pub fn arm(&mut self, cut: PowerCut) {
        self.planned = Some(Planned { cut, remaining: cut.operation });
    }

    /// Forgets the plan.
    pub fn disarm(&mut self) {
        self.planned = None;
    }

    /// Whether a planned loss of power is still to come.
    pub fn is_armed(&self) -> bool {
        self.planned.is_some()
    }

    /// Says what a write over bytes that are not erased returns.
    pub fn set_on_violation(&mut self, on_violation: OnViolation) {
        self.on_violation = on_violation;
    }

    /// The counters.
    pub fn stats(&self) -> &FlashStats {
        &self.stats
    }

    /// Sets the counters to zero.
    pub fn reset_stats(&mut self) {
        self.stats = FlashStats::new(self.bytes.len() / SECTOR_BYTES as usize);
    }

    /// The mutating operations since the last [`SimFlash::take_log`], the one that lost power included. Operation `n`
    /// of [`PowerCut`] is `log()[n - 1]` when the log was taken at the time of arming.
    pub fn log(&self) -> &[Operation] {
        &self.log
    }

    /// The log, which starts anew.
    pub fn take_log(&mut self) -> Vec<Operation> {
        std::mem::take(&mut self.log)
    }

    /// All writes over bytes that were not erased.
    pub fn violations(&self) -> &[Violation] {
        &self.violations
    }

    /// Forgets the writes over bytes that were not erased.
    pub fn forget_violations(&mut self) {
        self.violations.clear();
    }

    /// Makes sectors defective from now on; it replaces earlier defects.
    pub fn set_defects(&mut self, defects: Vec<Defect>) {
        self.defects = defects;
    }

    /// Makes addresses read differently from one read to the next; it replaces earlier ones.
    pub fn set_flickers(&mut self, flickers: Vec<Flicker>, seed: u64) {
        self.flickers = flickers;
        self.noise = StdRng::seed_from_u64(seed);
    }

    /// Makes every read have a bit wrong from now on, or none.
    pub fn set_misread(&mut self, misread: Option<Misread>) {
        self.misread = misread;
    }

    /// Says how long operations take from now on, and returns what was said before.
    pub fn replace_pace(&mut self, pace: Pace) -> Pace {
        std::mem::replace(&mut self.pace, pace)
    }

    /// Lets a fault of the updater strike at every read that touches these addresses, and returns what did before.
    pub(crate) fn replace_tripwire(
        &mut self,
        tripwire: Option<(Range<u32>, Strike)>,
    ) -> Option<(Range<u32>, Strike)> {
        std::mem::replace(&mut self.tripwire, tripwire)
    }

    /// How many bytes hold bits between 0 and 1.
    pub fn unstable_bytes(&self) -> usize {
        self.unstable.len()
    }

    /// Writes every mutating operation down from now on.
    pub fn set_trace(&mut self, trace: Trace) {
        self.trace = Some(trace);
    }

    /// Inverts one bit (0 to 7) of a byte: a fault of the silicon, or an attacker with a clip on the chip.
    ///
    /// # Errors
    /// [`FlashError::OutOfBounds`].
    pub fn flip_bit(&mut self, address: u32, bit: u8) -> Result<(), FlashError> {
        let range = self.outside_range(address, 1)?;
        for byte in &mut self.bytes[range] {
            *byte ^= 1 << (bit % 8);
        }
        Ok(())
    }

    /// Sets every byte of `range` to `byte`, as a programmer would: no rules, not counted.
    ///
    /// # Errors
    /// [`FlashError::OutOfBounds`].
    pub fn fill(&mut self, range: Range<u32>, byte: u8) -> Result<(), FlashError> {
        let length = range.end.saturating_sub(range.start) as usize;
        let range = self.outside_range(range.start, length)?;
        self.bytes[range].fill(byte);
        Ok(())
    }

    /// Puts `contents` at `address`, as a programmer would: no rules, not counted.
    ///
    /// # Errors
    /// [`FlashError::OutOfBounds`].
    pub fn put(&mut self, address: u32, contents: &[u8]) -> Result<(), FlashError> {
        let range = self.outside_range(address, contents.len())?;
        self.bytes[range].copy_from_slice(contents);
        Ok(())
    }

    /// The range of an access from outside, which is about to change it.
    fn outside_range(&mut self, address: u32, length: usize) -> Result<Range<usize>, FlashError> {
        let start = address as usize;
        let end = start.checked_add(length).filter(|end| *end <= self.bytes.len());
        let end = end.ok_or_else(|| self.out_of_bounds(address, length))?;
        self.dirty = true;
        Ok(start..end)
    }

    fn out_of_bounds(&self, address: u32, length: usize) -> FlashError {
        FlashError::OutOfBounds {
            address,
            length_bytes: length as u64,
            capacity_bytes: self.bytes.len() as u64,
        }
    }

    fn check_power(&self) -> Result<(), FlashError> {
        if self.power.is_on() { Ok(()) } else { Err(FlashError::PowerLost) }
    }

    /// Gives a refusal of embedded-storage's own checks its details.
    fn refusal(&self, kind: NorFlashErrorKind, address: u32, length: usize, unit_bytes: u32) -> FlashError {
        match kind {
            NorFlashErrorKind::NotAligned => {
                FlashError::NotAligned { address, length_bytes: length as u64, unit_bytes }
            }
            // The checks return no other kind; the enum is non-exhaustive.
            _ => self.out_of_bounds(address, length),
        }
    }

    /// Performs one operation, whole or torn. `target` gives from a byte's offset and value what it is to become.
    fn mutate(&mut self, operation: Operation, target: impl Fn(usize, u8) -> u8) -> Result<(), FlashError> {
        self.check_power()?;
        self.stats.count(&operation, SECTOR_BYTES);
        self.power.clock().spend(match operation.kind {
            OperationKind::Erase => self.pace.erase(operation.length_bytes),
            OperationKind::Write => self.pace.write(operation.address, operation.length_bytes),
        });
        self.log.push(operation);
        self.dirty = true;
        let range = operation.address as usize..operation.range().end as usize;
        let defect = self.defects.iter().find_map(|defect| defect.strikes(&operation));
        let bytes = &mut self.bytes[range];
        let (torn, result) = match self.planned.take() {
            Some(Planned { cut, remaining: 0 | 1 }) => {
                self.noise = StdRng::seed_from_u64(cut.seed);
                let unstable = &mut self.unstable;
                cut.tear.apply(bytes, target, cut.seed, |index, mask| {
                    unstable.insert(operation.address + index as u32, mask);
                });
                self.power.cut();
                (Some(cut.tear), Err(FlashError::PowerLost))
            }
            later => {
                self.planned = later.map(|plan| Planned { remaining: plan.remaining - 1, ..plan });
                if defect.is_none() {
                    for (index, byte) in bytes.iter_mut().enumerate() {
                        *byte = target(index, *byte);
                    }
                    settle(&mut self.unstable, &operation, |index| target(index, 0xff));
                }
                let result = match defect {
                    Some(DefectKind::Fails) => Err(FlashError::Defect { address: operation.address }),
                    Some(DefectKind::DoesNothing) | None => Ok(()),
                };
                (None, result)
            }
        };
        self.write_down(&operation, torn, defect);
        result
    }

    fn write_down(&self, operation: &Operation, torn: Option<Tear>, defect: Option<DefectKind>) {
        let Some(trace) = &self.trace else { return };
        let Operation { kind, address, length_bytes } = operation;
        let mut line = format!("flash: {kind:?} {length_bytes} bytes at {address:#x}");
        if let Some(tear) = torn {
            line += &format!(", power lost: {tear:?}");
        }
        if let Some(kind) = defect {
            line += &format!(", defective sector: {kind:?}");
        }
        trace.lock().unwrap_or_else(PoisonError::into_inner).push(line);
    }

    /// The first byte of `bytes` that cannot be written at `address` without an erase.
    fn find_violation(&self, address: u32, bytes: &[u8]) -> Option<Violation> {
        let current = self.bytes[address as usize..].iter().zip(bytes);
        (address..).zip(current).find_map(|(address, (&found, &wanted))| {
            // A bit between 0 and 1 that was read as 1 is written as 1 with good reason, and stays where it is.
            let unstable = self.unstable.get(&address).copied().unwrap_or(0);
            (wanted & !(found | unstable) != 0).then_some(Violation { address, found, wanted })
        })
    }
}

/// What a finished operation leaves of bits between 0 and 1: none after an erase; after a write those that it was not
/// to clear.
fn settle(unstable: &mut BTreeMap<u32, u8>, operation: &Operation, written: impl Fn(usize) -> u8) {
    if unstable.is_empty() {
        return;
    }
    match operation.kind {
        OperationKind::Erase => unstable.retain(|address, _| !operation.range().contains(address)),
        OperationKind::Write => {
            for (address, mask) in unstable.range_mut(operation.range()) {
                *mask &= written((address - operation.address) as usize);
            }
            unstable.retain(|_, mask| *mask != 0);
        }
    }
}

impl ErrorType for SimFlash {
    type Error = FlashError;
}

impl ReadNorFlash for SimFlash {
    const READ_SIZE: usize = WORD_BYTES as usize;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), FlashError> {
        self.check_power()?;
        check_read(self, offset, bytes.len())
            .map_err(|kind| self.refusal(kind, offset, bytes.len(), WORD_BYTES))?;
        self.stats.reads += 1;
        self.stats.read_bytes += bytes.len() as u64;
        self.power.clock().spend(self.pace.read(bytes.len()));
        bytes.copy_from_slice(&self.bytes[offset as usize..][..bytes.len()]);
        if !self.unstable.is_empty() {
            for (address, mask) in self.unstable.range(offset..offset + bytes.len() as u32) {
                bytes[(address - offset) as usize] ^= mask & self.noise.r#gen::<u8>();
            }
        }
        let range = offset..offset + bytes.len() as u32;
        if let Some((addresses, strike)) = &self.tripwire
            && addresses.start < range.end
            && range.start < addresses.end
        {
            strike.strike(self.power.clock());
        }
        for flicker in &self.flickers {
            if let Some((address, mask)) = flicker.strikes(&range, &mut self.noise) {
                bytes[(address - offset) as usize] ^= mask;
            }
        }
        if let Some(misread) = self.misread {
            misread.strike(offset, bytes);
        }
        Ok(())
    }

    fn capacity(&self) -> usize {
        self.bytes.len()
    }
}

impl NorFlash for SimFlash {
    const WRITE_SIZE: usize = WORD_BYTES as usize;
    const ERASE_SIZE: usize = SECTOR_BYTES as usize;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), FlashError> {
        self.check_power()?;
        check_erase(self, from, to)
            .map_err(|kind| self.refusal(kind, from, to.saturating_sub(from) as usize, SECTOR_BYTES))?;
        let mut address = from;
        while address < to {
            let is_block = address.is_multiple_of(BLOCK_BYTES) && to - address >= BLOCK_BYTES;
            let length_bytes = if is_block { BLOCK_BYTES } else { SECTOR_BYTES };
            self.mutate(Operation { kind: OperationKind::Erase, address, length_bytes }, |_, _| 0xFF)?;
            address += length_bytes;
        }
        Ok(())
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), FlashError> {
        self.check_power()?;
        check_write(self, offset, bytes.len())
            .map_err(|kind| self.refusal(kind, offset, bytes.len(), WORD_BYTES))?;
        let Some(length_bytes) = u32::try_from(bytes.len()).ok().filter(|length| *length > 0) else {
            return Ok(());
        };
        let violation = self.find_violation(offset, bytes);
        if let Some(violation) = violation {
            self.stats.violations += 1;
            self.violations.push(violation);
        }
        let operation = Operation { kind: OperationKind::Write, address: offset, length_bytes };
        self.mutate(operation, |index, byte| byte & bytes[index])?;
        match (violation, self.on_violation) {
            (Some(violation), OnViolation::Fail) => Err(FlashError::NotErased(violation)),
            (Some(_), OnViolation::Pass) | (None, OnViolation::Fail | OnViolation::Pass) => Ok(()),
        }
    }
}

impl MultiwriteNorFlash for SimFlash {}
