//! RTC control: what a chip keeps over a reset, its watchdog, its resets by software, its sleep (ESP32-C3 TRM v1.1,
//! chapter 9; `soc/rtc_cntl_reg.h` of ESP-IDF 5.5).

use updater::reset::Reset;

use super::watchdog::{Action, Watchdog};
use crate::time::{slow_clock, slow_clock_ticks};

const RTC_ADDR: u32 = 0x6000_8000;
const OPTIONS0: u32 = 0x00;
const SLP_TIMER0: u32 = 0x04;
const SLP_TIMER1: u32 = 0x08;
const TIME_UPDATE: u32 = 0x0C;
const TIME_LOW0: u32 = 0x10;
const TIME_HIGH0: u32 = 0x14;
const STATE0: u32 = 0x18;
const RESET_STATE: u32 = 0x38;
const WAKEUP_STATE: u32 = 0x3C;
const INT_ENA: u32 = 0x40;
const INT_RAW: u32 = 0x44;
const INT_ST: u32 = 0x48;
const INT_CLR: u32 = 0x4C;
const STORE0: u32 = 0x50;
const WDTCONFIG0: u32 = 0x90;
const WDTCONFIG4: u32 = 0xA0;
const WDTFEED: u32 = 0xA4;
const WDTWPROTECT: u32 = 0xA8;
const SWD_CONF: u32 = 0xAC;
const SWD_WPROTECT: u32 = 0xB0;
const LOW_POWER_ST: u32 = 0xC8;
const TIME_LOW1: u32 = 0xDC;
const TIME_HIGH1: u32 = 0xE0;
const SLP_REJECT_CAUSE: u32 = 0xF0;
const SLP_WAKEUP_CAUSE: u32 = 0xF8;
const INT_ENA_W1TS: u32 = 0x100;
const INT_ENA_W1TC: u32 = 0x104;
const SENSOR_CTRL: u32 = 0x11C;
const DATE: u32 = 0x1FC;
const WORDS: usize = 0x80;

const SW_SYS_RST: u32 = 1 << 31;
const SW_PROCPU_RST: u32 = 1 << 5;
const UPDATE: u32 = 1 << 31;
const SLEEP_EN: u32 = 1 << 31;
const MAIN_TIMER_ALARM: u32 = 1 << 16;
const WATCHDOG_ON: u32 = 1 << 31;
/// `WDT_PROCPU_RESET_EN`, without which a stage does not reset the processor; `WDT_PAUSE_IN_SLP`.
const RESETS_CPU: u32 = 1 << 11;
const PAUSES_IN_SLEEP: u32 = 1 << 9;
/// `WDT_FEED`.
const FEED: u32 = 1 << 31;
/// Stages 0 to 3 of three bits each.
const STAGES: [u32; 4] = [28, 25, 22, 19];
const KEY: u32 = 0x50D8_3AA1;
const SWD_KEY: u32 = 0x8F1D_312A;
const INT_WATCHDOG: u32 = 1 << 3;
const CAUSE: u32 = 0x3F;
/// `RTC_TIMER_TRIG_EN`, and the cause that a wake by the timer has.
const TIMER_WAKES: u32 = 1 << 3;
/// `RTC_CNTL_MAIN_STATE_IN_IDLE`: awake.
const AWAKE: u32 = 1 << 27;

/// Registers that hold what was written.
const PLAIN: [u32; 36] = [
    0x1C, 0x20, 0x24, 0x28, 0x2C, 0x30, 0x34, 0x60, 0x64, 0x68, 0x6C, 0x70, 0x74, 0x78, 0x7C, 0x80, 0x84,
    0x88, 0x8C, 0xB4, 0xCC, 0xD0, 0xD4, 0xD8, 0xE4, 0xE8, 0xEC, 0xF4, 0xFC, 0x108, 0x10C, 0x110, 0x114,
    0x118, 0x11C, 0x124,
];

/// What the program asked of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    Reset(Reset),
    /// Deep sleep until a tick, or for ever.
    Sleep(Option<u64>),
}

/// The RTC domain.
#[derive(Clone, Debug)]
pub(crate) struct Rtc {
    registers: [u32; WORDS],
    store: [u32; 8],
    watchdog: Watchdog,
    is_unlocked: bool,
    swd_is_unlocked: bool,
    /// The tick at which the domain's clock began.
    began: u64,
    taken: u64,
    taken_before: u64,
    enabled: u32,
    raw: u32,
    cause: u32,
    wakeup_cause: u32,
    wanted: Option<Wanted>,
}

