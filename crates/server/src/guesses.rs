//! Wrong credentials: their answer takes its time, so that trying them out does, too.

use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::sleep;

use crate::metrics;
use crate::metrics::Metrics;

/// How long the answer to wrong credentials is held back.
const WAIT: Duration = Duration::from_millis(300);

/// Answers of a listener that are held back at once; with the wait about 200 guesses a second.
const MAX_WAITING: usize = 64;

/// Wrong credentials of both listeners.
#[derive(Debug)]
pub(crate) struct Guesses {
    pub(crate) device: Guess,
    pub(crate) admin: Guess,
}

/// Wrong credentials of one listener.
#[derive(Debug)]
pub(crate) struct Guess {
    listener: &'static str,
    waiting: Semaphore,
}

/// So many are held back already that this one is answered at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooMany;

impl Default for Guesses {
    fn default() -> Self {
        let of = |listener| Guess { listener, waiting: Semaphore::new(MAX_WAITING) };
        Self { device: of(metrics::DEVICE), admin: of(metrics::ADMIN) }
    }
}

impl Guess {
    /// Counts wrong credentials, and returns when they are to be answered.
    pub(crate) async fn wrong(&self, metrics: &Metrics) -> Result<(), TooMany> {
        metrics.wrong_credentials.add(self.listener);
        let Ok(_waiting) = self.waiting.try_acquire() else {
            metrics.rate_limited.add("wrong-credentials");
            return Err(TooMany);
        };
        sleep(WAIT).await;
        Ok(())
    }
}
