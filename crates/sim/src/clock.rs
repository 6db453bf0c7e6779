//! The time of a virtual device: what it waits for passes on tokio's clock, what it works on is added here.
//!
//! On a chip nothing else happens while flash is erased, a slot hashed or a signature computed. In the simulator such
//! work is done in no time, so each piece of it says what it would have taken on the chip ([`DeviceClock::spend`]). A
//! device's time is tokio's, which tests can pause, and all that was spent; it is the same in every run.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

/// The clock of one device. Clones tell the same time.
#[derive(Clone, Debug, Default)]
pub struct DeviceClock {
    worked_us: Arc<AtomicU64>,
}

impl DeviceClock {
    /// Lets time pass for work that the chip would do now.
    pub fn spend(&self, work: Duration) {
        let work_us = u64::try_from(work.as_micros()).unwrap_or(u64::MAX);
        self.worked_us.fetch_add(work_us, Ordering::Relaxed);
    }

    /// The time that was spent on work so far.
    pub fn worked(&self) -> Duration {
        Duration::from_micros(self.worked_us.load(Ordering::Relaxed))
    }

    /// A moment from which time is measured. To be called in a tokio runtime.
    pub fn mark(&self) -> Mark {
        Mark { clock: self.clone(), began: Instant::now(), worked: self.worked() }
    }
}

/// A moment on a device's clock.
#[derive(Clone, Debug)]
pub struct Mark {
    clock: DeviceClock,
    began: Instant,
    worked: Duration,
}

impl Mark {
    /// The time since then: waited and worked.
    pub fn elapsed(&self) -> Duration {
        self.began.elapsed() + self.clock.worked().saturating_sub(self.worked)
    }

    /// Resolves when `after` has passed since then.
    pub fn passed(&self, after: Duration) -> impl Future<Output = ()> + Send + use<> {
        Passed { mark: self.clone(), after, sleep: None }
    }
}

/// Work makes a wait shorter: what is left is looked at anew at every poll.
struct Passed {
    mark: Mark,
    after: Duration,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Future for Passed {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        loop {
            let left = self.after.saturating_sub(self.mark.elapsed());
            if left.is_zero() {
                return Poll::Ready(());
            }
            let end = Instant::now() + left;
            let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(end)));
            if sleep.deadline() != end {
                sleep.as_mut().reset(end);
            }
            match sleep.as_mut().poll(context) {
                Poll::Ready(()) => {}
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn time_is_what_was_waited_and_what_was_worked() {
        let clock = DeviceClock::default();
        let mark = clock.mark();
        clock.spend(Duration::from_secs(3));
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(mark.elapsed(), Duration::from_secs(5));
        assert_eq!(clock.mark().elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_ends_earlier_by_the_work_that_was_done_in_it() {
        let clock = DeviceClock::default();
        let (began, mark) = (Instant::now(), clock.mark());
        let worker = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            clock.spend(Duration::from_secs(7));
            tokio::time::sleep(Duration::from_secs(1)).await;
            clock.spend(Duration::from_secs(9));
            std::future::pending::<()>().await;
        };
        tokio::select! {
            biased;
            () = worker => {}
            () = mark.passed(Duration::from_secs(10)) => {}
        }
        // At the end of its work the worker had been at it for longer; the wait noticed as soon as it was looked at.
        assert_eq!(began.elapsed(), Duration::from_secs(2));
        assert_eq!(mark.elapsed(), Duration::from_secs(18));
    }
}
