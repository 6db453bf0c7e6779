//! What the server does about rollouts by itself: what goes on ([`ticker`]), and how many devices there are
//! ([`presence`]).
//!
//! Who gets what and when a rollout halts is decided by the crate `rollout`; here is what it is asked with, and what is
//! done about its answers.

mod presence;
mod ticker;
mod watch;

pub(crate) use presence::keep_counting;
pub(crate) use ticker::run;
