//! A virtual device as the updater sees it.

use std::sync::Arc;

use flashfmt::image::{ImageHeader, Segments};
use rand::rngs::StdRng;
use rustls::crypto::CryptoProvider;
use sha2::Sha256;
use updater_io::board::{Board, BoardFacts, Observed};

use super::{UPDATER_VERSION, VirtualDevice, target};
use crate::flash::SimFlash;
use crate::net::{SimNetwork, SimTimer};

/// The device while the updater runs on it.
pub(super) struct VirtualBoard<'d> {
    pub(super) device: &'d mut VirtualDevice,
    pub(super) timer: SimTimer,
}

impl Board for VirtualBoard<'_> {
    type Flash = SimFlash;
    type Network = SimNetwork;
    type Timer = SimTimer;
    type Rng = StdRng;
    type Sha256 = Sha256;

    fn flash(&mut self) -> &mut SimFlash {
        &mut self.device.flash
    }

    fn network(&mut self) -> &mut SimNetwork {
        &mut self.device.network
    }

    fn timer(&self) -> SimTimer {
        self.timer.clone()
    }

    fn rng(&mut self) -> &mut StdRng {
        &mut self.device.random
    }

    fn crypto_provider(&self) -> Arc<CryptoProvider> {
        Arc::clone(&self.device.crypto)
    }

    fn facts(&self) -> BoardFacts {
        BoardFacts {
            target: target(self.device.bootloader.chip),
            updater_version: UPDATER_VERSION,
            // The vault's time floor, set when the device is provisioned, is later than any build.
            build_time_s: 0,
        }
    }

    fn can_start(&self, header: &ImageHeader, segments: &Segments) -> bool {
        (self.device.can_start)(header, segments)
    }

    fn retain_bits(&mut self, bits: u32) {
        self.device.retained_bits = bits;
    }

    fn free_heap_bytes(&self) -> Option<u32> {
        // The host's heap says nothing about a chip's.
        None
    }

    fn observe(&mut self, observed: Observed<'_>) {
        (self.device.observer)(observed);
        if let Observed::Acting { action, .. } = observed {
            self.device.reaches_action(action);
        }
    }
}
