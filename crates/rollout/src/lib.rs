//! Who gets which release, and when a rollout halts.
//!
//! Everything here is a value or a pure function: no clock, no randomness, no database. The server asks, and stores what
//! it is told.
//!
//! | question | answered by |
//! | --- | --- |
//! | What may a plan say? | [`Plan`] |
//! | Which wave is a device in? | [`Plan::wave_of`] |
//! | How many devices has each wave, and who stands in for an empty one? | [`Census`] |
//! | What is a device to run, and why? | [`decide`] |
//! | How does a device do with a release? | [`Attempt::observe`] |
//! | How long may a device be silent, and what do its runs show? | [`Cadence`], [`Runs`] |
//! | Does a rollout open its next wave, or halt? | [`advance`] |
//! | What does a wave wait for? | [`lack`], [`unfinished`] |
//! | What may an operator do with it? | [`State::apply`] |
//! | What happens next, in words? | [`next`] |

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod advance;
mod attempt;
mod cadence;
mod census;
mod decide;
mod evidence;
mod failure;
mod lack;
mod next;
mod percent;
mod plan;
mod progress;
mod select;
mod state;
mod window;

pub use advance::{Cause, Excess, Step, advance, soaks_until_ms};
pub use attempt::{Attempt, LastRun, Sign};
pub use cadence::{Cadence, Runs, SHORT_RUNS};
pub use census::Census;
pub use decide::{
    DeviceFacts, NoOffer, OfferReason, ProductFacts, ReleaseFacts, RolloutFacts, Running, Verdict,
    WaitReason, decide,
};
pub use evidence::Evidence;
pub use failure::{Failure, is_failure};
pub use lack::{Lack, lack, unfinished};
pub use next::{lacking, next};
pub use percent::{Percent, PercentError};
pub use plan::{Approval, Limits, MAX_SOAK_S, MAX_WAVES, OnHalt, Plan, PlanError, Wave};
pub use progress::{Counters, Observed, Progress};
pub use select::{MAX_TAGS, Select, StandIn, bucket, check_tag};
pub use state::{Action, ActionError, State};
pub use window::{Day, TimeOfDay, Window, WindowError};