impl Rtc {
    /// After a reset of the domain. What the retained registers hold after power on is the caller's noise.
    pub(crate) fn new(now: u64, store: [u32; 8]) -> Self {
        let mut registers = [0; WORDS];
        let others = [
            OPTIONS0,
            WAKEUP_STATE,
            WDTCONFIG0,
            WDTCONFIG0 + 4,
            WDTCONFIG0 + 8,
            WDTCONFIG0 + 12,
            WDTCONFIG4,
            SWD_CONF,
        ];
        for offset in PLAIN.into_iter().chain(others) {
            registers[offset as usize / 4] = crate::registers::at_reset(RTC_ADDR + offset);
        }
        Self {
            registers,
            store,
            watchdog: Watchdog::default(),
            is_unlocked: false,
            swd_is_unlocked: false,
            began: now,
            taken: 0,
            taken_before: 0,
            enabled: 0,
            raw: 0,
            cause: 1,
            wakeup_cause: 0,
            wanted: None,
        }
    }

    /// The cause that the ROM reads.
    pub(crate) fn set_cause(&mut self, code: u32, wakeup_cause: u32) {
        (self.cause, self.wakeup_cause) = (code, wakeup_cause);
        self.wanted = None;
    }

    pub(crate) fn cause(&self) -> u32 {
        self.cause
    }

    /// The clocks as the second-stage bootloader writes them down for the program (`rtc_clk_xtal_freq_update` and
    /// `rtc_clk_apb_freq_update`, ESP-IDF 5.5, `esp_hw_support/port/esp32c3/rtc_clk.c`): 40 MHz and 80 MHz.
    pub(crate) fn note_clocks(&mut self) {
        (self.store[4], self.store[5]) = (0x0028_0028, 0x4C4B_4C4B);
    }

    /// The converter's power as the second-stage bootloader leaves it, which takes noise for random numbers from it
    /// (`bootloader_random_enable`; seen in QEMU with that bootloader).
    pub(crate) fn power_converter(&mut self) {
        self.registers[SENSOR_CTRL as usize / 4] = 0xC000_0000;
    }

    /// Arms the watchdog as the second-stage bootloader leaves it (`bootloader_config_wdt`, ESP-IDF 5.5,
    /// `bootloader_support/src/bootloader_init.c`): 9 s, then a reset of the system.
    pub(crate) fn arm_bootloader_watchdog(&mut self, now: u64) {
        let stage_0 = 4 << STAGES[0];
        // `wdt_hal_init` (`hal/wdt_hal_iram.c`): the longest reset signals, and a pause in sleep.
        self.registers[WDTCONFIG0 as usize / 4] =
            WATCHDOG_ON | stage_0 | 7 << 16 | 7 << 13 | RESETS_CPU | PAUSES_IN_SLEEP;
        // The hardware doubles stage 0 (`WDT_DELAY_SEL` 0).
        let periods = 9 * crate::time::SLOW_CLOCK_HZ / 2;
        self.registers[WDTCONFIG0 as usize / 4 + 1] = periods as u32;
        self.configure_watchdog(now);
        self.watchdog.feed(now);
        self.is_unlocked = false;
    }

    pub(crate) fn read(&self, offset: u32) -> Option<u32> {
        Some(match offset {
            TIME_UPDATE | WDTFEED | INT_CLR | INT_ENA_W1TS | INT_ENA_W1TC => 0,
            TIME_LOW0 => self.taken as u32,
            TIME_HIGH0 => (self.taken >> 32) as u32 & 0xFFFF,
            TIME_LOW1 => self.taken_before as u32,
            TIME_HIGH1 => (self.taken_before >> 32) as u32 & 0xFFFF,
            STATE0 => self.registers[STATE0 as usize / 4] & !SLEEP_EN,
            // `RESET_CAUSE_PROCPU`, and the vectors in ROM (`STAT_VECTOR_SEL_PROCPU` and its twin).
            RESET_STATE => self.cause & CAUSE | 1 << 13 | 1 << 12,
            INT_ENA => self.enabled,
            INT_RAW => self.raw,
            INT_ST => self.raw & self.enabled,
            STORE0..=0x5C => self.store[(offset - STORE0) as usize / 4],
            0xB8..=0xC4 => self.store[4 + (offset - 0xB8) as usize / 4],
            WDTWPROTECT => {
                if self.is_unlocked {
                    KEY
                } else {
                    0
                }
            }
            SWD_WPROTECT => {
                if self.swd_is_unlocked {
                    SWD_KEY
                } else {
                    0
                }
            }
            LOW_POWER_ST => AWAKE,
            SLP_REJECT_CAUSE => 0,
            SLP_WAKEUP_CAUSE => self.wakeup_cause,
            DATE => 0x0200_7270,
            OPTIONS0 | SLP_TIMER0 | SLP_TIMER1 | WAKEUP_STATE | SWD_CONF | WDTCONFIG0..=WDTCONFIG4 => {
                self.registers[offset as usize / 4]
            }
            _ if is_plain(offset) => self.registers[offset as usize / 4],
            _ => return None,
        })
    }

