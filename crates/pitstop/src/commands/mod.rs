//! What each command does: one file per resource, options first, then the work.

pub(crate) mod admin;
pub(crate) mod audit;
pub(crate) mod ca;
mod consent;
pub(crate) mod device;
pub(crate) mod flash;
pub(crate) mod fleet;
mod identity;
pub(crate) mod image;
pub(crate) mod keys;
pub(crate) mod layout;
pub(crate) mod options;
mod plan;
pub(crate) mod product;
pub(crate) mod provision;
pub(crate) mod release;
pub(crate) mod rollout;
pub(crate) mod serve;
mod target;
pub(crate) mod token;
pub(crate) mod webhook;
mod wifi;
