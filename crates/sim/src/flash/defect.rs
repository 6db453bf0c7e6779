//! Sectors that do not do what they are told.

use std::ops::Range;

use rand::Rng;
use rand::rngs::StdRng;

use super::{Operation, OperationKind};

/// A defect of some addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Defect {
    /// Operations that touch one of these addresses are struck.
    pub addresses: Range<u32>,
    /// Which operations.
    pub operation: OperationKind,
    /// What happens to them.
    pub kind: DefectKind,
}

/// What happens to an operation on defective addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DefectKind {
    /// Nothing is done, and the driver says so.
    Fails,
    /// Nothing is done, and the driver says that all went well.
    DoesNothing,
}

/// Addresses that read differently from one read to the next, although nothing is written: a worn cell near its
/// threshold, a supply that sags, a line that picks up the radio.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flicker {
    /// Reads that touch one of these addresses are struck.
    pub addresses: Range<u32>,
    /// One in so many of them, by chance, comes with one bit inverted.
    pub one_in: u32,
}

/// A bit that every read has wrong, although the cell is right: a supply at its lower limit does that for as long as a
/// start lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Misread {
    /// Where.
    pub address: u32,
    /// Which bit.
    pub mask: u8,
}

impl Misread {
    /// Inverts it in what was read from `offset`.
    pub(super) fn strike(self, offset: u32, bytes: &mut [u8]) {
        let index = self.address.checked_sub(offset).and_then(|index| usize::try_from(index).ok());
        if let Some(byte) = index.and_then(|index| bytes.get_mut(index)) {
            *byte ^= self.mask;
        }
    }
}

impl Flicker {
    /// The address and the mask of the bit that is inverted in a read of `range`.
    pub(super) fn strikes(&self, range: &Range<u32>, noise: &mut StdRng) -> Option<(u32, u8)> {
        let (start, end) = (self.addresses.start.max(range.start), self.addresses.end.min(range.end));
        let struck = start < end && noise.gen_ratio(1, self.one_in.max(1));
        struck.then(|| (noise.gen_range(start..end), 1 << noise.gen_range(0..8)))
    }
}

impl Defect {
    pub(super) fn strikes(&self, operation: &Operation) -> Option<DefectKind> {
        let range = operation.range();
        let touches = self.addresses.start < range.end && range.start < self.addresses.end;
        (touches && self.operation == operation.kind).then_some(self.kind)
    }
}
