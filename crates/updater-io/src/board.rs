//! The board: everything of one machine that the shell needs, in one trait.

use alloc::sync::Arc;
use core::error::Error;

use embedded_storage::nor_flash::NorFlash;
use flashfmt::image::{ImageHeader, Segments, Target};
use rand_core::CryptoRngCore;
use rustls::crypto::CryptoProvider;
use sha2::Digest;
use sha2::digest::consts::U32;
use updater::{Action, State};
use wire::Reason;

use crate::platform::{Network, Timer};

/// One machine: an ESP32 or a virtual one.
pub trait Board {
    /// The whole flash, from address 0.
    type Flash: NorFlash;
    /// The way to the server.
    type Network: Network;
    /// Monotonic time. Clones tell the same time.
    type Timer: Timer + Clone;
    /// A cryptographic random number generator: on a chip the TRNG with its entropy source running.
    type Rng: CryptoRngCore;
    /// SHA-256 over slots and chunks: the chip's engine, or software, which takes about 130 instructions a byte.
    /// TLS and signatures do not use it.
    type Sha256: Digest<OutputSize = U32> + Clone;

    /// The whole flash, from address 0.
    fn flash(&mut self) -> &mut Self::Flash;

    /// The way to the server.
    fn network(&mut self) -> &mut Self::Network;

    /// Monotonic time.
    fn timer(&self) -> Self::Timer;

    /// Random numbers.
    fn rng(&mut self) -> &mut Self::Rng;

    /// What TLS computes with.
    fn crypto_provider(&self) -> Arc<CryptoProvider>;

    /// What is known without looking at flash.
    fn facts(&self) -> BoardFacts;

    /// Whether the chain-loader can start an image for this chip with these headers. It says no to one that loads over
    /// the memory that it needs itself. Asked where the updater starts the application, not where the bootloader does.
    fn can_start(&self, header: &ImageHeader, segments: &Segments) -> bool;

    /// Writes the retained register.
    fn retain_bits(&mut self, bits: u32);

    /// Free heap in bytes, where it can be known.
    fn free_heap_bytes(&self) -> Option<u32>;

    /// Called before each action and at every fault: for a console, a progress bar, a watchdog.
    fn observe(&mut self, observed: Observed<'_>);
}

/// What is known about a board without looking at flash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BoardFacts {
    /// The chip that an image is to start on.
    pub target: Target,
    /// Version of the updater.
    pub updater_version: &'static str,
    /// When the updater was built, seconds since 1970: the lowest time floor.
    pub build_time_s: u32,
}

/// What happens at a pit stop.
#[derive(Clone, Copy, Debug)]
pub enum Observed<'a> {
    /// An action begins.
    Acting {
        /// The engine's state.
        state: &'a State,
        /// What is about to be done.
        action: &'a Action,
    },
    /// Bytes of the artifact have arrived and are on their way into flash.
    Received {
        /// How many.
        bytes: u32,
    },
    /// Something failed.
    Fault {
        /// The code that decides what is done about it.
        reason: Reason,
        /// What exactly; the sources tell more.
        error: &'a (dyn Error + 'static),
    },
}
