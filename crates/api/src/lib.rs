//! What the admin API takes and answers: the bodies and the parameters of `docs/openapi.json`, under its names.
//!
//! The server makes that document of these types, the command line and the dashboard speak through them. A type is added here,
//! and nowhere else.
//!
//! What holds for all of them:
//!
//! - Times are RFC 3339 in UTC, digests 64 lower-case hexadecimal digits, chips named as Espressif's tools name them.
//! - A request with a member that nobody knows is refused; of an answer members that this version does not know are ignored.
//! - A request leaves out what is not said, and sends no null but where that means something: `Some(None)` of an
//!   `Option<Option<T>>`.
//! - Nothing is judged here but the form. What a value may be, the server says.

#![forbid(unsafe_code)]
#![allow(
    missing_docs,
    reason = "a comment at a field is its description in docs/openapi.json, where a plain name needs none"
)]

mod absent;
mod names;

pub mod access;
pub mod artifact;
pub mod audit;
pub mod bulk;
pub mod ca;
pub mod chip_revision;
pub mod device;
pub mod event;
pub mod evidence;
pub mod fleet;
pub mod info;
pub mod page;
pub mod problem;
pub mod product;
pub mod publisher_key;
pub mod release;
pub mod rollout;
pub mod webhook;

pub use names::UnknownName;
