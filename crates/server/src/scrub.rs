//! Reading all artifacts now and then: what is damaged is known before a device asks for it.

use std::sync::Arc;
use std::time::Duration;

use manifest::Digest;
use tokio::time::sleep;

use crate::app::App;

/// The shortest pause between two artifacts: reading one of 16 MiB takes a tenth of a second.
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);

/// The pause after a pass that could not find out what there is to read.
const AFTER_FAILURE: Duration = Duration::from_secs(60);

/// Reads one artifact after the other, all of them in [`crate::Config::scrub_period`], until the server stops.
pub(crate) async fn keep_scrubbing(app: Arc<App>) {
    let period = app.config.scrub_period;
    loop {
        let digests = match app.people.store.artifact_digests().await {
            Ok(digests) => digests,
            Err(error) => {
                tracing::error!("the artifacts are not read: {error}");
                if app.stop.run_until_cancelled(sleep(AFTER_FAILURE.min(period))).await.is_none() {
                    return;
                }
                continue;
            }
        };
        let count = u32::try_from(digests.len()).unwrap_or(u32::MAX);
        let pause = (period / count.max(1)).max(SHORTEST_PAUSE.min(period));
        if count == 0 && app.stop.run_until_cancelled(sleep(pause)).await.is_none() {
            return;
        }
        for digest in digests.iter().filter_map(|digest| digest.parse().ok()) {
            if app.stop.run_until_cancelled(sleep(pause)).await.is_none() {
                return;
            }
            look_at(&app, digest).await;
        }
    }
}

/// Reads an artifact of a release, and notes whether it is whole.
async fn look_at(app: &App, digest: Digest) {
    let found = match app.artifacts.is_whole(digest).await {
        Ok(found) => found,
        Err(error) => return tracing::error!("artifact {digest} cannot be read: {error}"),
    };
    let what = match found {
        Some(true) => None,
        Some(false) => Some("damaged"),
        None => Some("not there"),
    };
    if let Some(what) = what {
        tracing::error!("artifact {digest} is {what}: devices cannot install it; upload it again");
    }
    app.damaged.note(digest, what.is_some(), &app.metrics);
}
