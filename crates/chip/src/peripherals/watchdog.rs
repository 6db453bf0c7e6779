//! A watchdog of four stages, as the RTC domain and both timer groups have one (ESP32-C3 TRM v1.1, chapter 12).

/// What a stage does when its time is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Off,
    Interrupt,
    ResetCpu,
    ResetCore,
    /// With the RTC domain; the RTC watchdog alone has it.
    ResetSystem,
}

impl Action {
    fn from_bits(bits: u32) -> Self {
        match bits & 7 {
            1 => Self::Interrupt,
            2 => Self::ResetCpu,
            3 => Self::ResetCore,
            4 => Self::ResetSystem,
            _ => Self::Off,
        }
    }
}

/// A watchdog. Times are ticks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Watchdog {
    pub(crate) is_on: bool,
    pub(crate) actions: [Action; 4],
    pub(crate) timeouts: [u64; 4],
    stage: usize,
    since: u64,
}

impl Default for Watchdog {
    fn default() -> Self {
        Self { is_on: false, actions: [Action::Off; 4], timeouts: [u64::MAX; 4], stage: 0, since: 0 }
    }
}

impl Watchdog {
    /// Takes the actions of the stages, of so many bits each, from these bits on.
    pub(crate) fn set_actions(&mut self, bits: u32, shifts: [u32; 4], width: u32) {
        self.actions = shifts.map(|shift| Action::from_bits(bits >> shift & ((1 << width) - 1)));
    }

    pub(crate) fn feed(&mut self, now: u64) {
        (self.stage, self.since) = (0, now);
    }

    /// The tick at which the stage ends.
    pub(crate) fn next(&self) -> Option<u64> {
        let is_waiting = self.is_on && self.actions.iter().any(|action| *action != Action::Off);
        is_waiting.then(|| self.since.saturating_add(self.timeouts[self.stage]))
    }

    /// What the stages that ended want, the first of them.
    pub(crate) fn advance(&mut self, now: u64) -> Option<Action> {
        while let Some(end) = self.next().filter(|end| *end <= now) {
            let action = self.actions[self.stage];
            self.stage = (self.stage + 1) % self.actions.len();
            self.since = end;
            if action != Action::Off {
                return Some(action);
            }
        }
        None
    }
}
