//! What a publisher is warned of: it is published all the same, and the warning stays with the release.

use crate::store::RolloutRow;

/// A release that is there already.
#[derive(Clone, Debug, sqlx::FromRow)]
pub(crate) struct Namesake {
    pub(crate) sequence: i64,
    pub(crate) version: String,
    pub(crate) digest: String,
}

/// What is odd about a release in the light of the releases that have its digest or its version.
pub(super) fn mix_ups(digest: &str, version: &str, namesakes: &[Namesake]) -> impl Iterator<Item = String> {
    namesakes.iter().map(move |other| {
        let Namesake { sequence, version: their_version, .. } = other;
        if other.digest == digest {
            format!(
                "release {sequence} ({their_version}) is the same image: devices tell releases apart by the digest, and \
                 one that runs it needs no install"
            )
        } else {
            format!("release {sequence} is called {version} too, and is another image")
        }
    })
}

/// That a rollout has waves which never open, because the release's own rollout takes its place.
pub(super) fn cut_short(rollout: &RolloutRow) -> String {
    format!(
        "rollout {} of release {} ({}) is {} and is superseded: its further waves do not open",
        rollout.id, rollout.sequence, rollout.version, rollout.state
    )
}
