//! The 32 bits that survive a reset of the chip, but not a loss of power.
//!
//! On an ESP32-C3 they are the retained register RTC STORE0 (DESIGN section 8). They cost no flash, so the
//! engine can count on them at every start. After a loss of power they hold anything; a check byte tells.

use crate::facts::SlotIndex;

/// Bits 0 to 11: starts since power was applied.
const STARTS_BITS: u32 = 12;
/// Starts are counted modulo this.
pub const STARTS_MODULUS: u16 = 1 << STARTS_BITS;
/// Bits 12 to 15: the slot that was handed over to.
const SLOT_SHIFT: u32 = STARTS_BITS;
const SLOT_MAX: u8 = 15;
/// Bits 16 to 19: tries in a row that ended without an application to start.
const FAILURES_SHIFT: u32 = SLOT_SHIFT + 4;
const FAILURES_MAX: u8 = 15;
/// Bits 20 and 21: crashes of the updater in a row, in the network phase.
const DEATHS_SHIFT: u32 = FAILURES_SHIFT + 4;
const DEATHS_MAX: u8 = 3;
/// Bit 22: the network phase has begun and has not ended.
const NETWORK_PHASE_BIT: u32 = 1 << (DEATHS_SHIFT + 2);
/// Bit 23: the hand-over ticket.
const TICKET_BIT: u32 = NETWORK_PHASE_BIT << 1;
/// Bits 24 to 31: check byte over the other three.
const CHECK_SHIFT: u32 = 24;

const _: () = assert!(TICKET_BIT == 1 << (CHECK_SHIFT - 1));

/// What the updater remembers across resets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retained {
    /// Starts since power was applied, modulo [`STARTS_MODULUS`].
    pub starts: u16,
    /// The slot that was handed over to last; the first one before that. A partition table has 16 slots at most.
    pub slot: SlotIndex,
    /// Tries in a row that ended without an application to start, at most 15.
    pub failures: u8,
    /// Crashes of the updater in a row in the network phase, at most 3.
    pub deaths: u8,
    /// The network phase has begun and has not ended.
    pub network_phase: bool,
    /// Hand over at once: set before the reset that returns the hardware to its pristine state.
    pub ticket: bool,
}

impl Retained {
    /// Reads the register; a register that was not written by [`Retained::to_bits`] reads as the default.
    #[must_use]
    pub fn from_bits(bits: u32) -> Self {
        if (bits >> CHECK_SHIFT) as u8 != check_byte(bits) {
            return Self::default();
        }
        Self {
            starts: bits as u16 % STARTS_MODULUS,
            slot: SlotIndex((bits >> SLOT_SHIFT) as u8 & SLOT_MAX),
            failures: (bits >> FAILURES_SHIFT) as u8 & FAILURES_MAX,
            deaths: (bits >> DEATHS_SHIFT) as u8 & DEATHS_MAX,
            network_phase: bits & NETWORK_PHASE_BIT != 0,
            ticket: bits & TICKET_BIT != 0,
        }
    }

    /// The register's value.
    #[must_use]
    pub fn to_bits(self) -> u32 {
        let bits = u32::from(self.starts % STARTS_MODULUS)
            | u32::from(self.slot.0.min(SLOT_MAX)) << SLOT_SHIFT
            | u32::from(self.failures.min(FAILURES_MAX)) << FAILURES_SHIFT
            | u32::from(self.deaths.min(DEATHS_MAX)) << DEATHS_SHIFT
            | if self.network_phase { NETWORK_PHASE_BIT } else { 0 }
            | if self.ticket { TICKET_BIT } else { 0 };
        bits | u32::from(check_byte(bits)) << CHECK_SHIFT
    }

    pub(crate) fn one_more_start(&mut self) {
        self.starts = (self.starts + 1) % STARTS_MODULUS;
    }

    pub(crate) fn one_more_failure(&mut self) {
        self.failures = (self.failures + 1).min(FAILURES_MAX);
    }

    pub(crate) fn one_more_death(&mut self) {
        self.deaths = (self.deaths + 1).min(DEATHS_MAX);
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
            deaths in 0..=DEATHS_MAX,
            network_phase: bool,
            ticket: bool,
        ) {
            let retained = Retained { starts, slot: SlotIndex(slot), failures, deaths, network_phase, ticket };
            prop_assert_eq!(Retained::from_bits(retained.to_bits()), retained);
        }

        #[test]
        fn one_flipped_bit_reads_as_the_default(starts in 0..STARTS_MODULUS, ticket: bool, bit in 0..32u32) {
            let bits = Retained { starts, ticket, ..Retained::default() }.to_bits();
            prop_assert_eq!(Retained::from_bits(bits ^ 1 << bit), Retained::default());
        }
    }

    #[test]
    fn starts_wrap() {
        let mut retained = Retained { starts: STARTS_MODULUS - 1, slot: SlotIndex(1), ..Retained::default() };
        retained.one_more_start();
        assert_eq!(
            Retained::from_bits(retained.to_bits()),
            Retained { slot: SlotIndex(1), ..Retained::default() }
        );
    }

    #[test]
    fn power_on_values_read_as_the_default() {
        assert_eq!(Retained::from_bits(0), Retained::default());
        assert_eq!(Retained::from_bits(u32::MAX), Retained::default());
    }
}
