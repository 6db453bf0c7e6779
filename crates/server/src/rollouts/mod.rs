//! What the server does about rollouts: what devices may be told ([`Plans`]), what goes on by itself ([`ticker`]), and how
//! many devices there are ([`presence`]).
//!
//! Who gets what and when a rollout halts is decided by the crate `rollout`; here is what it is asked with, and what is
//! done about its answers.

mod plans;
mod presence;
mod ticker;
mod watch;

use rollout::Plan;
use sqlx::AnyConnection;

use crate::store::{Change, NewRollout, RolloutRefusal, StoreError, create_rollout};

pub(crate) use plans::{Plans, ProductPlan};
pub(crate) use presence::keep_counting;
pub(crate) use ticker::run;

/// The plan of a rollout that brings none: the product's, whose JSON is given, or all devices at once.
pub(crate) fn default_plan(product: &str, json: Option<&str>) -> Result<Plan, StoreError> {
    let Some(json) = json else { return Ok(Plan::all_at_once()) };
    serde_json::from_str(json).map_err(|error| StoreError::Unreadable {
        what: format!("the default plan of product {product}"),
        error: error.to_string(),
    })
}

/// Starts the rollout of a release that was just published, within the transaction of that: by the product's plan, or to
/// all devices at once. Returns the rollout's id, or why the plan does not fit the release.
pub(crate) async fn start_default(
    connection: &mut AnyConnection,
    product: &str,
    channel: &str,
    sequence: i64,
    default_plan: Option<&str>,
    change: &Change,
) -> Result<Result<String, RolloutRefusal>, StoreError> {
    let plan = self::default_plan(product, default_plan)?;
    let new = NewRollout { product, channel, sequence, plan: &plan, start: true };
    create_rollout(connection, &new, change).await
}
