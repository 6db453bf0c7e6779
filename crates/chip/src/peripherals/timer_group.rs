//! Timer group: a timer of 54 bits, a watchdog, and the calibration of the slow clock (ESP32-C3 TRM v1.1, chapter 11).

use super::watchdog::{Action, Watchdog};
use crate::time::{SLOW_CLOCK_HZ, TICKS_PER_APB, TICKS_PER_SECOND, TICKS_PER_XTAL};

const T0CONFIG: u32 = 0x00;
const T0LO: u32 = 0x04;
const T0HI: u32 = 0x08;
const T0UPDATE: u32 = 0x0C;
const T0ALARMLO: u32 = 0x10;
const T0ALARMHI: u32 = 0x14;
const T0LOADLO: u32 = 0x18;
const T0LOADHI: u32 = 0x1C;
const T0LOAD: u32 = 0x20;
const WDTCONFIG0: u32 = 0x48;
const WDTCONFIG1: u32 = 0x4C;
const WDTCONFIG2: u32 = 0x50;
const WDTCONFIG5: u32 = 0x5C;
const WDTFEED: u32 = 0x60;
const WDTWPROTECT: u32 = 0x64;
const RTCCALICFG: u32 = 0x68;
const RTCCALICFG1: u32 = 0x6C;
const INT_ENA: u32 = 0x70;
const INT_RAW: u32 = 0x74;
const INT_ST: u32 = 0x78;
const INT_CLR: u32 = 0x7C;
const RTCCALICFG2: u32 = 0x80;
const DATE: u32 = 0xF8;
const REGCLK: u32 = 0xFC;

const TIMER_ON: u32 = 1 << 31;
const TIMER_UP: u32 = 1 << 30;
const TIMER_RELOADS: u32 = 1 << 29;
const TIMER_ALARM: u32 = 1 << 10;
const TIMER_USES_XTAL: u32 = 1 << 9;
const WATCHDOG_ON: u32 = 1 << 31;
/// Stages 0 to 3 of two bits each.
const STAGES: [u32; 4] = [29, 27, 25, 23];
const KEY: u32 = 0x50D8_3AA1;
const CALIBRATE: u32 = 1 << 31;
const CALIBRATED: u32 = 1 << 15;
/// One calibration after the other; so it is after a reset.
const CALIBRATE_ALWAYS: u32 = 1 << 12;
const INT_TIMER: u32 = 1;
const INT_WATCHDOG: u32 = 2;
/// Registers at reset (TRM, registers 11.1, 11.13 and 11.8).
const T0CONFIG_AT_RESET: u32 = 0x6000_2000;
const WDTCONFIG1_AT_RESET: u32 = 0x0001_0000;

/// A timer group.
#[derive(Clone, Debug)]
pub(crate) struct TimerGroup {
    config: u32,
    base: u64,
    since: u64,
    taken: u64,
    alarm: u64,
    load: u64,
    watchdog: Watchdog,
    watchdog_config: [u32; 6],
    is_unlocked: bool,
    calibration: u32,
    calibrated: u32,
    calibration_limit: u32,
    enabled: u32,
    raw: u32,
    clock: u32,
}

impl TimerGroup {
    pub(crate) fn at_reset() -> Self {
        let mut group = Self {
            config: T0CONFIG_AT_RESET,
            base: 0,
            since: 0,
            taken: 0,
            alarm: 0,
            load: 0,
            watchdog: Watchdog::default(),
            watchdog_config: [0, WDTCONFIG1_AT_RESET, 26_000_000, 0x07FF_FFFF, 0x000F_FFFF, 0x000F_FFFF],
            is_unlocked: false,
            calibration: 0x0001_3000,
            calibrated: 0,
            calibration_limit: 0xFFFF_FF98,
            enabled: 0,
            raw: 0,
            clock: 3 << 29,
        };
        group.calibrate();
        group
    }

    /// Ticks of one period of the timer's clock.
    fn period(&self) -> u64 {
        let source = if self.config & TIMER_USES_XTAL == 0 { TICKS_PER_APB } else { TICKS_PER_XTAL };
        let divider = match self.config >> 13 & 0xFFFF {
            0 => 65_536,
            1 => 2,
            divider => u64::from(divider),
        };
        source * divider
    }

    fn value(&self, now: u64) -> u64 {
        if self.config & TIMER_ON == 0 {
            return self.base;
        }
        let run = (now - self.since) / self.period();
        if self.config & TIMER_UP == 0 { self.base.wrapping_sub(run) } else { self.base.wrapping_add(run) }
    }

