//! What the API answers when a rollout is not made or not changed.

use axum::http::StatusCode;

use crate::problem::{Problem, Refused};
use crate::store::RolloutRefusal;

impl From<RolloutRefusal> for Problem {
    fn from(refusal: RolloutRefusal) -> Self {
        let detail = refusal.to_string();
        Self::Refused(refused(&refusal, detail))
    }
}

/// A refusal with words around it.
pub(crate) fn refused(refusal: &RolloutRefusal, detail: String) -> Refused {
    let (status, kind, title) = classify(refusal);
    Refused { status, kind, title, detail }
}

fn classify(refusal: &RolloutRefusal) -> (StatusCode, &'static str, &'static str) {
    use RolloutRefusal as R;
    match refusal {
        R::Action(_) | R::Soaks { .. } => {
            (StatusCode::CONFLICT, "rollout-state", "The rollout is in another state")
        }
        R::Unfinished { .. } => (StatusCode::CONFLICT, "rollout-unfinished", "The release has a rollout"),
        R::Newer { .. } => (StatusCode::CONFLICT, "rollout-newer", "A newer rollout is under way"),
        R::Archived { .. } => (StatusCode::CONFLICT, "release-archived", "The release is archived"),
        R::NoWayBack { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "no-way-back", "No way back"),
    }
}
