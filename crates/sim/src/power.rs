//! The power supply of a virtual device.

use std::future::{Future, pending};

use tokio::sync::watch;

use crate::clock::DeviceClock;

/// A handle on one device's power supply, and on the clock that runs with it. Clones share both.
///
/// The flash cuts the power in the middle of an operation ([`crate::flash::PowerCut`]); the network goes silent then;
/// whoever runs the device waits for [`PowerSwitch::lost`] beside the device's own future and drops that future.
#[derive(Clone, Debug)]
pub struct PowerSwitch {
    state: watch::Sender<State>,
    clock: DeviceClock,
}

#[derive(Clone, Copy, Debug)]
struct State {
    on: bool,
    /// How often the power was cut. What was started before a cut stays dead after the power is back.
    cuts: u64,
}

impl PowerSwitch {
    /// A supply that is on.
    pub fn new() -> Self {
        Self { state: watch::Sender::new(State { on: true, cuts: 0 }), clock: DeviceClock::default() }
    }

    /// The device's clock.
    pub fn clock(&self) -> &DeviceClock {
        &self.clock
    }

    /// Whether there is power.
    pub fn is_on(&self) -> bool {
        self.state.borrow().on
    }

    /// How often the power was cut.
    pub fn cuts(&self) -> u64 {
        self.state.borrow().cuts
    }

    /// Cuts the power. Without effect when it is off.
    pub fn cut(&self) {
        self.state.send_if_modified(|state| {
            let was_on = state.on;
            if was_on {
                *state = State { on: false, cuts: state.cuts + 1 };
            }
            was_on
        });
    }

    /// Turns the power on. Without effect when it is on.
    pub fn restore(&self) {
        self.state.send_if_modified(|state| !std::mem::replace(&mut state.on, true));
    }

    /// Resolves when the power is cut after this call, or at once when it is off. A cut is not missed when the
    /// power comes back before the future is polled.
    pub fn lost(&self) -> impl Future<Output = ()> + Send + 'static {
        self.session().lost()
    }

    /// The time from now to the next cut.
    pub(crate) fn session(&self) -> Session {
        Session { cuts: self.cuts(), state: self.state.clone() }
    }
}

impl Default for PowerSwitch {
    fn default() -> Self {
        Self::new()
    }
}

/// One stretch of uninterrupted power.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    state: watch::Sender<State>,
    cuts: u64,
}

impl Session {
    fn is_alive(state: &State, cuts: u64) -> bool {
        state.on && state.cuts == cuts
    }

    /// Whether the power has been on since the session began.
    pub(crate) fn is_current(&self) -> bool {
        Self::is_alive(&self.state.borrow(), self.cuts)
    }

    /// Resolves when the session is over.
    pub(crate) fn lost(&self) -> impl Future<Output = ()> + Send + use<> {
        let (cuts, mut changes) = (self.cuts, self.state.subscribe());
        // The future keeps its own sender, so that the channel cannot close while it waits.
        let keep_open = self.state.clone();
        async move {
            // The channel cannot be closed; see above.
            let _ = changes.wait_for(|state| !Session::is_alive(state, cuts)).await;
            drop(keep_open);
        }
    }

    /// Runs an operation of the device; without power it stays pending for ever, as on a chip that is off.
    pub(crate) async fn run<T>(&self, operation: impl Future<Output = T>) -> T {
        tokio::select! {
            biased;
            () = self.lost() => pending().await,
            output = operation => output,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_short_cut_is_not_missed() {
        let power = PowerSwitch::new();
        let lost = power.lost();
        power.cut();
        power.cut();
        power.restore();
        assert!(power.is_on());
        assert_eq!(power.cuts(), 1);
        lost.await;
    }

    #[tokio::test(start_paused = true)]
    async fn an_operation_of_an_ended_session_stays_pending() {
        let power = PowerSwitch::new();
        let session = power.session();
        assert_eq!(session.run(async { 1 }).await, 1);
        power.cut();
        power.restore();
        let hour = Duration::from_secs(3600);
        assert!(tokio::time::timeout(hour, session.run(async { 1 })).await.is_err());
        assert_eq!(power.session().run(async { 2 }).await, 2);
        assert!(tokio::time::timeout(hour, power.lost()).await.is_err());
    }
}
