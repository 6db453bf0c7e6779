//! Faults of the updater itself that strike at every start, always at the same moment: a crash, a hang, a reset.
//!
//! A crash is one: the virtual updater is unwound from wherever it is, also from the middle of an action without a wait.

use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use updater::Action;
use updater::reset::{Hint, Reset};

use crate::clock::DeviceClock;

/// Where in a start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Moment {
    /// The slot with this label is looked at before anything is initialised, and started if it is accepted.
    EarlyCheck(&'static str),
    /// The hardware is up, and the setup over the serial port has its turn.
    Setup,
    /// Anything is read from the partition with this label.
    Reads(&'static str),
    /// The shell is about to perform the action of this name ([`action_name`]).
    Action(&'static str),
    /// The verdict is known, and nothing is left to do but the reset or the wait.
    Departure,
}

/// What happens then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Strike {
    /// The chip resets. A panic of the updater is a reset by software that leaves a hint.
    Reset(Reset, Option<Hint>),
    /// Nothing goes on any more, until the watchdog that is armed resets the chip.
    Hang,
    /// The slot is not accepted, whatever the pit stop has said of it. In the early check only.
    Refusal,
}

/// One fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Standing {
    /// Where it strikes.
    pub at: Moment,
    /// How.
    pub how: Strike,
}

/// The updater's own watchdog (firmware/updater/src/watchdog.rs): RTC watchdog, reset of the core.
const WATCHDOG: (Reset, Duration) = (Reset::RtcWatchdogCore, Duration::from_secs(30));
/// What the second-stage bootloader leaves armed (ESP-IDF 5.5, `CONFIG_BOOTLOADER_WDT_TIME_MS`), and the updater's first
/// line lets reset the core alone.
const EARLY_WATCHDOG: (Reset, Duration) = (Reset::RtcWatchdogCore, Duration::from_secs(9));

impl Strike {
    /// Strikes. Comes back only where there is nothing to strike.
    pub(crate) fn strike(self, clock: &DeviceClock) {
        self.by(WATCHDOG, clock);
    }

    /// Strikes in the early check: `None` refuses the slot.
    pub(crate) fn early(self, clock: &DeviceClock) -> Option<()> {
        self.by(EARLY_WATCHDOG, clock);
        None
    }

    fn by(self, (watchdog, timeout): (Reset, Duration), clock: &DeviceClock) {
        match self {
            Self::Reset(reset, hint) => resume_unwind(Box::new(Struck { reset, hint })),
            Self::Hang => {
                clock.spend(timeout);
                resume_unwind(Box::new(Struck { reset: watchdog, hint: None }))
            }
            Self::Refusal => {}
        }
    }
}

/// The name of an action's kind.
pub fn action_name(action: &Action) -> String {
    let text = format!("{action:?}");
    text.chars().take_while(|letter| letter.is_alphanumeric()).collect()
}

/// How a start ended that a fault struck.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Struck {
    pub(crate) reset: Reset,
    pub(crate) hint: Option<Hint>,
}

/// Runs a part of the updater until it ends, or until a fault strikes in it.
pub(crate) fn struck_in<T>(work: impl FnOnce() -> T) -> Result<T, Struck> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|payload| match payload.downcast::<Struck>() {
        Ok(struck) => *struck,
        Err(bug) => resume_unwind(bug),
    })
}

/// The same for a part that waits.
pub(crate) async fn survive<T>(work: impl Future<Output = T>) -> Result<T, Struck> {
    let mut work = pin!(work);
    poll_fn(|context| match struck_in(|| work.as_mut().poll(context)) {
        Ok(Poll::Pending) => Poll::Pending,
        Ok(Poll::Ready(output)) => Poll::Ready(Ok(output)),
        Err(struck) => Poll::Ready(Err(struck)),
    })
    .await
}
