//! What this chip can do to give itself to the application.

#[cfg(feature = "chain-load")]
mod chain_load;
#[cfg(feature = "chain-load")]
pub(crate) use chain_load::{Sha256, can_start, hand_over_if_due};

#[cfg(not(feature = "chain-load"))]
mod rollback_only;
#[cfg(not(feature = "chain-load"))]
pub(crate) use rollback_only::{Sha256, can_start, hand_over_if_due};
