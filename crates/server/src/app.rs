//! What all handlers share.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::artifact_store::{ArtifactStore, Damaged};
use crate::authorities::CaKeeper;
use crate::config::Config;
use crate::crl::RevocationLists;
use crate::device::Chunks;
use crate::fleet::FleetCounts;
use crate::guesses::Guesses;
use crate::metrics::Metrics;
use crate::quota::Uploads;
use crate::rollouts::Plans;
use crate::store::Store;

/// What all handlers share.
pub(crate) struct App {
    pub(crate) config: Config,
    pub(crate) store: Store,
    /// The same database, for the API and for what is counted beside.
    pub(crate) people: Store,
    pub(crate) plans: Plans,
    pub(crate) artifacts: ArtifactStore,
    pub(crate) chunks: Chunks,
    pub(crate) damaged: Damaged,
    pub(crate) ca: CaKeeper,
    pub(crate) crl: RevocationLists,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) fleet: FleetCounts,
    pub(crate) guesses: Guesses,
    pub(crate) uploads: Uploads,
    /// Where devices connect, such as `https://localhost:8443`.
    pub(crate) device_url: String,
    /// Cancelled when the server shuts down: what would never end by itself ends then.
    pub(crate) stop: CancellationToken,
}
