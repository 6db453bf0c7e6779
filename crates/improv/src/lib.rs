//! The device's side of the Improv-WiFi serial protocol, version 1 (<https://www.improv-wifi.com/serial/>): a browser
//! or a phone gives the device its Wi-Fi over the wire that also carries the console.
//!
//! No I/O, no clock: the firmware moves bytes and carries out orders, one at a time.
//!
//! ```text
//!  bytes ──► Parser ──► Event::Received ──► Service ──► Step::send    bytes to write, without a break
//!            silence ► Parser::silence        ▲    └──► Step::action  join this network; scan
//!                                             └──────── Event::Joined, JoinFailed, Scanned
//! ```
//!
//! Of the protocol's optional commands (hostname, device name, network state) there are none: they are answered with
//! [`ErrorState::UnknownRpc`], as the protocol asks.

#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

extern crate alloc;

mod command;
mod packet;
mod parser;
mod response;
mod service;
mod settings;

pub use command::{Command, CommandId, ProtocolError};
pub use packet::MAX_PACKET_BYTES;
pub use parser::{Parser, SILENCE_MS};
pub use response::{CurrentState, ErrorState, MAX_LIST_BYTES, Response, StringList, TooLong};
pub use service::{Action, DeviceInformation, Event, Network, Service, Step};
pub use settings::{Passphrase, PassphraseError, Ssid, SsidError, WifiSettings};
