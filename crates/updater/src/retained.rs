//! The 32 bits that survive most resets of the chip, but not a loss of power.
//!
//! On an ESP32 they are the retained register RTC STORE0
//! ([decision 0007](../../../docs/decisions/0007-counters-in-the-retained-register.md)). They cost no flash, so the
//! engine can count on them at every start. Where the register did not survive it holds anything; a check byte tells.

use crate::slot::SlotIndex;

/// Bits 0 to 10: starts since power was applied.
const STARTS_BITS: u32 = 11;
/// Starts are counted modulo this.
pub const STARTS_MODULUS: u16 = 1 << STARTS_BITS;
/// Bits 11 to 14: the slot that was handed over to.
const SLOT_SHIFT: u32 = STARTS_BITS;
const SLOT_MAX: u8 = 15;
/// Bits 15 to 18: tries in a row that ended without an application to start.
const FAILURES_SHIFT: u32 = SLOT_SHIFT + 4;
const FAILURES_MAX: u8 = 15;
/// Bits 19 to 21: crashes of the updater in a row.
const CRASHES_SHIFT: u32 = FAILURES_SHIFT + 4;
pub(crate) const CRASHES_MAX: u8 = 7;
/// Bits 22 and 23: what has the chip.
const PHASE_SHIFT: u32 = CRASHES_SHIFT + 3;
const PHASE_MASK: u32 = 3;
/// Bits 24 to 31: check byte over the other three.
const CHECK_SHIFT: u32 = 24;

const _: () = assert!(PHASE_MASK << PHASE_SHIFT < 1 << CHECK_SHIFT);

/// What the updater remembers across resets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retained {
    /// Starts since power was applied, modulo [`STARTS_MODULUS`].
    pub starts: u16,
    /// The slot that was handed over to last; the first one before that. A partition table has 16 slots at most.
    pub slot: SlotIndex,
    /// Tries in a row that ended without an application to start, at most 15.
    pub failures: u8,
    /// Crashes of the updater in a row, at most 7: ends that it did not announce, wherever they came.
    pub crashes: u8,
    /// What has the chip.
    pub phase: Phase,
}

/// What has the chip. Written before it gets it, so that the next start knows whose end the reset was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// The application, or nothing: the updater announced its end.
    #[default]
    Application,
    /// The updater, from its first line to its announced end.
    Updater,
    /// The hand-over ticket: the updater resets the chip so that the next start hands over from pristine hardware.
    Ticket,
    /// A hand-over before anything is initialised is under way. The ticket that led to it is spent.
    HandingOver,
}

impl Phase {
    pub(crate) const ALL: [Self; 4] = [Self::Application, Self::Updater, Self::Ticket, Self::HandingOver];
}

impl Retained {
    /// Reads the register; `None` for one that was not written by [`Retained::to_bits`].
    #[must_use]
    pub fn from_bits(bits: u32) -> Option<Self> {
        ((bits >> CHECK_SHIFT) as u8 == check_byte(bits)).then(|| Self {
            starts: bits as u16 % STARTS_MODULUS,
            slot: SlotIndex((bits >> SLOT_SHIFT) as u8 & SLOT_MAX),
            failures: (bits >> FAILURES_SHIFT) as u8 & FAILURES_MAX,
            crashes: (bits >> CRASHES_SHIFT) as u8 & CRASHES_MAX,
            phase: Phase::ALL[((bits >> PHASE_SHIFT) & PHASE_MASK) as usize],
        })
    }

    /// The register's value.
    #[must_use]
    pub fn to_bits(self) -> u32 {
        let bits = u32::from(self.starts % STARTS_MODULUS)
            | u32::from(self.slot.0.min(SLOT_MAX)) << SLOT_SHIFT
            | u32::from(self.failures.min(FAILURES_MAX)) << FAILURES_SHIFT
            | u32::from(self.crashes.min(CRASHES_MAX)) << CRASHES_SHIFT
            | (self.phase as u32) << PHASE_SHIFT;
        bits | u32::from(check_byte(bits)) << CHECK_SHIFT
    }

    pub(crate) fn one_more_start(self) -> Self {
        Self { starts: (self.starts + 1) % STARTS_MODULUS, ..self }
    }

    pub(crate) fn one_more_failure(self) -> Self {
        Self { failures: (self.failures + 1).min(FAILURES_MAX), ..self }
    }

    pub(crate) fn one_more_crash(self) -> Self {
        Self { crashes: (self.crashes + 1).min(CRASHES_MAX), ..self }
    }
}

/// The check byte starts from a value that neither an all-zeros nor an all-ones register carries.
fn check_byte(bits: u32) -> u8 {
    let [a, b, c, _] = bits.to_le_bytes();
    [a, b, c].into_iter().fold(0x5a, |check: u8, byte| check.rotate_left(3) ^ byte)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn round_trips(
            starts in 0..STARTS_MODULUS,
            slot in 0..=SLOT_MAX,
            failures in 0..=FAILURES_MAX,
            crashes in 0..=CRASHES_MAX,
            phase in proptest::sample::select(&Phase::ALL[..]),
        ) {
            let retained = Retained { starts, slot: SlotIndex(slot), failures, crashes, phase };
            prop_assert_eq!(Retained::from_bits(retained.to_bits()), Some(retained));
        }

        #[test]
        fn one_flipped_bit_is_not_read(starts in 0..STARTS_MODULUS, bit in 0..32u32) {
            let bits = Retained { starts, phase: Phase::Ticket, ..Retained::default() }.to_bits();
            prop_assert_eq!(Retained::from_bits(bits ^ 1 << bit), None);
        }
    }

    #[test]
    fn starts_wrap() {
        let last = Retained { starts: STARTS_MODULUS - 1, slot: SlotIndex(1), ..Retained::default() };
        assert_eq!(last.one_more_start(), Retained { starts: 0, ..last });
    }

    #[test]
    fn power_on_values_are_not_read() {
        assert_eq!(Retained::from_bits(0), None);
        assert_eq!(Retained::from_bits(u32::MAX), None);
    }
}
