//! The update engine: what the updater does at a pit stop, as a value.
//!
//! [`start`] and [`step`] are the whole interface: `step(state, event) -> (state, action)`. There is no clock, no
//! randomness, no flash and no socket in this crate; what they say arrives as events, and what shall be done to
//! them leaves as actions. A shell (crate `updater-io`) performs each action and makes no choice of its own, so a
//! pit stop on a chip, in the simulator and in a property test is the same code with the same decisions.
//!
//! * [`state`]: the states, their transitions drawn above the enum, and `step`.
//! * [`policy`]: the questions "may I?" and "what now?" as pure functions that return their reason.
//! * [`plan`]: from a trusted manifest to an immutable install plan.
//! * [`facts`]: what the shell finds out before the first decision.
//! * [`reset`]: which reset of which chip they survive, and what the ROM says of it.
//! * [`retained`]: the 32 bits that survive a reset.
//! * [`record`]: the install record of the vault.

#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

extern crate alloc;

mod action;
mod carried;
mod event;
pub mod facts;
pub mod limits;
pub mod plan;
pub mod policy;
pub mod record;
pub mod reset;
pub mod retained;
mod slot;
pub mod state;

pub use action::{Action, FetchChunk, NextKey, Preview, Scope, Verdict, Writes};
pub use carried::{Anchors, Chain, FirstSector, Key, Token};
pub use event::{Event, Failure};
pub use facts::{
    CertificateLife, Certified, Identity, ImageFacts, JournalFacts, SlotContent, SlotFacts, Survey,
    VaultFacts,
};
pub use plan::Plan;
pub use policy::{LastRun, Start};
pub use record::InstallRecord;
pub use retained::{Phase, Retained};
pub use slot::{SECTOR_BYTES, SlotIndex};
pub use state::{State, start, step};
