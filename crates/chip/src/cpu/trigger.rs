//! Debug triggers: breakpoints and watchpoints that a program sets for itself (ESP32-C3 TRM v1.1, section 1.9). The
//! scheduler of esp-rtos guards its tasks' stacks with one.

/// `mcontrol` bits of `tdata1`.
const LOAD: u32 = 1;
const STORE: u32 = 1 << 1;
const EXECUTE: u32 = 1 << 2;
const USER: u32 = 1 << 3;
const MACHINE: u32 = 1 << 6;
const MATCH_RANGE: u32 = 1 << 7;
/// The whole field; what is larger than the largest value that there is becomes it.
const MATCH: u32 = 0xF << 7;
const HIT: u32 = 1 << 20;
/// The type: a match of address or data, the only one there is.
const TYPE: u32 = 2 << 28;

/// What is accessed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Watched {
    Load,
    Store,
    Execute,
}

/// One trigger.
#[derive(Clone, Copy, Debug)]
pub(super) struct Trigger {
    pub(super) tdata1: u32,
    pub(super) tdata2: u32,
}

impl Default for Trigger {
    fn default() -> Self {
        Self { tdata1: TYPE, tdata2: 0 }
    }
}

impl Trigger {
    pub(super) fn write_tdata1(&mut self, value: u32) {
        self.tdata1 = value & (LOAD | STORE | EXECUTE | USER | MACHINE | HIT) | TYPE;
        if value & MATCH != 0 {
            self.tdata1 |= MATCH_RANGE;
        }
    }

    /// The addresses that it watches in machine mode: the first, and how far the last is from it.
    pub(super) fn range(&self) -> Option<(u32, u32)> {
        if self.tdata1 & MACHINE == 0 || self.tdata1 & (LOAD | STORE | EXECUTE) == 0 {
            return None;
        }
        if self.tdata1 & MATCH_RANGE == 0 {
            return Some((self.tdata2, 0));
        }
        // NAPOT: the low ones and the zero above them are any address's.
        let any = self.tdata2 ^ self.tdata2.wrapping_add(1);
        Some((self.tdata2 & !any, any))
    }

    pub(super) fn watches(&self, how: Watched) -> bool {
        let bit = match how {
            Watched::Load => LOAD,
            Watched::Store => STORE,
            Watched::Execute => EXECUTE,
        };
        self.tdata1 & bit != 0
    }

    pub(super) fn hit(&mut self) {
        self.tdata1 |= HIT;
    }
}

/// Addresses of which some are watched, so that most accesses are seen at once to touch none. An access begins 3 bytes
/// before what it touches at most.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Guard {
    first: u32,
    /// As many addresses; 0 when nothing is watched, and all of them are 2 to the power of 32.
    count: u64,
}

impl Guard {
    /// Covers what all of these triggers watch.
    pub(super) fn over<'a>(triggers: impl Iterator<Item = &'a Trigger>) -> Self {
        let watched = triggers.filter(|trigger| trigger.tdata1 & (LOAD | STORE) != 0);
        let (mut first, mut last) = (u64::MAX, 0);
        for (from, to_last) in watched.filter_map(Trigger::range) {
            first = first.min(u64::from(from));
            last = last.max(u64::from(from) + u64::from(to_last));
        }
        if first > last {
            return Self::default();
        }
        Self { first: (first as u32).wrapping_sub(3), count: last - first + 4 }
    }

    /// Whether an access that begins here may touch what is watched.
    pub(super) fn touches(self, addr: u32) -> bool {
        u64::from(addr.wrapping_sub(self.first)) < self.count
    }
}