    pub(crate) fn read(&self, offset: u32) -> Option<u32> {
        Some(match offset {
            T0CONFIG => self.config,
            T0LO => self.taken as u32,
            T0HI => (self.taken >> 32) as u32,
            T0UPDATE | T0LOAD => 0,
            T0ALARMLO => self.alarm as u32,
            T0ALARMHI => (self.alarm >> 32) as u32,
            T0LOADLO => self.load as u32,
            T0LOADHI => (self.load >> 32) as u32,
            WDTCONFIG0..=WDTCONFIG5 => self.watchdog_config[(offset - WDTCONFIG0) as usize / 4],
            WDTFEED => 0,
            WDTWPROTECT => {
                if self.is_unlocked {
                    KEY
                } else {
                    0
                }
            }
            RTCCALICFG => self.calibration,
            RTCCALICFG1 => self.calibrated,
            RTCCALICFG2 => self.calibration_limit,
            INT_ENA => self.enabled,
            INT_RAW => self.raw,
            INT_ST => self.raw & self.enabled,
            INT_CLR => 0,
            DATE => 0x0200_6191,
            REGCLK => self.clock,
            _ => return None,
        })
    }

    pub(crate) fn write(&mut self, offset: u32, value: u32, now: u64) -> Option<()> {
        match offset {
            T0CONFIG => {
                self.base = self.value(now);
                self.since = now;
                self.config = value;
            }
            T0UPDATE => self.taken = self.value(now),
            T0ALARMLO => self.alarm = self.alarm & !0xFFFF_FFFF | u64::from(value),
            T0ALARMHI => self.alarm = self.alarm & 0xFFFF_FFFF | u64::from(value) << 32,
            T0LOADLO => self.load = self.load & !0xFFFF_FFFF | u64::from(value),
            T0LOADHI => self.load = self.load & 0xFFFF_FFFF | u64::from(value) << 32,
            T0LOAD => (self.base, self.since) = (self.load, now),
            WDTCONFIG0..=WDTFEED if !self.is_unlocked => {}
            WDTCONFIG0..=WDTCONFIG5 => {
                self.watchdog_config[(offset - WDTCONFIG0) as usize / 4] = value;
                self.configure_watchdog(now);
            }
            WDTFEED => self.watchdog.feed(now),
            WDTWPROTECT => self.is_unlocked = value == KEY,
            RTCCALICFG => {
                self.calibration = value & !CALIBRATED;
                self.calibrate();
            }
            RTCCALICFG2 => self.calibration_limit = value & !0x7F,
            INT_ENA => self.enabled = value & 3,
            INT_CLR => self.raw &= !value,
            REGCLK => self.clock = value,
            _ => return None,
        }
        Some(())
    }

    /// Counts how many periods of the crystal are in so many of the slow clock: it is known at once.
    fn calibrate(&mut self) {
        if self.calibration & (CALIBRATE | CALIBRATE_ALWAYS) != 0 {
            let slow = u64::from(self.calibration >> 16 & 0x7FFF);
            let xtal = slow * (TICKS_PER_SECOND / TICKS_PER_XTAL) / SLOW_CLOCK_HZ;
            self.calibrated = (xtal as u32) << 7 | 1;
            self.calibration |= CALIBRATED;
        }
    }

    fn configure_watchdog(&mut self, now: u64) {
        let config = self.watchdog_config;
        let prescaler = match config[WDTCONFIG1 as usize / 4 - WDTCONFIG0 as usize / 4] >> 16 {
            0 => 65_536,
            prescaler => u64::from(prescaler),
        };
        self.watchdog.set_actions(config[0], STAGES, 2);
        let first = (WDTCONFIG2 - WDTCONFIG0) as usize / 4;
        for (timeout, value) in self.watchdog.timeouts.iter_mut().zip(&config[first..]) {
            *timeout = u64::from(*value) * prescaler * TICKS_PER_APB;
        }
        let was_on = std::mem::replace(&mut self.watchdog.is_on, config[0] & WATCHDOG_ON != 0);
        if !was_on {
            self.watchdog.feed(now);
        }
    }

    /// The tick at which the alarm goes off.
    fn alarm_at(&self) -> Option<u64> {
        let counts_up =
            self.config & (TIMER_ON | TIMER_UP | TIMER_ALARM) == TIMER_ON | TIMER_UP | TIMER_ALARM;
        counts_up.then(|| {
            self.since.saturating_add(self.alarm.saturating_sub(self.base).saturating_mul(self.period()))
        })
    }

    pub(crate) fn next(&self) -> Option<u64> {
        self.alarm_at().into_iter().chain(self.watchdog.next()).min()
    }

    /// Lets the alarm go off and the watchdog bite, when they are due; the reset that the watchdog wants.
    pub(crate) fn advance(&mut self, now: u64) -> Option<Action> {
        if let Some(at) = self.alarm_at().filter(|at| *at <= now) {
            self.raw |= INT_TIMER;
            self.config &= !TIMER_ALARM;
            if self.config & TIMER_RELOADS != 0 {
                (self.base, self.since) = (self.load, at);
            }
        }
        match self.watchdog.advance(now)? {
            Action::Off => None,
            Action::Interrupt => {
                self.raw |= INT_WATCHDOG;
                None
            }
            reset => Some(reset),
        }
    }

    pub(crate) fn timer_is_pending(&self) -> bool {
        self.raw & self.enabled & INT_TIMER != 0
    }

    pub(crate) fn watchdog_is_pending(&self) -> bool {
        self.raw & self.enabled & INT_WATCHDOG != 0
    }
}
