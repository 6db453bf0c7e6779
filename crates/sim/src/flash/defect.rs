//! Sectors that do not do what they are told.

use std::ops::Range;

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

impl Defect {
    pub(super) fn strikes(&self, operation: &Operation) -> Option<DefectKind> {
        let range = operation.range();
        let touches = self.addresses.start < range.end && range.start < self.addresses.end;
        (touches && self.operation == operation.kind).then_some(self.kind)
    }
}
