//! Interrupt matrix: from 62 sources to 31 lines of the processor (ESP32-C3 TRM v1.1, chapter 8).

const MAPS: u32 = 62;
const MAPS_END: u32 = MAPS * 4;
const STATUS0: u32 = 0xF8;
const STATUS1: u32 = 0xFC;
const CLOCK_GATE: u32 = 0x100;
const ENABLE: u32 = 0x104;
const TYPE: u32 = 0x108;
const CLEAR: u32 = 0x10C;
const PENDING: u32 = 0x110;
const PRIORITY0: u32 = 0x114;
const PRIORITY31: u32 = PRIORITY0 + 31 * 4;
const THRESHOLD: u32 = 0x194;
const DATE: u32 = 0x7FC;

/// The sources that are modelled (`soc/interrupts.h` of ESP-IDF 5.5, esp32c3).
pub(crate) mod source {
    pub(crate) const UART0: u32 = 21;
    pub(crate) const RTC_CORE: u32 = 27;
    pub(crate) const TIMER_GROUP0: u32 = 32;
    pub(crate) const WATCHDOG0: u32 = 33;
    pub(crate) const TIMER_GROUP1: u32 = 34;
    pub(crate) const WATCHDOG1: u32 = 35;
    pub(crate) const SYSTIMER0: u32 = 37;
    pub(crate) const FROM_CPU0: u32 = 50;
}

/// The matrix.
#[derive(Clone, Debug)]
pub(crate) struct Interrupts {
    maps: [u8; MAPS as usize],
    enabled: u32,
    /// Lines that answer to an edge, and keep what they have seen until it is cleared.
    edges: u32,
    latched: u32,
    /// Lines with an active source.
    levels: u32,
    priorities: [u8; 32],
    threshold: u8,
    clock_gate: u32,
    /// The sources that are active.
    sources: u64,
}

impl Interrupts {
    pub(crate) fn at_reset() -> Self {
        Self {
            maps: [0; MAPS as usize],
            enabled: 0,
            edges: 0,
            latched: 0,
            levels: 0,
            priorities: [0; 32],
            threshold: 0,
            clock_gate: 1,
            sources: 0,
        }
    }

    pub(crate) fn read(&self, offset: u32) -> Option<u32> {
        Some(match offset {
            ..MAPS_END => u32::from(self.maps[offset as usize / 4]),
            STATUS0 => self.sources as u32,
            STATUS1 => (self.sources >> 32) as u32,
            CLOCK_GATE => self.clock_gate,
            ENABLE => self.enabled,
            TYPE => self.edges,
            CLEAR => 0,
            PENDING => self.pending(),
            PRIORITY0..=PRIORITY31 => u32::from(self.priorities[(offset - PRIORITY0) as usize / 4]),
            THRESHOLD => u32::from(self.threshold),
            DATE => 0x0200_7210,
            _ => return None,
        })
    }

    pub(crate) fn write(&mut self, offset: u32, value: u32) -> Option<()> {
        match offset {
            ..MAPS_END => self.maps[offset as usize / 4] = (value & 31) as u8,
            // Read-only: a write changes nothing.
            STATUS0 | STATUS1 | PENDING => {}
            CLOCK_GATE => self.clock_gate = value,
            ENABLE => self.enabled = value & !1,
            TYPE => self.edges = value & !1,
            CLEAR => self.latched &= !value,
            PRIORITY0..=PRIORITY31 => self.priorities[(offset - PRIORITY0) as usize / 4] = (value & 15) as u8,
            THRESHOLD => self.threshold = (value & 15) as u8,
            _ => return None,
        }
        self.route(self.sources);
        Some(())
    }

    /// Says which sources are active.
    pub(crate) fn route(&mut self, sources: u64) {
        let mut levels = 0;
        let mut left = sources;
        while left != 0 {
            let source = left.trailing_zeros();
            left &= left - 1;
            levels |= 1 << self.maps[source as usize];
        }
        // Line 0 is none.
        levels &= !1;
        self.latched |= levels & !self.levels & self.edges;
        (self.sources, self.levels) = (sources, levels);
    }

    fn pending(&self) -> u32 {
        self.levels & !self.edges | self.latched & self.edges
    }

    /// The line that the processor takes next, if it takes any: the one with the highest priority, of these the lowest.
    pub(crate) fn line(&self) -> Option<u32> {
        let mut left = self.pending() & self.enabled;
        let mut best: Option<(u8, u32)> = None;
        while left != 0 {
            let line = left.trailing_zeros();
            left &= left - 1;
            let priority = self.priorities[line as usize];
            let is_heard = priority > 0 && priority >= self.threshold;
            if is_heard && best.is_none_or(|(other, _)| priority > other) {
                best = Some((priority, line));
            }
        }
        best.map(|(_, line)| line)
    }
}
