//! The fleet as a whole: a task that counts devices every few minutes, for the plots of the dashboard and for the
//! metrics, and counts for whoever asks now.
//!
//! Samples lie on a grid of time, so that two instances on one database take the same moments: the first to store one
//! wins, the other reads it. They are kept as they are for two days, then one in an hour for ninety days.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use api::device::Health;
use tokio::sync::Mutex;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::clock::{Clock, DAY_MS};
use crate::metrics::Metrics;
use crate::store::{CertificateCount, Count, Store, StoreError};

const HOUR_MS: i64 = 60 * 60 * 1000;

/// A certificate that ends within this is told of: a device that is on renews a year's one four months before.
pub(crate) const ENDS_SOON_DAYS: i64 = 30;

/// For so long every sample is kept: at one in 5 minutes 576 of them.
const FINE_MS: i64 = 2 * DAY_MS;
/// For so long one sample in an hour is kept: 2160 of them.
const COARSE_MS: i64 = 90 * DAY_MS;

/// Old samples are removed once an hour, and not before the clock went well for so long: one that jumped ahead would have
/// all of them removed.
const STEADY: Duration = Duration::from_secs(60 * 60);

/// From one sample to the next the clock goes well within so much.
const JUMP_MS: u64 = 60 * 1000;

/// Rollouts are in one of these states.
const ROLLOUT_STATES: [&str; 9] = [
    "draft",
    "running",
    "awaiting-approval",
    "open",
    "paused",
    "halted",
    "aborted",
    "completed",
    "superseded",
];

/// A count is good for this many times as long as it took: who asks all the time costs a tenth of a connection.
const FRESH_FOR: u32 = 10;

/// A count that takes no longer than this is waited for; of a larger fleet the last one is told, and a new one made.
const AT_ONCE: Duration = Duration::from_millis(50);

/// A count that nobody asked for since this long is waited for like the first one.
const OLDEST: Duration = Duration::from_secs(30);

/// What was counted last, for everybody who asks.
pub(crate) struct FleetCounts {
    people: Store,
    clock: Clock,
    last: RwLock<Option<Counted>>,
    /// Held by who counts.
    counting: Arc<Mutex<()>>,
}

/// How the fleet is.
#[derive(Debug)]
pub(crate) struct Counts {
    pub(crate) devices: Vec<Count>,
    /// Of products that have any such devices.
    pub(crate) certificates: Vec<CertificateCount>,
}

#[derive(Clone, Debug)]
struct Counted {
    counts: Arc<Counts>,
    at: Instant,
    took: Duration,
}

impl Counted {
    fn is_fresh(&self) -> bool {
        self.at.elapsed() < self.took * FRESH_FOR
    }
}

impl FleetCounts {
    /// Counts in this database.
    pub(crate) fn new(people: Store, clock: Clock) -> Self {
        Self { people, clock, last: RwLock::default(), counting: Arc::default() }
    }

    /// The devices as they are now, or were a moment ago.
    pub(crate) async fn get(self: &Arc<Self>) -> Result<Arc<Counts>, StoreError> {
        match self.last() {
            Some(last) if last.is_fresh() => return Ok(last.counts),
            Some(last) if last.took > AT_ONCE && last.at.elapsed() < last.took * FRESH_FOR + OLDEST => {
                if let Ok(counting) = self.counting.clone().try_lock_owned() {
                    let this = self.clone();
                    tokio::spawn(async move {
                        if let Err(error) = this.count().await {
                            tracing::error!("the fleet could not be counted: {error}");
                        }
                        drop(counting);
                    });
                }
                return Ok(last.counts);
            }
            Some(_) | None => {}
        }
        // Who comes while somebody counts waits for that count.
        let _counting = self.counting.lock().await;
        match self.last() {
            Some(last) if last.is_fresh() => Ok(last.counts),
            Some(_) | None => self.count().await,
        }
    }

