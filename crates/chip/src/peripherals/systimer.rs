//! System timer: two counters of 52 bits at 16 MHz, three alarms (ESP32-C3 TRM v1.1, chapter 10).

use crate::time::TICKS_PER_SYSTIMER;

const CONF: u32 = 0x00;
const UNIT0_OP: u32 = 0x04;
const UNIT1_OP: u32 = 0x08;
const UNIT0_LOAD_HI: u32 = 0x0C;
const UNIT1_LOAD_LO: u32 = 0x18;
const TARGET0_HI: u32 = 0x1C;
const TARGET2_LO: u32 = 0x30;
const TARGET0_CONF: u32 = 0x34;
const TARGET2_CONF: u32 = 0x3C;
const UNIT0_VALUE_HI: u32 = 0x40;
const UNIT1_VALUE_LO: u32 = 0x4C;
const COMP0_LOAD: u32 = 0x50;
const COMP2_LOAD: u32 = 0x58;
const UNIT0_LOAD: u32 = 0x5C;
const UNIT1_LOAD: u32 = 0x60;
const INT_ENA: u32 = 0x64;
const INT_RAW: u32 = 0x68;
const INT_CLR: u32 = 0x6C;
const INT_ST: u32 = 0x70;
const DATE: u32 = 0xFC;

/// `CONF`: the clock of the registers, and which parts work.
const UNIT0_WORKS: u32 = 30;
const TARGET0_WORKS: u32 = 24;
/// At reset the clock is on and unit 0 counts (TRM, register 10.1).
const CONF_AT_RESET: u32 = 0x4600_0000;
/// `UNITn_OP`: the value was taken.
const VALUE_IS_VALID: u32 = 1 << 29;
/// `TARGETn_CONF`.
const COUNTS_UNIT1: u32 = 1 << 31;
const IS_PERIODIC: u32 = 1 << 30;
const PERIOD: u32 = 0x03FF_FFFF;
const MASK_52: u64 = (1 << 52) - 1;

/// One of the counters: it stands still, or has run since some tick.
#[derive(Clone, Copy, Debug, Default)]
struct Unit {
    base: u64,
    since: u64,
    works: bool,
    load: u64,
    taken: u64,
}

impl Unit {
    fn value(&self, now: u64) -> u64 {
        let run = if self.works { now / TICKS_PER_SYSTIMER - self.since / TICKS_PER_SYSTIMER } else { 0 };
        self.base.wrapping_add(run) & MASK_52
    }

