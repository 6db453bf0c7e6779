//! What all handlers share. The parts know nothing of it: whoever needs one alone is given that ([`FromRef`]).

use std::sync::Arc;

use axum::extract::FromRef;
use tokio_util::sync::CancellationToken;

use crate::artifact_store::{ArtifactStore, Chunks, Damaged};
use crate::ca_keeper::CaKeeper;
use crate::config::Config;
use crate::crl::RevocationLists;
use crate::fleet::FleetCounts;
use crate::guesses::Guesses;
use crate::metrics::Metrics;
use crate::plans::Plans;
use crate::quota::Uploads;
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
    pub(crate) ca: Arc<CaKeeper>,
    pub(crate) crl: RevocationLists,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) fleet: Arc<FleetCounts>,
    pub(crate) guesses: Guesses,
    pub(crate) uploads: Uploads,
    /// Where devices connect, such as `https://localhost:8443`.
    pub(crate) device_url: String,
    /// Cancelled when the server shuts down: what would never end by itself ends then.
    pub(crate) stop: CancellationToken,
}

impl FromRef<Arc<App>> for RevocationLists {
    fn from_ref(app: &Arc<App>) -> Self {
        app.crl.clone()
    }
}