    pub(crate) fn write(&mut self, offset: u32, value: u32, now: u64) -> Option<()> {
        match offset {
            OPTIONS0 => {
                self.registers[0] = value & !(SW_SYS_RST | SW_PROCPU_RST);
                if value & SW_SYS_RST != 0 {
                    self.wanted = Some(Wanted::Reset(Reset::SoftwareSystem));
                } else if value & SW_PROCPU_RST != 0 {
                    self.wanted = Some(Wanted::Reset(Reset::SoftwareCpu));
                }
            }
            TIME_UPDATE => {
                if value & UPDATE != 0 {
                    self.taken_before = self.taken;
                    self.taken = slow_clock(now - self.began);
                }
            }
            STATE0 => {
                self.registers[STATE0 as usize / 4] = value;
                if value & SLEEP_EN != 0 {
                    self.wanted = Some(Wanted::Sleep(self.wakes_at()));
                }
            }
            INT_ENA => self.enabled = value,
            INT_CLR => self.raw &= !value,
            INT_ENA_W1TS => self.enabled |= value,
            INT_ENA_W1TC => self.enabled &= !value,
            STORE0..=0x5C => self.store[(offset - STORE0) as usize / 4] = value,
            0xB8..=0xC4 => self.store[4 + (offset - 0xB8) as usize / 4] = value,
            WDTCONFIG0..=WDTFEED if !self.is_unlocked => {}
            WDTCONFIG0..=WDTCONFIG4 => {
                self.registers[offset as usize / 4] = value;
                self.configure_watchdog(now);
            }
            WDTFEED if value & FEED != 0 => self.watchdog.feed(now),
            WDTFEED => {}
            WDTWPROTECT => self.is_unlocked = value == KEY,
            SWD_CONF if self.swd_is_unlocked => self.registers[offset as usize / 4] = value,
            SWD_CONF => {}
            SWD_WPROTECT => self.swd_is_unlocked = value == SWD_KEY,
            SLP_TIMER0 | SLP_TIMER1 | WAKEUP_STATE => self.registers[offset as usize / 4] = value,
            _ if is_plain(offset) => self.registers[offset as usize / 4] = value,
            _ => return None,
        }
        Some(())
    }

    fn configure_watchdog(&mut self, now: u64) {
        let config = self.registers[WDTCONFIG0 as usize / 4];
        self.watchdog.set_actions(config, STAGES, 3);
        for (index, timeout) in self.watchdog.timeouts.iter_mut().enumerate() {
            let periods = u64::from(self.registers[WDTCONFIG0 as usize / 4 + 1 + index]);
            // Stage 0 is longer by a power of two that a fuse chooses, 2 where it is blank (TRM, section 12.2.2.1).
            *timeout = slow_clock_ticks(if index == 0 { 2 * periods } else { periods });
        }
        let was_on = std::mem::replace(&mut self.watchdog.is_on, config & WATCHDOG_ON != 0);
        if !was_on {
            self.watchdog.feed(now);
        }
    }

    /// The tick at which the timer wakes the chip, if it does.
    fn wakes_at(&self) -> Option<u64> {
        let [low, high] = [SLP_TIMER0, SLP_TIMER1].map(|offset| self.registers[offset as usize / 4]);
        let sources = self.registers[WAKEUP_STATE as usize / 4] >> 15;
        let is_set = high & MAIN_TIMER_ALARM != 0 && sources & TIMER_WAKES != 0;
        let periods = u64::from(high & 0xFFFF) << 32 | u64::from(low);
        is_set.then(|| self.began.saturating_add(slow_clock_ticks(periods)))
    }

    pub(crate) fn next(&self) -> Option<u64> {
        self.watchdog.next()
    }

    /// Lets the watchdog bite when it is due.
    pub(crate) fn advance(&mut self, now: u64) {
        match self.watchdog.advance(now) {
            None | Some(Action::Off) => {}
            Some(Action::Interrupt) => self.raw |= INT_WATCHDOG,
            Some(Action::ResetCpu) if self.registers[WDTCONFIG0 as usize / 4] & RESETS_CPU == 0 => {}
            Some(Action::ResetCpu) => self.want_reset(Reset::RtcWatchdogCpu),
            Some(Action::ResetCore) => self.want_reset(Reset::RtcWatchdogCore),
            Some(Action::ResetSystem) => self.want_reset(Reset::RtcWatchdogSystem),
        }
    }

    pub(crate) fn is_pending(&self) -> bool {
        self.raw & self.enabled != 0
    }

    /// Somebody wants a reset; the first one counts.
    pub(crate) fn want_reset(&mut self, reset: Reset) {
        self.wanted.get_or_insert(Wanted::Reset(reset));
    }

    /// A reset or a sleep that was asked for.
    pub(crate) fn take_wanted(&mut self) -> Option<Wanted> {
        self.wanted.take()
    }

    /// Switches the watchdog off, as it is after every reset that reaches the digital system.
    pub(crate) fn reset_watchdog(&mut self) {
        self.watchdog = Watchdog::default();
        for offset in (WDTCONFIG0..=WDTCONFIG4).step_by(4) {
            self.registers[offset as usize / 4] = crate::registers::at_reset(RTC_ADDR + offset);
        }
        self.is_unlocked = false;
    }
}

fn is_plain(offset: u32) -> bool {
    PLAIN.contains(&offset)
}