    fn set(&mut self, value: u64, now: u64) {
        self.base = value;
        self.since = now;
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Target {
    written: u64,
    conf: u32,
    works: bool,
    /// The value at which it fires next.
    fires_at: Option<u64>,
}

/// The timer.
#[derive(Clone, Debug)]
pub(crate) struct Systimer {
    conf: u32,
    units: [Unit; 2],
    targets: [Target; 3],
    enabled: u32,
    raw: u32,
}

impl Systimer {
    pub(crate) fn at_reset(now: u64) -> Self {
        let mut timer = Self {
            conf: 0,
            units: [Unit::default(); 2],
            targets: [Target::default(); 3],
            enabled: 0,
            raw: 0,
        };
        timer.configure(CONF_AT_RESET, now);
        timer
    }

    pub(crate) fn read(&self, offset: u32) -> Option<u32> {
        Some(match offset {
            CONF => self.conf,
            UNIT0_OP | UNIT1_OP => VALUE_IS_VALID,
            UNIT0_LOAD_HI..=UNIT1_LOAD_LO => {
                half(self.units[(offset - UNIT0_LOAD_HI) as usize / 8].load, offset, UNIT0_LOAD_HI)
            }
            TARGET0_HI..=TARGET2_LO => {
                half(self.targets[(offset - TARGET0_HI) as usize / 8].written, offset, TARGET0_HI)
            }
            TARGET0_CONF..=TARGET2_CONF => self.targets[(offset - TARGET0_CONF) as usize / 4].conf,
            UNIT0_VALUE_HI..=UNIT1_VALUE_LO => {
                half(self.units[(offset - UNIT0_VALUE_HI) as usize / 8].taken, offset, UNIT0_VALUE_HI)
            }
            COMP0_LOAD..=UNIT1_LOAD => 0,
            INT_ENA => self.enabled,
            INT_RAW => self.raw,
            INT_CLR => 0,
            INT_ST => self.raw & self.enabled,
            DATE => 0x0200_6171,
            _ => return None,
        })
    }

    pub(crate) fn write(&mut self, offset: u32, value: u32, now: u64) -> Option<()> {
        match offset {
            CONF => self.configure(value, now),
            UNIT0_OP | UNIT1_OP => {
                let unit = &mut self.units[(offset - UNIT0_OP) as usize / 4];
                unit.taken = unit.value(now);
            }
            UNIT0_LOAD_HI..=UNIT1_LOAD_LO => {
                set_half(
                    &mut self.units[(offset - UNIT0_LOAD_HI) as usize / 8].load,
                    offset,
                    UNIT0_LOAD_HI,
                    value,
                );
            }
            TARGET0_HI..=TARGET2_LO => {
                set_half(
                    &mut self.targets[(offset - TARGET0_HI) as usize / 8].written,
                    offset,
                    TARGET0_HI,
                    value,
                );
            }
            TARGET0_CONF..=TARGET2_CONF => {
                let index = (offset - TARGET0_CONF) as usize / 4;
                let was_periodic = self.targets[index].conf & IS_PERIODIC != 0;
                self.targets[index].conf = value;
                if was_periodic != (value & IS_PERIODIC != 0) {
                    self.arm(index, now);
                }
            }
            COMP0_LOAD..=COMP2_LOAD if value & 1 != 0 => self.arm((offset - COMP0_LOAD) as usize / 4, now),
            UNIT0_LOAD | UNIT1_LOAD if value & 1 != 0 => {
                let unit = &mut self.units[(offset - UNIT0_LOAD) as usize / 4];
                unit.set(unit.load, now);
            }
            COMP0_LOAD..=UNIT1_LOAD => {}
            INT_ENA => self.enabled = value & 7,
            INT_CLR => self.raw &= !value,
            _ => return None,
        }
        Some(())
    }

    fn configure(&mut self, value: u32, now: u64) {
        self.conf = value;
        for (index, unit) in self.units.iter_mut().enumerate() {
            let works = value & 1 << (UNIT0_WORKS - index as u32) != 0;
            if works != unit.works {
                let value = unit.value(now);
                unit.works = works;
                unit.set(value, now);
            }
        }
        for index in 0..self.targets.len() {
            let works = value & 1 << (TARGET0_WORKS - index as u32) != 0;
            if works != self.targets[index].works {
                self.targets[index].works = works;
                self.arm(index, now);
            }
        }
    }

    /// Takes the written target, or the period from now on.
    fn arm(&mut self, index: usize, now: u64) {
        let value = self.unit_of(index).value(now);
        let target = &mut self.targets[index];
        let at = if target.conf & IS_PERIODIC == 0 {
            target.written
        } else {
            value.wrapping_add(u64::from(target.conf & PERIOD)) & MASK_52
        };
        target.fires_at = target.works.then_some(at);
    }

    fn unit_of(&self, index: usize) -> &Unit {
        &self.units[usize::from(self.targets[index].conf & COUNTS_UNIT1 != 0)]
    }

    /// Lets alarms go off that are due.
    pub(crate) fn advance(&mut self, now: u64) {
        for index in 0..self.targets.len() {
            let value = self.unit_of(index).value(now);
            let target = &mut self.targets[index];
            let Some(at) = target.fires_at.filter(|at| value >= *at) else { continue };
            self.raw |= 1 << index;
            let period = u64::from(target.conf & PERIOD);
            target.fires_at = (target.conf & IS_PERIODIC != 0 && period > 0).then(|| {
                let missed = (value - at) / period;
                at + (missed + 1) * period
            });
        }
    }

    /// The tick at which the next alarm goes off.
    pub(crate) fn next(&self, now: u64) -> Option<u64> {
        (0..self.targets.len())
            .filter_map(|index| {
                let (at, unit) = (self.targets[index].fires_at?, self.unit_of(index));
                let left = at.saturating_sub(unit.value(now));
                unit.works.then(|| (now / TICKS_PER_SYSTIMER + left) * TICKS_PER_SYSTIMER)
            })
            .min()
    }

    /// Whether the interrupt of an alarm is pending.
    pub(crate) fn is_pending(&self, index: u32) -> bool {
        self.raw & self.enabled & 1 << index != 0
    }
}

/// The upper or the lower word, as they alternate from `first` on.
fn half(value: u64, offset: u32, first: u32) -> u32 {
    if (offset - first).is_multiple_of(8) { (value >> 32) as u32 } else { value as u32 }
}

fn set_half(value: &mut u64, offset: u32, first: u32, word: u32) {
    *value = if (offset - first).is_multiple_of(8) {
        *value & 0xFFFF_FFFF | u64::from(word & 0xF_FFFF) << 32
    } else {
        *value & !0xFFFF_FFFF | u64::from(word)
    };
}
