//! What a virtual flash remembers of its use.

use std::ops::Range;

/// What a mutating operation did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OperationKind {
    /// Bits were cleared.
    Write,
    /// Bytes went to 0xFF.
    Erase,
}

/// One mutating operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Operation {
    /// What it did.
    pub kind: OperationKind,
    /// Its first byte.
    pub address: u32,
    /// How many bytes it spans.
    pub length_bytes: u32,
}

impl Operation {
    /// The bytes it spans.
    pub fn range(&self) -> Range<u32> {
        self.address..self.address + self.length_bytes
    }
}

/// A write that asked for a bit to go from 0 to 1, which needs an erase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The first byte in question.
    pub address: u32,
    /// What stood there.
    pub found: u8,
    /// What was to be written.
    pub wanted: u8,
}

/// Counters since the flash was made or [`super::SimFlash::reset_stats`] was called.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FlashStats {
    /// Read operations.
    pub reads: u64,
    /// Write operations.
    pub writes: u64,
    /// Erase operations; one of 64 KiB counts once.
    pub erases: u64,
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes written.
    pub written_bytes: u64,
    /// Bytes erased.
    pub erased_bytes: u64,
    /// Writes over bytes that were not erased.
    pub violations: u64,
    /// How often each sector was erased, by sector number. This is what wears flash out.
    pub sector_erases: Vec<u32>,
}

impl FlashStats {
    pub(super) fn new(sectors: usize) -> Self {
        Self { sector_erases: vec![0; sectors], ..Self::default() }
    }

    /// Whether anything was written or erased.
    pub fn is_mutated(&self) -> bool {
        self.writes + self.erases > 0
    }

    /// The most often any one sector was erased.
    pub fn max_sector_erases(&self) -> u32 {
        self.sector_erases.iter().copied().max().unwrap_or(0)
    }

    pub(super) fn count(&mut self, operation: &Operation, sector_bytes: u32) {
        match operation.kind {
            OperationKind::Write => {
                self.writes += 1;
                self.written_bytes += u64::from(operation.length_bytes);
            }
            OperationKind::Erase => {
                self.erases += 1;
                self.erased_bytes += u64::from(operation.length_bytes);
                let sectors = operation.address / sector_bytes..operation.range().end / sector_bytes;
                for sector in sectors {
                    if let Some(erases) = self.sector_erases.get_mut(sector as usize) {
                        *erases += 1;
                    }
                }
            }
        }
    }
}
