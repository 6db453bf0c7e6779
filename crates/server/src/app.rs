//! What all handlers share. The parts know nothing of it: whoever needs one alone is given that ([`FromRef`]).

use std::sync::Arc;

use axum::extract::FromRef;
use tokio_util::sync::CancellationToken;

use crate::artifact_store::{ArtifactStore, Chunks, Damaged};
use crate::ca_keeper::CaKeeper;
use crate::clock::Clock;
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
    pub(crate) people: People,
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

/// What most requests of people need.
#[derive(Clone)]
pub(crate) struct People {
    /// The same database as the devices', on connections of its own.
    pub(crate) store: Store,
    pub(crate) clock: Clock,
}

impl FromRef<Arc<App>> for People {
    fn from_ref(app: &Arc<App>) -> Self {
        app.people.clone()
    }
}

impl FromRef<Arc<App>> for RevocationLists {
    fn from_ref(app: &Arc<App>) -> Self {
        app.crl.clone()
    }
}