    fn last(&self) -> Option<Counted> {
        self.last.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn count(&self) -> Result<Arc<Counts>, StoreError> {
        let began = Instant::now();
        let now_ms = self.clock.now_ms();
        let devices = self.people.count_devices(now_ms - DAY_MS).await?;
        let certificates = self.people.count_certificates(now_ms, now_ms + ENDS_SOON_DAYS * DAY_MS).await?;
        let counts = Arc::new(Counts { devices, certificates });
        let counted = Counted { counts: counts.clone(), at: Instant::now(), took: began.elapsed() };
        *self.last.write().unwrap_or_else(PoisonError::into_inner) = Some(counted);
        Ok(counts)
    }
}

/// Samples the fleet until the server stops. A database that fails is asked again at the next moment of the grid.
pub(crate) async fn keep_sampling(
    fleet: Arc<FleetCounts>,
    every: Duration,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
) {
    let every_ms = i64::try_from(every.as_millis()).unwrap_or(i64::MAX).max(1);
    let mut shown = BTreeSet::new();
    let (mut last_ms, mut steady_since) = (fleet.clock.now_ms(), Instant::now());
    // So that nobody has to wait for the first count.
    if let Err(error) = fleet.get().await {
        tracing::error!("the fleet could not be counted: {error}");
    }
    loop {
        let now_ms = fleet.clock.now_ms();
        if now_ms.abs_diff(last_ms) > every_ms.unsigned_abs().saturating_add(JUMP_MS) {
            steady_since = Instant::now();
        }
        last_ms = now_ms;
        let at_ms = now_ms - now_ms.rem_euclid(every_ms);
        if let Err(error) = sample(&fleet, at_ms, &metrics, &mut shown).await {
            tracing::error!("the fleet could not be sampled: {error}");
        }
        if steady_since.elapsed() >= STEADY {
            steady_since = Instant::now();
            if let Err(error) = fleet.people.thin_samples(now_ms - FINE_MS, HOUR_MS, now_ms - COARSE_MS).await
            {
                tracing::error!("old samples of the fleet could not be removed: {error}");
            }
        }
        let rest_ms = (at_ms + every_ms - fleet.clock.now_ms()).clamp(1, every_ms);
        if stop.run_until_cancelled(sleep(Duration::from_millis(rest_ms.unsigned_abs()))).await.is_none() {
            return;
        }
    }
}

/// What is counted of certificates, by its name in the metrics.
fn by_state(count: Option<&CertificateCount>) -> [(&'static str, i64); 3] {
    let of = |devices: fn(&CertificateCount) -> i64| count.map_or(0, devices);
    [
        ("ended", of(|count| count.ended)),
        ("ending", of(|count| count.ending)),
        ("refused", of(|count| count.refused)),
    ]
}

/// Sees that there is a sample of this moment, and sets the metrics by it.
/// `shown` are the products that the metrics have, and will have.
async fn sample(
    fleet: &Arc<FleetCounts>,
    at_ms: i64,
    metrics: &Metrics,
    shown: &mut BTreeSet<String>,
) -> Result<(), StoreError> {
    if !fleet.people.is_sampled(at_ms).await? {
        let counts = fleet.count().await?;
        fleet.people.add_sample(at_ms, &counts.devices).await?;
    }
    let stored = fleet.people.samples("", "", at_ms, 1).await?;
    let products: BTreeSet<String> = stored.iter().map(|count| count.product.clone()).collect();
    // The last device of a product may have been deleted, and the product too.
    for product in shown.difference(&products) {
        for health in Health::ALL.map(Health::name) {
            metrics.devices.remove(&[("product", product.clone()), ("health", health.to_owned())]);
        }
        for (state, _) in by_state(None) {
            metrics.device_certificates.remove(&[("product", product.clone()), ("state", state.to_owned())]);
        }
    }
    let counts = fleet.get().await?;
    for product in &products {
        for health in Health::ALL.map(Health::name) {
            let of_both = stored.iter().filter(|count| count.product == *product && count.health == health);
            let labels = [("product", product.clone()), ("health", health.to_owned())];
            metrics.devices.get_or_create(&labels).set(of_both.map(|count| count.devices).sum());
        }
        for (state, devices) in by_state(counts.certificates.iter().find(|count| count.product == *product)) {
            let labels = [("product", product.clone()), ("state", state.to_owned())];
            metrics.device_certificates.get_or_create(&labels).set(devices);
        }
    }
    *shown = products;
    let rollouts = fleet.people.count_rollouts().await?;
    for state in ROLLOUT_STATES {
        let count = rollouts.iter().find(|(found, _)| found == state).map_or(0, |(_, count)| *count);
        metrics.rollouts.get_or_create(&[("state", state.to_owned())]).set(count);
    }
    #[expect(clippy::cast_precision_loss, reason = "f64 is exact to milliseconds for 285,000 years")]
    metrics.sampled_at.set(at_ms as f64 / 1000.0);
    Ok(())
}
